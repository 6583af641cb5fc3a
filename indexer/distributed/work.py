"""What one worker does: read, decode and embed a batch of files, far from the library."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import ModelError, RwkvSearchError
from rwkvsearch.indexer.clock import Clock, Timed
from rwkvsearch.indexer.distributed.attempts import Attempts
from rwkvsearch.indexer.encode import encode
from rwkvsearch.indexer.entries import KnownContent
from rwkvsearch.indexer.found import Found
from rwkvsearch.indexer.prepare import Limits, Preparation, Prepared
from rwkvsearch.indexer.protocols import ImageEncoder
from rwkvsearch.indexer.room import Room

_TRIES = 2  # so that a batch is not blamed for a node that goes
_KILLS = "unreadable: the process that reads it dies"
_KNOWN = KnownContent(image_id=0, described=True, embedded=True)


@dataclass(frozen=True)
class Task:
    """What all workers share.

    `load` makes the encoder, which has to be the `model` (id, preprocessing, hash of the weights);
    `threads` read and decode at once, within `room` bytes; `run` is a name no other run has.
    """

    run: str
    load: Callable[[], ImageEncoder]
    model: tuple[str, str, str]
    limits: Limits
    threads: int
    room: int


@dataclass(frozen=True)
class Done:
    """A batch after its worker: files without pixels, and the embeddings of their contents.

    `failure` says why there is nothing; `spent` are the seconds of each stage.
    """

    batch: list[Prepared] = field(default_factory=list)
    embeddings: dict[str, bytes] = field(default_factory=dict)
    spent: dict[Timed, float] = field(default_factory=dict)
    failure: str | None = None


class Worker:
    """Embeds batches of files; `known` are sorted SHA-256 digests `[N]` of what needs nothing."""

    def __init__(self, task: Task, known: NDArray[np.bytes_]) -> None:
        self._task = task
        self._digests = known
        self._attempts = Attempts(task.run)

    def __call__(self, batch: bytes) -> bytes:
        """Pickled `list[Found]` to pickled `Done`."""
        found: list[Found] = pickle.loads(batch)
        try:
            with self._attempts.begin(batch) as before:
                done = self._work(found) if before < _TRIES else self._one_by_one(found)
        except RwkvSearchError as error:
            done = Done(failure=str(error))
        return pickle.dumps(done)

    def _work(self, found: list[Found]) -> Done:
        clock, task = Clock(), self._task
        prepare = Preparation(
            self._known, self._encoder, task.limits, clock, task.threads, Room(task.room)
        )
        with ThreadPoolExecutor(task.threads, "decode") as pool:
            with clock.time("for pictures"):
                batch = list(pool.map(prepare, found))
        new = {item.content_hash: item.pixels for item in batch if item.pixels is not None}
        with clock.time("encode"):
            embeddings = encode(self._encoder, new)
        broken = new.keys() - embeddings.keys()
        fault = "the model gives no finite embedding"
        bare = [
            replace(item, pixels=None, error=fault if item.content_hash in broken else item.error)
            for item in batch
        ]
        return Done(bare, embeddings, clock.spent())

    def _one_by_one(self, found: list[Found]) -> Done:
        """As `_work`, for a batch that has killed who worked on it: find out which file does."""
        whole = Done()
        for item in found:
            with self._attempts.begin(pickle.dumps(item)) as before:
                done = (
                    Done([Prepared(item, error=_KILLS)]) if before >= _TRIES else self._work([item])
                )
            whole.batch.extend(done.batch)
            whole.embeddings.update(done.embeddings)
        return whole

    @cached_property
    def _encoder(self) -> ImageEncoder:
        encoder = self._task.load()
        have = (encoder.model_id, encoder.preprocessing_id, encoder.weights_sha256)
        if have != self._task.model:
            raise ModelError(
                f"{have[0]} with weights {have[2][:12]} is installed on a worker, "
                f"not {self._task.model[0]} with weights {self._task.model[2][:12]}"
            )
        return encoder

    def _known(self, content_hash: str) -> KnownContent | None:
        digest = bytes.fromhex(content_hash).rstrip(b"\0")  # as numpy gives such strings back
        at = int(np.searchsorted(self._digests, np.bytes_(digest)))
        return _KNOWN if at < len(self._digests) and self._digests[at] == digest else None
