"""What a language model is told, what is kept of its answer, and what it can be taught."""

import json
from pathlib import Path

import pytest

from rwkvsearch.data.descriptions.instructions import export_instructions
from rwkvsearch.data.descriptions.prompts import (
    INSTRUCTION,
    Question,
    cleaned,
    grounding,
    prompt_id,
)
from rwkvsearch.data.descriptions.protocols import Failed
from rwkvsearch.data.descriptions.texts import Described, ImageSource, Tag, Text
from rwkvsearch.data.errors import DataError

QUESTION = Question(("My dog Rex",), "a dog on grass", (Tag("dog", 0.91), Tag("tree", 0.4, 2)))
ASKED = "RAW: My dog Rex\nCAPTION: a dog on grass\nTAGS: dog (0.91), 2 x tree (0.40)"


def test_question() -> None:
    assert QUESTION.as_text() == ASKED
    assert Question((), "", (Tag("dog", 0.5),)).as_text() == "TAGS: dog (0.50)"
    assert Question((), "", ()).as_text() == ""


def test_instruction_has_a_name() -> None:
    assert all(word in INSTRUCTION for word in ("RAW", "CAPTION", "TAGS"))
    assert len(prompt_id(INSTRUCTION)) == 16
    assert prompt_id(INSTRUCTION) != prompt_id(INSTRUCTION + " ")


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("A dog.", "A dog."),
        (' "A dog\n on grass." ', "A dog on grass."),
        ("Description: **A dog.**", "A dog."),
        ("<think>hmm\nhmm</think>\n\nA dog.", "A dog."),
        ("", Failed("the answer is empty")),
        ('""', Failed("the answer is empty")),
        ("<think>and on and on", Failed("the answer is no single sentence")),
        ("word " * 200, Failed("the answer is no single sentence")),
    ],
)
def test_cleaned(answer: str, kept: str | Failed) -> None:
    assert cleaned(answer) == kept


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ("A dog sits on the grass under trees.", 1.0),
        ("An animal rests.", 1.0),
        ("A puppy and a cat.", 0.0),
        ("A dog and a cat.", 0.5),
        ("Rex is very happy.", None),
    ],
)
def test_grounding(answer: str, share: float | None) -> None:
    assert grounding(answer, QUESTION) == share


def described(provider: str = "endpoint") -> Described:
    sayings = (
        Text("raw", "My dog Rex", "set"),
        Text("synthetic", "a dog on grass", "transformers", "blip"),
        Text("generated", "Rex, a d\u00f6g, on grass.", provider, "llm"),
    )
    return Described("a.jpg", ImageSource(Path("a.jpg")), "0", sayings, QUESTION.tags)


def test_alpaca(tmp_path: Path) -> None:
    file = tmp_path / "out" / "fuse.json"
    assert export_instructions([described()], file, "alpaca") == 1
    assert json.loads(file.read_text()) == [
        {"instruction": INSTRUCTION, "input": ASKED, "output": "Rex, a d\u00f6g, on grass."}
    ]
    info = json.loads((tmp_path / "out/dataset_info.json").read_text())
    columns = {"prompt": "instruction", "query": "input", "response": "output"}
    assert info == {"fuse": {"file_name": "fuse.json", "formatting": "alpaca", "columns": columns}}


def test_sharegpt_beside_other_sets(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text('{"theirs": {"file_name": "x.json"}}')
    file = tmp_path / "fuse.json"
    assert export_instructions([described(), described()], file, "sharegpt") == 2
    (row, _) = json.loads(file.read_text())
    turns = [{"from": "human", "value": ASKED}]
    turns += [{"from": "gpt", "value": "Rex, a d\u00f6g, on grass."}]
    assert row == {"system": INSTRUCTION, "conversations": turns}
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert info["theirs"] == {"file_name": "x.json"}
    assert info["fuse"] == {
        "file_name": "fuse.json",
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system"},
    }


def test_exports_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no answer of a language model to export"):
        export_instructions([described("offline")], tmp_path / "fuse.json", "alpaca")
    (tmp_path / "dataset_info.json").write_text("[1]")
    with pytest.raises(DataError, match="dataset_info.json: not an object"):
        export_instructions([described()], tmp_path / "fuse.json", "alpaca")
    (tmp_path / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="dataset_info.json: not JSON"):
        export_instructions([described()], tmp_path / "fuse.json", "alpaca")
    with pytest.raises(DataError, match="cannot be written"):
        export_instructions([described()], tmp_path / "dataset_info.json/below/fuse.json", "alpaca")
    assert [path.name for path in tmp_path.iterdir()] == ["dataset_info.json"]
