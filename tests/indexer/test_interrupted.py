"""Killed, interrupted, out of space: what was reported as done is there, the next run goes on."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.search import SearchIndex
from rwkvsearch.indexer.sync import SyncOptions, sync

HERE = Path(__file__).parent
PICTURES = 100

CHILD = f"""
import resource, sys, time
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
from conftest import FakeEncoder
from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import SyncOptions, sync

class Slow(FakeEncoder):
    def encode_pixels(self, pixels):
        time.sleep(float(sys.argv[3]))
        return super().encode_pixels(pixels)

if len(sys.argv) > 4:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
try:
    with Library.create(Path(sys.argv[2])) as library:
        sync(library, [Path(sys.argv[1])], Slow(), SyncOptions(batch_size=4, workers=2),
             progress=lambda event: print(event.embedded, flush=True))
except LibraryError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def many(tmp_path: Path, paint: Callable[[Path, int], Path]) -> Path:
    for seed in range(PICTURES):
        paint(tmp_path / "many" / f"{seed}.png", seed)
    return tmp_path / "many"


def start(many: Path, home: Path, *options: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, many, home, *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_at(process: subprocess.Popen[str], embedded: int, number: signal.Signals) -> int:
    """Signal the process once it has reported `embedded`; the last figure it reported."""
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= embedded:
            break
    process.send_signal(number)
    rest, _ = process.communicate(timeout=20)
    return max([embedded, *map(int, rest.split())])


def assert_complete(home: Path, many: Path, encoder: Any) -> None:
    """Every picture has its own embedding, and the ann holds them all."""
    with Library.open(home) as library:
        report = sync(library, [many], encoder)
        assert (report.scanned, report.errors) == (PICTURES, [])
        ids, embeddings = library.embeddings("fake", "fake-8")
        assert len(library.paths_of(ids.tolist())) == PICTURES
        index = SearchIndex.open(library, "fake", "fake-8")
        assert index._published is not None
        _, found = index.search(embeddings.astype(np.float32), 1)
        np.testing.assert_array_equal(found[:, 0], ids)


def test_sigkill_loses_nothing_that_was_reported(many: Path, tmp_path: Path, encoder: Any) -> None:
    home = tmp_path / "library"
    done = 0
    for step in (1, 21, 5):
        process = start(many, home, 0.02)
        reported = stop_at(process, step, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        with Library.open(home) as library:
            now = library.stats().images
        assert now >= done + reported
        done = now
    assert 0 < done < PICTURES
    assert_complete(home, many, encoder)
    assert encoder.encoded == PICTURES - done


def test_ctrl_c_stops_at_once_and_keeps_what_was_written(
    many: Path, tmp_path: Path, encoder: Any
) -> None:
    home = tmp_path / "library"
    process = start(many, home, 0.5)
    reported = stop_at(process, 8, signal.SIGINT)
    assert process.returncode in (-signal.SIGINT, 130)
    with Library.open(home) as library:
        images = library.stats().images
    assert reported <= images < PICTURES
    assert_complete(home, many, encoder)
    assert encoder.encoded == PICTURES - images


@pytest.mark.parametrize("limit", [200_000, 300_000])
def test_file_size_limit(limit: int, many: Path, tmp_path: Path, encoder: Any) -> None:
    home = tmp_path / "library"
    process = start(many, home, 0, limit)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "no space left to write; everything indexed so far is kept" in errors
    assert len(errors.splitlines()) == 1
    with Library.open(home) as library:
        library.stats()
    assert_complete(home, many, encoder)


def test_no_space_for_a_new_library(many: Path, tmp_path: Path, encoder: Any) -> None:
    home = tmp_path / "library"
    process = start(many, home, 0, 100_000)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1 and "no space left to write" in errors
    with pytest.raises(LibraryError, match="no library at"):
        Library.open(home)
    Library.create(home).close()
    assert_complete(home, many, encoder)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_full_database(
    many: Path, library: Library, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rwkvsearch.indexer import catalog

    def limited(connection: Any, record: Any) -> None:
        set_pragmas(connection, record)
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")

    set_pragmas = catalog._set_pragmas
    with library.read() as session:
        pages = session.execute(text("PRAGMA page_count")).scalar_one()
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "_set_pragmas", limited)
        with Library.open(library.place) as full:
            with pytest.raises(LibraryError, match="no space left to write") as caught:
                sync(full, [many], encoder, SyncOptions(batch_size=4))
            assert "\n" not in str(caught.value)
            images = full.stats().images
    assert 0 < images < PICTURES
    assert_complete(library.path, many, encoder)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_no_space_for_the_ann_file(
    many: Path, library: Library, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("rwkvsearch.indexer.ann.publish.os.fsync", refuse)
        with pytest.raises(LibraryError, match="cannot be written: No space left on device"):
            sync(library, [many], encoder)
    with Library.open(library.place) as readable:
        assert SearchIndex.open(readable, "fake", "fake-8").rows == PICTURES
    assert_complete(library.path, many, encoder)
    assert encoder.encoded == PICTURES


def test_searching_while_indexing(many: Path, tmp_path: Path, encoder: Any) -> None:
    """A reader sees whole batches only, and ever more of them."""
    home = tmp_path / "library"
    process = start(many, home, 0.05)
    assert process.stdout is not None
    while int(process.stdout.readline()) < 4:
        pass
    seen: list[int] = []
    while process.poll() is None:
        with Library.open(home) as library:
            ids, embeddings = library.embeddings("fake", "fake-8")
            index = SearchIndex.open(library, "fake", "fake-8")
            scores, _ = index.search(embeddings[-3:].astype(np.float32), 1)
            assert len(library.paths_of(ids.tolist())) == len(ids)
        assert scores.min() > 0.999
        seen.append(index.rows)
    process.communicate()
    assert process.returncode == 0
    assert seen == sorted(seen) and 0 < seen[0] < seen[-1]
    assert_complete(home, many, encoder)
