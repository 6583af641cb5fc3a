import json
from pathlib import Path

import pytest

from rwkvsearch.data.errors import DataError
from rwkvsearch.retrieval import published
from rwkvsearch.retrieval.templates import find_templates, template_sets


def test_every_set_is_whole() -> None:
    for name, one in template_sets().items():
        assert name == one.name and one.about
        assert len(set(one.sentences)) == len(one.sentences) >= 4
        assert all(sentence.count("{}") == 1 for sentence in one.sentences)
        assert one.metric in ({None} if name == "general" else {"top1", "mean_per_class"})


def test_there_is_one_for_each_published_set() -> None:
    (row,) = published.published_accuracy()
    assert {find_templates(name).name for name in row.top1} == set(template_sets()) - {"general"}
    assert len(row.top1) == 11


def test_the_file_says_what_it_is() -> None:
    file = Path(published.__file__).with_name("templates.json")
    assert "our own words" in json.loads(file.read_text("utf-8"))["note"]


def test_spelling_and_unknown_names() -> None:
    assert find_templates("CIFAR-10") is template_sets()["cifar10"]
    with pytest.raises(DataError, match="no set of templates is called 'voc'; there are general, "):
        find_templates("voc")
