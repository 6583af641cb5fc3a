"""`rwkvsearch tune` as a person runs it."""

import json
from pathlib import Path

from rwkvsearch.indexer.ann.tune import Measured, Tuning
from rwkvsearch.ui.tune import tuning_as_table

from .conftest import Run


def test_eight_pictures(run: Run, indexed: Path) -> None:
    tuned = run("tune", "--queries", 5)
    assert tuned.code == 0
    assert "> SQfp16" in tuned.out
    assert "> exact, and fast enough below 20,000 pictures" in tuned.out
    assert tuned.err.splitlines()[:2] == ["measuring the exact answers", "measuring SQfp16"]
    assert run("index", indexed).code == 0
    assert run("query", "a dog", "--k", 3).code == 0


def test_json_and_kinds(run: Run, indexed: Path) -> None:
    tuned = run("tune", "--json", "--kinds", "SQ8", "--kinds", "IVF,SQ8", "--k", 3)
    assert tuned.code == 0
    found = json.loads(tuned.out)
    assert [row["faiss"] for row in found["kinds"]] == ["SQ8", "IVF2,SQ8"]
    assert found["chosen"] in ("SQ8", "IVF,SQ8")
    assert found["kinds"][0]["ann_recall_images"] == 1.0
    assert found["kinds"][0]["ann_recall_texts"] is None
    before = run("query", "--image", indexed / "3.png", "--paths", "--k", 1)
    assert before.out == f"{indexed / '3.png'}\n"


def test_mistakes_are_one_line(run: Run, indexed: Path, tmp_path: Path) -> None:
    wrong = run("tune", "--kinds", "PQ16")
    assert (wrong.code, len(wrong.err.splitlines())) == (1, 1)
    assert "'PQ16' is no kind of ann that rwkvsearch knows" in wrong.err
    few = run("tune", "--kinds", "IVF64,SQ8")
    assert few.code == 1
    assert few.err.endswith("rwkvsearch: IVF64,SQ8 needs at least 64 pictures, not 8\n")
    assert "no library at" in run("tune", "--library", tmp_path / "none").err
    other = run("tune", "--model", "other")
    assert (other.code, "not with other" in other.err) == (1, True)


def test_table() -> None:
    exact = Measured("SQfp16", "SQfp16", {}, 1.5, 1.0, 1.0, 12.0, 15.0, 1288)
    ivf = Measured("IVF,SQ8", "IVF4000,SQ8", {"nprobe": 8, "times": 1}, 90, 1, 0.998, 0.5, 1, 667)
    found = Tuning("starter", 1_000_000, 10, 200, 100, 0.99, [exact, ivf], "IVF,SQ8", "the fastest")
    lines = tuning_as_table(found).splitlines()
    assert lines[1].split() == "SQfp16 1.5 s 1.000 1.000 12.00 15.00 1288".split()
    assert lines[2].split() == "> IVF4000,SQ8 nprobe 8 90.0 s 1.000 0.998 0.50 1.00 667".split()
    assert lines[3] == "> the fastest; `rwkvsearch index` keeps to it"
    assert "1,000,000 pictures of starter, asked with 200 images and 100 texts" in lines[4]
