"""`index` on every kind of input, `forget` and `relocate`, as typed."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rwkvsearch.indexer.library import Library

Run = Callable[..., Any]


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


def stats(run: Run) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(run("stats", "--json").out)
    return values


@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_paths_on_stdin(end: bytes, photos: Path, run: Run, stdin: Callable[[bytes], None]) -> None:
    paths = [photos / "0.png", photos / "1.png", photos / "gone.png"]
    stdin(end.join(os.fsencode(path) for path in paths) + end)
    outcome = run("index", "-")
    assert outcome.out.startswith("3 files: 2 embedded, 1 skipped; ")
    assert "gone.png: file not found" in outcome.err
    assert stats(run)["images"] == 2


def test_nothing_on_stdin(run: Run, stdin: Callable[[bytes], None]) -> None:
    stdin(b"\n")
    outcome = run("index", "-")
    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 1 and "Traceback" not in outcome.err


def test_a_caption_set(photos: Path, tmp_path: Path, run: Run) -> None:
    images = [
        {"imgid": n, "filename": f"{n}.png", "split": split, "sentences": [{"raw": f"number {n}"}]}
        for n, split in enumerate(["train", "val", "test"])
    ]
    captions = tmp_path / "dataset_own.json"
    captions.write_text(json.dumps({"images": images}))
    outcome = run("index", captions)
    assert outcome.out.startswith("3 files: 3 embedded, 3 texts embedded; ")
    assert stats(run)["captions"] == 3
    assert run("index", captions).out.startswith("3 files: 3 unchanged; ")


def test_a_shard_and_everything_again(photos: Path, tmp_path: Path, run: Run) -> None:
    shard = tmp_path / "some.tar"
    with tarfile.open(shard, "w") as archive:
        for n in range(3):
            archive.add(photos / f"{n}.png", f"key/{n}.png")
    assert run("index", shard).out.startswith("3 files: 3 embedded; ")
    assert run("index", photos).out.startswith("8 files: 5 embedded, 3 already known; ")
    assert run("index").out.startswith("11 files: 11 unchanged; ")
    hits = json.loads(run("query", "anything", "--json", "--k", 8).out)["hits"]
    found = {path for hit in hits for path in hit["paths"]}
    assert {str(shard / "key/0.png"), str(photos / "7.png")} <= found


def test_index_without_paths_needs_a_library(run: Run) -> None:
    outcome = run("index")
    assert outcome.code == 1 and "make one with `rwkvsearch index PATH`" in outcome.err


def test_exclude(photos: Path, run: Run) -> None:
    outcome = run("index", photos, "--exclude", "[0-4].png", "--exclude", "/7.*")
    assert outcome.out.startswith("2 files: 2 embedded; ")


def test_forget(indexed: Path, run: Run) -> None:
    assert run("forget", indexed / "0.png").out == "1 file forgotten\n"
    assert run("stats").out.splitlines()[1] == "images    7 different pictures in 7 files"
    outcome = run("forget", indexed / "0.png")
    assert outcome.code == 1 and "nothing there was indexed" in outcome.err
    assert run("forget").code == 2
    (indexed / "1.png").unlink()
    run("index", indexed)
    assert "gone      1 files, remembered" in run("stats").out
    assert run("forget", "--gone").out == "1 file forgotten\n"


def test_relocate(indexed: Path, tmp_path: Path, home: Path, run: Run) -> None:
    new = indexed.rename(tmp_path / "elsewhere")
    assert run("relocate", indexed, new).out == f"8 files now below {new}\n"
    assert run("index").out.startswith("8 files: 8 unchanged; ")
    with Library.open(home) as library:
        assert library.stats().roots == [new]
    outcome = run("relocate", tmp_path / "nowhere", new)
    assert outcome.code == 1 and len(outcome.err.splitlines()) == 1


def test_thumbnails_ahead(photos: Path, tmp_path: Path, home: Path, run: Run) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    outcome = run("index", photos, "--thumbnails")
    assert outcome.code == 0
    assert re.fullmatch(r"8 thumbnails made; [0-9.]+ s", outcome.out.splitlines()[-1])
    made = sorted((home / "thumbs").rglob("*.webp"))
    assert len(made) == 8 and stats(run)["bytes"] > sum(path.stat().st_size for path in made)
    shutil.copy(photos / "0.png", photos / "copy.png")
    made[0].unlink()
    assert "\n1 thumbnail made; " in run("index", "--thumbnails").out
    assert sorted((home / "thumbs").rglob("*.webp")) == made
