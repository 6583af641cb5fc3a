"""`rwkvsearch eval` against ranks counted by hand."""

import json
from pathlib import Path

import pytest

from rwkvsearch.data.errors import DataError
from rwkvsearch.retrieval.query import Hit
from rwkvsearch.retrieval.questions import Answer, Question, read_questions, summarise

from .conftest import Run


def order(run: Run, text: str) -> list[str]:
    """All eight pictures in the order of a query."""
    out = run("query", text, "-k", 8, "--paths").out
    return [Path(line).name for line in out.splitlines()]


def test_read(tmp_path: Path) -> None:
    file = tmp_path / "q.tsv"
    file.write_text("# a comment\na dog\tx/1.png\t 2.png \n\n  cat\t/3.png\t\na bear\n")
    assert read_questions(file) == [
        Question("a dog", 2, ("x/1.png", "2.png")),
        Question("cat", 4, ("/3.png",)),
        Question("a bear", 5),
    ]
    for text, reason in [
        ("", "no line names an expected path"),
        ("a dog 1.png\n", "write query TAB path"),
        ("a\t1.png\n\t2.png\n", "line 2: a path without a query"),
    ]:
        file.write_text(text)
        with pytest.raises(DataError, match=reason):
            read_questions(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_questions(tmp_path)


def test_figures_by_hand() -> None:
    hit = Hit(1, 1, (Path("x"),), 0.5)
    ranks = [1, 2, 7, None]
    answers = [Answer(Question("q", n, ("p",)), rank, hit) for n, rank in enumerate(ranks)]
    sure = Hit(1, 1, (Path("x"),), 0.5, confidence=0.9)
    answers += [Answer(Question("n", 9), None, hit), Answer(Question("m", 10), None, sure)]
    found = summarise(answers, (1, 5, 10))
    assert found.recall == {1: 25, 5: 50, 10: 75}
    assert found.mrr == pytest.approx((1 + 1 / 2 + 1 / 7) / 4)
    assert (found.median_rank, found.queries, found.absent, found.silent) == (4.5, 4, 2, 1)
    assert summarise(answers[3:], (1,)).median_rank is None


def test_ranks(indexed: Path, run: Run, tmp_path: Path) -> None:
    red, blue = order(run, "red"), order(run, "blue - red")
    file = tmp_path / "elsewhere" / "q.tsv"
    file.parent.mkdir()
    file.write_text(
        f"red\t{indexed / red[2]}\n"  # absolute
        f"blue - red\t{blue[5]}\t{blue[1]}\n"  # below an indexed folder; the better counts
        f"red\t../photos/{red[0]}\n"  # beside the file
        f"{indexed / red[4]}\t{red[4]}\n"  # a picture finds itself
    )
    found = json.loads(run("eval", file, "--json", "--verbose").out)["models"][0]
    assert [asked["rank"] for asked in found["asked"]] == [3, 2, 1, 1]
    assert [Path(asked["best"]).name for asked in found["asked"]][:2] == [red[0], blue[0]]
    assert found["recall"] == {"recall@1": 50, "recall@5": 100, "recall@10": 100}
    assert found["mrr"] == pytest.approx((1 / 3 + 1 / 2 + 1 + 1) / 4, abs=1e-4)
    assert (found["median_rank"], found["queries"]) == (1.5, 4)
    one = json.loads(run("eval", file, "--json", "-k", 2).out)["models"][0]
    assert one["recall"] == {"recall@2": 75} and one["mrr"] == found["mrr"]
    table = run("eval", file)
    assert table.code == 0 and table.err == ""
    assert table.out.splitlines()[0].split()[:4] == ["model", "queries", "recall@1", "recall@5"]
    assert table.out.splitlines()[1].split()[1:] == ["4", "50.0", "100.0", "100.0", "0.708", "1.5"]


def test_a_picture_asked_with_lies_beside_the_file(
    indexed: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (indexed.parent / "q.tsv").write_text("./photos/5.png\t5.png\n")
    monkeypatch.chdir("/")
    found = json.loads(run("eval", tmp_path / "q.tsv", "--json").out)["models"][0]
    assert found["recall"]["recall@1"] == 100
    text = run("query", "--plain", "./photos/5.png", "-k", 8, "--paths").out.splitlines()
    plain = json.loads(run("eval", tmp_path / "q.tsv", "--json", "--plain", "-v").out)
    rank = [Path(line).name for line in text].index("5.png") + 1
    assert plain["models"][0]["asked"][0]["rank"] == rank


def test_what_is_not_in_the_library(indexed: Path, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "q.tsv"
    file.write_text("red\t0.png\tlost.png\nblue\tgone.png\tlost.png\n")
    outcome = run("eval", file, "--json")
    assert outcome.code == 0 and json.loads(outcome.out)["models"][0]["queries"] == 1
    assert outcome.err.splitlines() == [
        "rwkvsearch: not in the library: lost.png",
        "rwkvsearch: not in the library: gone.png",
        "rwkvsearch: 2 expected paths not in the library; 1 of 2 queries left out",
    ]
    file.write_text("red\tlost.png\n")
    outcome = run("eval", file)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.splitlines()[-1].startswith(f"rwkvsearch: {file}: none of the expected")


def test_models_are_compared(indexed: Path, run: Run, tmp_path: Path) -> None:
    assert run("index", indexed / "0.png", indexed / "1.png", "--precision", "bf16").code == 0
    file = tmp_path / "q.tsv"
    file.write_text(f"red\t{order(run, 'red')[0]}\nblue\t7.png\nnothing\n")
    outcome = run("eval", file, "--models", "starter, starter:bf16")
    assert outcome.code == 0
    head, exact, half = outcome.out.splitlines()
    assert head.split()[-1] == "silent" and exact.split()[-1] in ("0/1", "1/1")
    assert exact.split()[0].endswith("-fp32") and half.split()[0].endswith("-bf16")
    assert "expected picture" in outcome.err and "-bf16 has not embedded" in outcome.err
    for models, code in (("starter:half", 2), (",", 2), ("starter:int8", 1), ("nobody", 1)):
        assert run("eval", file, "--models", models).code == code


def test_far_down(indexed: Path, run: Run, tmp_path: Path) -> None:
    last = order(run, "red")[7]
    (tmp_path / "q.tsv").write_text(f"red\t{last}\n")
    found = json.loads(run("eval", tmp_path / "q.tsv", "--json", "-k", 2).out)["models"][0]
    assert (found["recall"], found["median_rank"]) == ({"recall@2": 0}, 8)
