"""Read, decode, encode and write, all at the same time.

    decoding threads          calling thread         writing thread
    read, hash, decode,  ->   encode a batch    ->   one transaction
    preprocess                                       a batch

The decoding threads are up to two batches ahead, the writing thread one behind. Batches keep the
order of the files, so that the same files make the same library.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice

from rwkvsearch.indexer.clock import Clock
from rwkvsearch.indexer.encode import encode
from rwkvsearch.indexer.entries import KnownContent, known_contents
from rwkvsearch.indexer.found import Found
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.prepare import Limits, Preparation, Prepared
from rwkvsearch.indexer.protocols import ImageEncoder
from rwkvsearch.indexer.room import Room, default_room
from rwkvsearch.indexer.store import store_batch

_MOST_PIXELS = 64 << 20
"""Bytes of preprocessed pixels in one batch, whatever its size in pictures."""


@dataclass(frozen=True)
class Stored:
    """A batch that is in the library for good; `embedded` of its files had a new content."""

    batch: list[Prepared]
    embedded: int


@dataclass(frozen=True)
class Pipeline:
    """How the files of a library become embeddings of a model; `workers` threads decode."""

    library: Library
    model: ModelInfo
    encoder: ImageEncoder
    clock: Clock
    limits: Limits
    workers: int
    batch_size: int

    def run(self, pending: Iterable[Found]) -> Generator[Stored, None, None]:
        """Yield each batch once it is committed; close it to stop, with nothing half-written.

        No thread outlives the generator; what waits for one by then is dropped.

        Raises:
            LibraryError: the library cannot be written.
            ModelError: the encoder fails.
        """
        writing: deque[tuple[Future[Stored], frozenset[str]]] = deque()
        with (
            self.clock.time("pipeline"),
            _threads(1, "write") as writer,
            closing(self._prepared(pending)) as prepared,
        ):
            for batch in self._batches(prepared):
                on_the_way = frozenset().union(*(keys for _, keys in writing))
                checked, embeddings = self._encode(batch, on_the_way)
                job = writer.submit(self._write, checked, embeddings)
                writing.append((job, frozenset(embeddings)))
                while len(writing) > 1 or (writing and writing[0][0].done()):
                    with self.clock.time("for the writer"):
                        stored = writing.popleft()[0].result()
                    yield stored
            for job, _ in writing:
                yield job.result()

    def _prepared(self, pending: Iterable[Found]) -> Generator[Prepared, None, None]:
        """In order, with two batches in the making; drops what waits when the caller stops."""
        source = iter(pending)
        room = Room(default_room())
        prepare = Preparation(
            self._known, self.encoder, self.limits, self.clock, self.workers, room
        )
        with _threads(self.workers, "decode") as pool:
            ahead: deque[Future[Prepared]] = deque(
                pool.submit(prepare, item) for item in islice(source, 2 * self._size())
            )
            while ahead:
                first = ahead.popleft()
                with self.clock.time("for pictures"):
                    prepared = first.result()
                ahead.extend(pool.submit(prepare, item) for item in islice(source, 1))
                yield prepared

    def _batches(self, prepared: Iterable[Prepared]) -> Iterator[list[Prepared]]:
        """Batches with so many pictures to encode; a batch of known and bad files may be larger."""
        batch: list[Prepared] = []
        pictures, size = 0, self._size()
        for item in prepared:
            batch.append(item)
            pictures += item.pixels is not None
            if pictures >= size or len(batch) >= 4 * size:
                yield batch
                batch, pictures = [], 0
        if batch:
            yield batch

    def _known(self, content_hash: str) -> KnownContent | None:
        with self.library.read() as session:
            return known_contents(session, self.model, [content_hash]).get(content_hash)

    def _size(self) -> int:
        return pictures_at_once(self.encoder, self.batch_size)

    def _encode(
        self, batch: list[Prepared], on_the_way: frozenset[str]
    ) -> tuple[list[Prepared], dict[str, bytes]]:
        """The batch without its pixels, and the embeddings of contents that are new in it."""
        new = {item.content_hash: item.pixels for item in batch if item.pixels is not None}
        with self.library.read() as session:  # the same content may have come twice in this run
            known = known_contents(session, self.model, [*new])
        done = on_the_way | {key for key, content in known.items() if content.embedded}
        todo = {key: pixels for key, pixels in new.items() if key not in done}
        with self.clock.time("encode"):
            embeddings = encode(self.encoder, todo)
        broken = todo.keys() - embeddings.keys()
        fault = "the model gives no finite embedding"
        return [
            replace(item, pixels=None, error=fault if item.content_hash in broken else item.error)
            for item in batch
        ], embeddings

    def _write(self, batch: list[Prepared], embeddings: dict[str, bytes]) -> Stored:
        with self.clock.time("write"):
            self.library.writing(lambda one: store_batch(one, self.model, batch, embeddings))
        self.clock.files += len(batch)
        return Stored(batch, len(embeddings))


def pictures_at_once(encoder: ImageEncoder, asked: int) -> int:
    """How many pictures one batch holds: as asked, or as its pixels may take memory."""
    pixels = 4 * 3 * encoder.image_size**2  # bytes of one picture
    return max(1, min(asked, _MOST_PIXELS // pixels))


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def _threads(number: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads that are gone after the block; what has not begun by then is dropped."""
    pool = ThreadPoolExecutor(number, name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
