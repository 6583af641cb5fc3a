"""`rwkvsearch doctor` and `dupes` as a person runs them."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from .conftest import Run, make_picture
from .test_cli import damage, open_folder, unprivileged

__all__ = ["open_folder", "unprivileged"]


def test_clean(indexed: Path, home: Path, run: Run) -> None:
    outcome = run("doctor", "--full", "--embed", 3)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[-1] == f"{home}: clean"
    assert "8 images in 8 files, 8 embeddings, 8 rows of ann" in outcome.out
    assert "3 pictures embedded again came out the same" in outcome.out
    found = json.loads(run("doctor", "--json").out)
    assert found["clean"] and (found["images"], found["files"], found["errors"]) == (8, 8, 0)
    assert {check["state"] for check in found["checks"]} == {"ok"}


def test_a_fault_is_shown_and_put_right(indexed: Path, home: Path, run: Run) -> None:
    with closing(sqlite3.connect(home / "library.sqlite")) as connection:
        connection.execute("UPDATE embeddings SET data = zeroblob(length(data)) WHERE id = 2")
        connection.commit()
    outcome = run("doctor")
    assert outcome.code == 1
    assert "fault  embeddings  1 embedding of starter" in outcome.out
    assert "--fix: dropped; the next `index` makes them anew" in outcome.out
    assert "fixed" not in outcome.out
    assert not json.loads(run("doctor", "--json").out)["clean"]
    mended = run("doctor", "--fix")
    assert mended.code == 0 and "fixed  1 embedding of starter" in mended.out
    assert run("doctor").code == 0
    assert run("index").out.startswith("8 files: 1 embedded, 7 unchanged")


def test_damaged_weights(
    indexed: Path, weights: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "weights"
    damage(weights, broken, "bit flip")
    monkeypatch.setattr("rwkvsearch.retrieval.models._SHIPPED", broken)
    outcome = run("doctor", "--fix")
    assert outcome.code == 1
    assert "damaged weights" in outcome.out
    shutil.rmtree(broken)
    outcome = run("doctor")
    assert outcome.code == 0 and "not installed here" in outcome.out


def test_a_library_that_cannot_be_written(
    photos: Path,
    open_folder: Path,
    unprivileged: Callable[[bool], None],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = open_folder / "library"
    assert run("index", photos, "--library", home).code == 0
    (home / "ann" / "building-1.tmp").write_bytes(b"left")
    for path in home.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    # What may be written is asked for the real user, whom a test cannot change and change back.
    monkeypatch.setattr(os, "access", partial(os.access, effective_ids=True))
    unprivileged(True)
    outcome = run("doctor", "--fix", "--library", home)
    unprivileged(False)
    assert outcome.code == 1
    assert "fault  leftovers" in outcome.out
    assert "nothing can be put right: cannot write to" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_dupes(indexed: Path, run: Run) -> None:
    assert run("dupes").out == "no duplicates among 8 files\n"
    shutil.copy(indexed / "3.png", indexed / "again.png")
    make_picture(indexed / "sub" / "other.png", 50)
    assert run("index", indexed).code == 0
    outcome = run("dupes")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith("first") and lines[0].endswith(str(indexed / "3.png"))
    assert lines[1].startswith("same bytes") and lines[1].endswith(str(indexed / "again.png"))
    found = json.loads(run("dupes", "--json").out)
    assert (found["files"], found["images"]) == (10, 9)
    assert [group["kind"] for group in found["groups"]] == ["exact"]
    assert found["groups"][0]["spare_bytes"] == (indexed / "again.png").stat().st_size
    assert json.loads(run("dupes", "--json", "--under", indexed / "sub").out)["groups"] == []


def test_dupes_says_that_it_deletes_nothing(run: Run) -> None:
    assert "Nothing is deleted or changed" in run("dupes", "--help").out
