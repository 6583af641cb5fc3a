"""Our own tagger, a command of the user's, and the choice between them."""

import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rwkvsearch.data.descriptions.protocols import Failed
from rwkvsearch.data.descriptions.texts import Tag
from rwkvsearch.data.descriptions.vocabulary import Word, everyday_words
from rwkvsearch.data.errors import ModelError
from rwkvsearch.data.images import read_image
from rwkvsearch.retrieval.describing.choose import make_tagger
from rwkvsearch.retrieval.describing.command import CommandTagger
from rwkvsearch.retrieval.describing.zero_shot import ZeroShotTagger
from rwkvsearch.retrieval.encoder import Encoder

RED = Image.new("RGB", (40, 30), "red")
WORDS = {
    name: Word(name, parent=parent)
    for name, parent in [("animal", ""), ("dog", "animal"), ("cat", "animal"), ("car", "")]
}


def test_confidence_is_the_share_of_a_softmax(encoder: Encoder) -> None:
    words = {name: Word(name) for name in ("dog", "cat", "car")}
    tagger = ZeroShotTagger(encoder, words)
    (tags,) = tagger.tag([RED])
    texts = encoder.encode_texts([f"a photo of a {name}" for name in words])
    scores = np.exp(encoder.scale * (encoder.encode_images([RED]) @ texts.T)[0].astype(float))
    shares = scores / scores.sum()
    chance = 1 / 3
    expected = {n: (s - chance) / (1 - chance) for n, s in zip(words, shares, strict=True)}
    assert isinstance(tags, tuple)
    assert [tag.confidence for tag in tags] == sorted((t.confidence for t in tags), reverse=True)
    for tag in tags:
        assert tag.confidence == pytest.approx(expected[tag.name], abs=2e-3)


def test_a_broader_word_has_all_its_kinds(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwkvsearch.retrieval.describing.zero_shot.LEAST_CONFIDENCE", -9.0)
    (tags,) = ZeroShotTagger(encoder, WORDS).tag([RED])
    assert isinstance(tags, tuple)
    by_name = {tag.name: tag.confidence for tag in tags}
    # Undo what is taken off for chance: 3 of 4 words are animals.
    animal = by_name["animal"] * (1 - 0.75) + 0.75
    car = by_name["car"] * (1 - 0.25) + 0.25
    assert animal + car == pytest.approx(1, abs=2e-3)


def test_the_id_tells_vocabularies_apart(encoder: Encoder) -> None:
    first = ZeroShotTagger(encoder, WORDS)
    assert first.model_id.startswith(encoder.model_id)
    assert first.model_id != ZeroShotTagger(encoder, {"dog": Word("dog")}).model_id


def test_the_shipped_model_on_sample_photographs() -> None:
    photos = Path(__file__).parents[3] / "data/samples/photos"
    names = ["moose.jpg", "otters.jpg", "panda.jpg"]
    tagger = make_tagger("own", everyday_words())
    assert tagger is not None
    for tags in tagger.tag([read_image(photos / name) for name in names]):
        assert isinstance(tags, tuple)
        assert "animal" in [tag.name for tag in tags[:3]]


@pytest.fixture
def command(tmp_path: Path) -> Path:
    path = tmp_path / "my tagger"
    path.write_text(
        "#!/bin/sh\n"
        'test -s "$2" || exit 9\n'
        'case "$1" in\n'
        "  good) printf 'grass\\t0.4\\n  a  dog\\t0.9\\n\\nsky\\n' ;;\n"
        "  bad) echo 'no such picture' >&2; exit 3 ;;\n"
        "  odd) printf 'dog\\tvery\\n' ;;\n"
        "esac\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_command(command: Path) -> None:
    expected = (Tag("sky", 1.0), Tag("a dog", 0.9), Tag("grass", 0.4))
    assert CommandTagger(f"'{command}' good").tag([RED, RED]) == [expected, expected]
    assert CommandTagger(f"'{command}' none").tag([RED]) == [()]


def test_command_that_fails(command: Path) -> None:
    (failed,) = CommandTagger(f"'{command}' bad").tag([RED])
    assert failed == Failed(f"{command} ended with 3: no such picture")
    (failed,) = CommandTagger(f"'{command}' odd").tag([RED])
    assert failed == Failed(f"{command} printed a confidence of 'very'")


def test_command_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwkvsearch.retrieval.describing.command.LONGEST", 0.1)
    assert CommandTagger("sh -c 'sleep 5'").tag([RED]) == [Failed("sh took more than 0 s")]


def test_commands_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="names no command"):
        CommandTagger(" ")
    with pytest.raises(ModelError, match="No closing quotation"):
        CommandTagger("a 'b")
    with pytest.raises(ModelError, match="absent: cannot be run: No such file"):
        CommandTagger(str(tmp_path / "absent")).tag([RED])


def test_choice(command: Path) -> None:
    assert make_tagger("none", WORDS) is None
    assert make_tagger(f"command:'{command}' good", WORDS) is not None
    for wrong in ("", "owl", "detector:", "detector"):
        with pytest.raises(ModelError, match="there are own, none, classifier:MODEL"):
            make_tagger(wrong, WORDS)
