"""`classify` and `tag` as a user meets them."""

import csv
import io
import json
import os
from pathlib import Path

import pytest

from rwkvsearch.indexer.library import Library

from .conftest import Run, make_picture


def test_classify_in_every_form(photos: Path, run: Run) -> None:
    asked = ["classify", photos, "--labels", "a dog,a cat,a red car", "-k", 2]
    outcome = run(*asked, "--json")
    answer = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert answer["model"].startswith("starter-") and answer["skipped"] == []
    pictures = answer["pictures"]
    assert [row["path"] for row in pictures] == [str(photos / f"{n}.png") for n in range(8)]
    for row in pictures:
        sure = [label["confidence"] for label in row["labels"]]
        assert 1 <= len(sure) <= 2 and sure == sorted(sure, reverse=True) and 0 <= sure[-1] <= 1
        assert {label["label"] for label in row["labels"]} <= {"a dog", "a cat", "a red car"}
    lines = run(*asked, "--jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == pictures
    table = list(csv.DictReader(io.StringIO(run(*asked, "--csv").out)))
    assert [(r["path"], int(r["rank"]), r["label"], float(r["confidence"])) for r in table] == [
        (row["path"], rank, label["label"], label["confidence"])
        for row in pictures
        for rank, label in enumerate(row["labels"], start=1)
    ]
    text = run(*asked).out.splitlines()
    assert text == [
        f"{row['path']}: "
        + ", ".join(f"{label['label']} {label['confidence']:.2f}" for label in row["labels"])
        for row in pictures
    ]


def test_names_with_line_ends_stay_in_their_row(tmp_path: Path, run: Run) -> None:
    names = ['line\nfeed, "quoted".png', "carriage\rreturn.png", os.fsdecode(b"bad\xff.png")]
    made = [make_picture(tmp_path / "odd" / name, 1) for name in names]
    said = run("classify", *made, "--labels", "a,b", "-k", 1, "--csv").out
    rows = list(csv.reader(io.StringIO(said, newline="")))
    assert [row[0] for row in rows] == ["path", *(os.fsdecode(path) for path in made)]


def test_classify_with_everyday_words_and_a_threshold(photos: Path, run: Run) -> None:
    sure = json.loads(run("classify", photos / "1.png", "--json").out)["pictures"][0]["labels"]
    assert 1 <= len(sure) <= 3
    outcome = run("classify", photos / "1.png", "--min-confidence", 1)
    assert (outcome.code, outcome.out) == (0, f"{photos / '1.png'}: -\n")


def test_classify_by_a_file_and_templates(photos: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "labels.txt").write_text("dog\n# no\ncat\n")
    file = run("classify", photos, "--labels", tmp_path / "labels.txt", "--jsonl")
    assert file.out == run("classify", photos, "--labels", "dog,cat", "--jsonl").out
    other = run("classify", photos, "--labels", "dog,cat", "--template", "{} {}")
    assert other.code == 2
    drawn = run("classify", photos, "--labels", "dog,cat", "--template", "art of {}", "--jsonl")
    assert drawn.code == 0 and drawn.out != file.out


def test_bad_pictures_are_a_line_each(photos: Path, run: Run) -> None:
    (photos / "bad.png").write_text("no picture")
    outcome = run("classify", photos, "--labels", "a,b")
    assert outcome.code == 0 and len(outcome.out.splitlines()) == 8
    assert outcome.err == f"skipped {photos / 'bad.png'}: not an image\n"
    named = run("classify", photos / "bad.png", photos / "0.png", "--labels", "a,b", "--json")
    assert named.code == 1
    answer = json.loads(named.out)
    assert [row["path"] for row in answer["pictures"]] == [str(photos / "0.png")]
    assert answer["skipped"] == [{"path": str(photos / "bad.png"), "reason": "not an image"}]
    absent = run("classify", photos / "absent", "--labels", "a,b")
    assert (absent.code, absent.out) == (1, "")
    assert absent.err == f"skipped {photos / 'absent'}: file not found\n"


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["--labels", "dog"], "two labels or more", 1),
        (["--labels", "no/such.txt"], "no/such.txt: cannot be read", 1),
        (["--labels", " , "], "no label", 1),
        (["--model", "absent"], "absent", 1),
        (["--csv", "--json"], "one of --json", 2),
        (["--template", "a dog"], "holds {} once", 2),
    ],
)
def test_classify_refuses(
    arguments: list[str], said: str, code: int, photos: Path, run: Run
) -> None:
    outcome = run("classify", photos, *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert said in outcome.err


def test_classify_finds_no_picture(tmp_path: Path, run: Run) -> None:
    (tmp_path / "empty").mkdir()
    outcome = run("classify", tmp_path / "empty", "--labels", "a,b")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == f"rwkvsearch: {tmp_path / 'empty'}: no picture there\n"


def test_tag_then_again_then_more(indexed: Path, home: Path, run: Run) -> None:
    asked = ["tag", "--min-confidence", "0.001"]
    first = run(*asked, "--json")
    assert (first.code, first.err) == (0, "")
    done = json.loads(first.out)
    assert done["images"] == 8 and done["tags"] >= done["with_tags"] > 0
    assert json.loads(run("stats", "--json").out)["tags"] == done["tags"]
    assert f"tags      {done['tags']:,} given" in run("stats").out
    again = run(*asked)
    assert again.out == "8 images: nothing to do; --all tags them anew\n"
    listed = json.loads(run("tag", "--list", "--json").out)["tags"]
    assert sum(row["images"] for row in listed) == done["tags"]
    lines = run("tag", "--list").out.splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        [str(row["images"]), row["label"]] for row in listed
    ]
    make_picture(indexed / "new.png", 99)
    assert run("index").code == 0
    assert run(*asked).out.startswith("1 image: ")
    assert run(*asked, "--all").out.startswith("9 images: ")
    assert json.loads(run("tag", "--list", "--json").out)["tags"] != []
    with Library.open(home) as library:
        assert all(0.001 <= c <= 1 for c in confidences(library))


