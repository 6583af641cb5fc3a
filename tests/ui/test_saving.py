"""`--save` of `bench` and `tune`, as a person runs it."""

import json
import tarfile
from pathlib import Path

import pytest

from .conftest import Outcome, Run, make_picture


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """A Karpathy file of four pictures with two captions each."""
    images = []
    for n in range(4):
        make_picture(tmp_path / "set" / "images" / f"{n}.png", n)
        sentences = [{"raw": f"picture {n}"}, {"raw": f"another picture {n}"}]
        images.append({"filename": f"{n}.png", "split": "test", "sentences": sentences})
    file = tmp_path / "set" / "dataset_tiny.json"
    file.write_text(json.dumps({"dataset": "tiny", "images": images}))
    return file


def kept(home: Path, outcome: Outcome) -> tuple[str, dict[str, object]]:
    """The name and content of the one file, which is also named on stderr."""
    (path,) = (home / "benchmarks").iterdir()
    assert outcome.code == 0
    assert outcome.err.splitlines()[-1] == f"kept: {path}"
    return path.name, json.loads(path.read_text())


def test_recall(run: Run, indexed: Path, home: Path, captions: Path) -> None:
    plain = run("bench", "recall", "--data", captions, "--prefix", "a ", "--json")
    assert not (home / "benchmarks").exists()
    saved = run("bench", "recall", "--data", captions, "--prefix", "a ", "--json", "--save")
    assert saved.out == plain.out
    name, found = kept(home, saved)
    assert name.endswith("Z-recall-tiny-test.json")
    assert (found["format"], found["kind"]) == (1, "recall")
    assert found["results"] == json.loads(plain.out)
    assert isinstance(found["data"], dict) and isinstance(found["model"], dict)
    assert found["data"] == {
        **{"name": "tiny", "split": "test", "images": 4, "captions": 8, "classes": None},
        "fingerprint": found["data"]["fingerprint"],
    }
    settings = {"prefix": "a ", "ties": "pessimistic", "precision": "fp32", "device": "cpu"}
    assert found["settings"] == settings
    assert str(found["model"]["id"]).startswith("starter-")
    assert str(found["model"]["id"]).split("-")[1] == found["model"]["weights_sha256"][:8]


def test_classify(run: Run, indexed: Path, home: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "pets-test-000.tar", "w") as archive:
        for n, path in enumerate(sorted(indexed.iterdir())):
            (tmp_path / "label.txt").write_text(f"class {n % 6}")
            archive.add(path, f"{n}.png")
            archive.add(tmp_path / "label.txt", f"{n}.txt")
    asked = ("bench", "classify", "--data", tmp_path / "pets-test-*.tar", "--template", "one {}")
    saved = run(*asked, "--json", "--save", "--library", home)
    name, found = kept(home, saved)
    assert name.endswith("Z-classify-pets-test.json")
    assert found["results"] == json.loads(saved.out)
    assert isinstance(found["data"], dict) and isinstance(found["settings"], dict)
    assert (found["data"]["images"], found["data"]["classes"]) == (8, 6)
    assert found["settings"]["templates"] == ["one {}"]


def test_tune(run: Run, indexed: Path, home: Path) -> None:
    saved = run("tune", "--queries", 5, "--k", 3, "--save", "--json")
    name, found = kept(home, saved)
    assert name.endswith("Z-tune-home.json")
    assert found["results"] == json.loads(saved.out)
    assert isinstance(found["data"], dict) and isinstance(found["settings"], dict)
    assert (found["data"]["name"], found["data"]["images"]) == ("home", 8)
    assert (found["settings"]["k"], found["settings"]["target_recall"]) == (3, 0.99)
    assert run("tune", "--queries", 5, "--save").code == 0
    prints = {
        json.loads(path.read_text())["data"]["fingerprint"]
        for path in (home / "benchmarks").iterdir()
    }
    assert len(prints) == 1


def test_eval(run: Run, indexed: Path, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.tsv"
    file.write_text("red\t1.png\t2.png\nblue\t1.png\n")
    saved = run("eval", file, "-k", 2, "--json", "--save")
    name, found = kept(home, saved)
    assert name.endswith("Z-eval-mine.json")
    assert [found["results"]] == json.loads(saved.out)["models"]
    assert isinstance(found["data"], dict)
    assert (found["data"]["images"], found["settings"]) == (2, {"k": [2], "plain": False})


def test_what_cannot_be_kept_is_not_measured(
    run: Run, captions: Path, photos: Path, home: Path
) -> None:
    asked = ("bench", "recall", "--data", captions, "--save")
    none = run(*asked)
    assert (none.code, none.out) == (1, "")
    wanted = f"no library at {home} to keep a result; `rwkvsearch index` makes one"
    assert none.err == f"rwkvsearch: {wanted}\n"
    assert not home.exists()
    assert run("index", photos).code == 0
    (home / "benchmarks").write_text("in the way")
    blocked = run(*asked)
    assert (blocked.code, blocked.out, len(blocked.err.splitlines())) == (1, "", 1)
    assert f"cannot keep a result in {home / 'benchmarks'}: " in blocked.err
    tuned = run("tune", "--save")
    assert (tuned.code, tuned.out, len(tuned.err.splitlines())) == (1, "", 1)
