"""Decoding, encoding and writing at the same time: what overlaps, what waits, what stops."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer import pipeline
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.prepare import Preparation, Prepared
from rwkvsearch.indexer.sync import SyncOptions, sync

Paint = Callable[[Path, int], Path]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert {thread for thread in threading.enumerate() if thread not in before} == set()


@pytest.fixture
def many(tmp_path: Path, paint: Paint) -> Path:
    for seed in range(60):
        paint(tmp_path / "many" / f"{seed:02}.png", seed)
    return tmp_path / "many"


def test_a_batch_is_encoded_while_another_is_written(
    many: Path, library: Library, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for the other to begin: one after the other, they would wait for ever."""
    encoding, writing = threading.Event(), threading.Event()
    encode, write = encoder.encode_pixels, pipeline.store_batch

    def encode_when_writing(pixels: Any) -> Any:
        if encoder.encoded:
            assert writing.wait(20)
            encoding.set()
        return encode(pixels)

    def write_when_encoding(*arguments: Any) -> None:
        writing.set()
        assert encoding.wait(20)
        write(*arguments)

    monkeypatch.setattr(encoder, "encode_pixels", encode_when_writing)
    monkeypatch.setattr(pipeline, "store_batch", write_when_encoding)
    assert sync(library, [many], encoder, SyncOptions(batch_size=16)).added == 60


def test_pictures_are_decoded_while_a_batch_is_encoded(
    many: Path, library: Library, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = [0]
    seen = []
    prepare, encode = Preparation.__call__, encoder.encode_pixels

    def counted(self: Preparation, found: Any) -> Prepared:
        prepared = prepare(self, found)
        decoded[0] += 1
        return prepared

    def slow(pixels: Any) -> Any:
        before = decoded[0]
        time.sleep(0.3)
        seen.append((encoder.encoded, before, decoded[0]))
        return encode(pixels)

    monkeypatch.setattr(Preparation, "__call__", counted)
    monkeypatch.setattr(encoder, "encode_pixels", slow)
    sync(library, [many], encoder, SyncOptions(batch_size=10, workers=2))
    encoded, _, after = seen[0]
    assert encoded == 0
    assert after >= 25  # the batch itself, and two more on the way but for the last few
    assert all(done <= start + 30 for start, _, done in seen)  # and never more than that


def test_same_content_in_two_batches_is_encoded_once(
    tmp_path: Path, paint: Paint, library: Library, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(24):
        paint(tmp_path / "copies" / f"{number:02}.png", number % 3)
    write = pipeline.store_batch

    def late(*arguments: Any) -> None:
        time.sleep(0.1)  # the next batch is compared with the library before this one is there
        write(*arguments)

    monkeypatch.setattr(pipeline, "store_batch", late)
    report = sync(library, [tmp_path / "copies"], encoder, SyncOptions(batch_size=4))
    assert (report.added, report.reused, encoder.encoded) == (3, 21, 3)


def test_error_of_the_writer_stops_the_run(
    many: Path, library: Library, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = pipeline.store_batch, []

    def third_fails(session: Any, model: Any, batch: Any, embeddings: Any) -> None:
        if len(written) == 2:
            raise LibraryError("no space")
        write(session, model, batch, embeddings)
        written.append(len(batch))

    reported = []
    monkeypatch.setattr(pipeline, "store_batch", third_fails)
    with pytest.raises(LibraryError, match="no space"):
        options = SyncOptions(batch_size=4)
        sync(library, [many], encoder, options, progress=lambda event: reported.append(event.done))
    assert library.stats().files == sum(written) == 8
    assert max(reported) <= 8
    assert encoder.encoded <= 20


def test_progress_counts_only_what_is_committed(many: Path, library: Library, encoder: Any) -> None:
    def check(event: Any) -> None:
        if event.stage == "embed":
            assert library.stats().files >= event.done

    sync(library, [many], encoder, SyncOptions(batch_size=8), progress=check)


@pytest.mark.parametrize("where", ["progress", "encode"])
def test_interrupted_in_any_stage(
    where: str, many: Path, library: Library, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    def progress(event: Any) -> None:
        if event.done and where == "progress":
            stop()

    if where == "encode":
        encode = encoder.encode_pixels
        monkeypatch.setattr(
            encoder, "encode_pixels", lambda p: stop() if encoder.encoded > 15 else encode(p)
        )
    with pytest.raises(KeyboardInterrupt):
        sync(library, [many], encoder, SyncOptions(batch_size=8), progress=progress)
    done = library.stats()
    assert 0 < done.files == done.images < 60
    with library.writer():
        pass
    monkeypatch.undo()
    assert sync(library, [many], encoder).added == 60 - done.images


def test_closed_early(many: Path, library: Library, encoder: Any) -> None:
    from rwkvsearch.indexer.clock import Clock
    from rwkvsearch.indexer.estimate import spread
    from rwkvsearch.indexer.sync import pipeline_of

    assert spread([], 5) == []
    model = _model(library, encoder)
    with closing(pipeline_of(library, model, encoder, SyncOptions(), Clock()).run([])) as run:
        assert list(run) == []


def test_batches_are_cut_by_the_memory_of_their_pixels(
    many: Path, library: Library, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    encode = encoder.encode_pixels
    monkeypatch.setattr(pipeline, "_MOST_PIXELS", 7 * 4 * 3 * 8 * 8 + 1)
    monkeypatch.setattr(encoder, "encode_pixels", lambda p: sizes.append(len(p)) or encode(p))
    sync(library, [many], encoder, SyncOptions(batch_size=1000))
    assert max(sizes) == 7
    assert sum(sizes) == 60


def test_embeddings_do_not_depend_on_the_threads(
    many: Path, tmp_path: Path, other_encoder: Callable[..., Any]
) -> None:
    found = []
    for workers in (1, 4):
        with Library.create(tmp_path / str(workers)) as library:
            sync(library, [many], other_encoder(), SyncOptions(batch_size=7, workers=workers))
            ids, embeddings = library.embeddings("fake", "fake-8")
            found.append((ids, embeddings, library.paths_of(ids.tolist())))
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert found[0][2] == found[1][2]


def _model(library: Library, encoder: Any) -> Any:
    from rwkvsearch.indexer.entries import enter_model

    with library.write() as session:
        return enter_model(session, encoder)