def confidences(library: Library) -> list[float]:
    from sqlalchemy import select

    from rwkvsearch.indexer.tables import TagRow

    with library.read() as session:
        return list(session.scalars(select(TagRow.confidence)))


def test_tag_by_labels_of_ones_own_replaces(indexed: Path, run: Run) -> None:
    run("tag", "--min-confidence", 0)
    many = json.loads(run("tag", "--list", "--json").out)["tags"]
    assert {"a blue mug"} & {row["label"] for row in many} == set()
    assert run("tag", "--labels", "a blue mug,dog", "--min-confidence", 0).code == 0
    own = {row["label"] for row in json.loads(run("tag", "--list", "--json").out)["tags"]}
    assert own <= {"a blue mug", "dog"} and own
    assert run("tag", "--labels", "dog", "--min-confidence", 1).out.startswith("8 images: 0 tags")
    assert run("tag", "--list").out == "no tags: `rwkvsearch tag` gives some\n"


def test_nothing_new_needs_no_model(
    indexed: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither weights nor torch."""
    run("tag")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("rwkvsearch.retrieval.encoder.Encoder.load", refuse)
    assert run("tag").out == "8 images: nothing to do; --all tags them anew\n"
    assert run("tag", "--list").code == 0


def test_tags_go_with_their_pictures(indexed: Path, run: Run) -> None:
    run("tag", "--labels", "dog", "--min-confidence", 0)
    assert "ok" in run("doctor", "--full").out and run("doctor", "--full").code == 0
    assert run("forget", indexed).code == 0
    assert run("tag", "--list").out == "no tags: `rwkvsearch tag` gives some\n"
    assert run("doctor", "--full").code == 0


def test_tag_without_a_library_or_with_another_model(
    indexed: Path, tmp_path: Path, run: Run
) -> None:
    outcome = run("tag", "--library", tmp_path / "absent")
    assert (outcome.code, outcome.out) == (1, "") and "no library" in outcome.err
    outcome = run("tag", "--precision", "bf16")
    assert (outcome.code, outcome.out) == (1, "")
    assert "was indexed with starter-" in outcome.err and "bf16" in outcome.err
