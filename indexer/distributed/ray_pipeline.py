"""The pipeline of a sync, with its reading, decoding and encoding done by Ray.

    calling process            actors of Ray Data              calling process
    list of pending    ->      read, hash, decode,      ->     one transaction
    files, in blocks           preprocess, encode              a batch

Only names travel there and only embeddings travel back. An actor or a node that dies is replaced
and its blocks are done again; a batch that comes twice is written once.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from rwkvsearch.data.errors import ClusterError, DataError, ModelError
from rwkvsearch.data.images import system_reason
from rwkvsearch.indexer.clock import Clock
from rwkvsearch.indexer.distributed.attempts import Attempts
from rwkvsearch.indexer.distributed.cluster import Share, Taken, cluster, import_ray
from rwkvsearch.indexer.distributed.work import Done, Task, Worker
from rwkvsearch.indexer.found import Found
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.pipeline import Stored, pictures_at_once
from rwkvsearch.indexer.prepare import Prepared
from rwkvsearch.indexer.protocols import ImageEncoder
from rwkvsearch.indexer.room import default_room
from rwkvsearch.indexer.store import store_new
from rwkvsearch.indexer.sync import SyncOptions
from rwkvsearch.indexer.tables import EmbeddingRow, ImageRow

_THREADS = 4  # of an actor at least: they wait for disks and networks
_RETRIES = 100  # of a block: the loss of a node takes some ten
_ROUNDS = 16  # blocks for each actor at least, so that all end at about the same time
_LARGEST = 16  # batches in a block


@dataclass(frozen=True)
class OnRay:
    """Makes the pipeline of a sync, which joins a cluster once it has something to do there.

    `load` makes an encoder in each actor, on the `device` it is told; None is a GPU where there is
    one for each.
    """

    address: str
    share: Share
    load: Callable[..., ImageEncoder]
    device: str | None = None

    def __call__(
        self,
        library: Library,
        model: ModelInfo,
        encoder: ImageEncoder,
        options: SyncOptions,
        clock: Clock,
    ) -> RayPipeline:
        """The same arguments as `indexer.sync.pipeline_of`."""
        return RayPipeline(library, model, encoder, options, clock, self)


@dataclass(frozen=True)
class RayPipeline:
    """As `indexer.pipeline.Pipeline`, on a cluster."""

    library: Library
    model: ModelInfo
    encoder: ImageEncoder
    options: SyncOptions
    clock: Clock
    on: OnRay

    def run(self, pending: Sequence[Found]) -> Generator[Stored, None, None]:
        """Yield each batch once it is committed, in the order in which they are done.

        Raises:
            LibraryError: the library cannot be written.
            ModelError: a worker lacks the model, or it fails.
            DataError: a worker does not see the files.
            ClusterError: the cluster cannot be used, or too many workers died.
        """
        if not pending:
            return
        left = {(item.root_id, item.name) for item in pending}
        run = uuid4().hex
        with (
            self.clock.time("pipeline"),
            Attempts(run).cleared(),
            cluster(self.on.address, self.on.share) as taken,
            closing(self._results(pending, self._task(run, taken), taken)) as results,
        ):
            for done in results:
                batch = [i for i in done.batch if (i.found.root_id, i.found.name) in left]
                left -= {(item.found.root_id, item.found.name) for item in batch}
                self._refuse_unseen(batch)
                yield self._write(batch, done)
        if left:
            raise ClusterError(f"{len(left)} files did not come back: run the same command again")

    def _results(
        self, pending: Sequence[Found], task: Task, taken: Taken
    ) -> Generator[Done, None, None]:
        ray = import_ray()
        size = pictures_at_once(self.encoder, self.options.batch_size)
        data = ray.data.from_arrow(list(self._blocks(pending, size, taken)))
        with warnings.catch_warnings(action="ignore"):  # of 2.60: there is no other way to say it
            embedded = data.map_batches(
                _Embed,
                batch_size=1,
                batch_format="pyarrow",
                zero_copy_batch=True,
                compute=ray.data.ActorPoolStrategy(size=taken.actors),
                fn_constructor_args=(task, ray.put(self._known_digests())),
                num_cpus=taken.cpus,
                num_gpus=taken.gpus or None,
                max_restarts=-1,
                max_task_retries=_RETRIES,
            )
        rows = embedded.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        try:
            for table in rows:
                for done in table.column("data").to_pylist():
                    yield self._checked(pickle.loads(done), taken)
        except ray.exceptions.RayError as error:
            lines = [line for line in str(error).splitlines() if line.strip()] or ["unknown"]
            raise ClusterError(
                f"Ray gave up: {lines[-1].strip()[:200]}; what is done is kept"
            ) from error

    def _blocks(self, pending: Sequence[Found], size: int, taken: Taken) -> Iterator[Any]:
        """Tables whose rows are batches."""
        import pyarrow

        batches = -(-len(pending) // size)
        rows = min(_LARGEST, max(1, batches // (taken.actors * _ROUNDS)))
        for start in range(0, len(pending), rows * size):
            part = pending[start : start + rows * size]
            packed = [pickle.dumps(part[at : at + size]) for at in range(0, len(part), size)]
            yield pyarrow.table({"data": pyarrow.array(packed, pyarrow.large_binary())})

    def _task(self, run: str, taken: Taken) -> Task:
        ids = (self.model.model_id, self.model.preprocessing_id, self.model.weights_sha256)
        threads = max(_THREADS, taken.cpus)
        room = default_room() // 4
        device = self.on.device or ("cuda" if taken.gpus else "cpu")
        load = partial(self.on.load, device=device)
        return Task(run, load, ids, self.options.limits, threads, room)

    def _known_digests(self) -> NDArray[np.bytes_]:
        """The contents that need nothing more, sorted, 32 bytes each."""
        wanted = (
            select(ImageRow.content_hash)
            .join(EmbeddingRow, EmbeddingRow.image_id == ImageRow.id)
            .where(EmbeddingRow.model == self.model.key, ImageRow.perceptual_hash.is_not(None))
        )
        with self.library.read() as session:
            packed = b"".join(bytes.fromhex(key) for key in session.scalars(wanted))
        return np.sort(np.frombuffer(packed, "S32"))

    def _checked(self, done: Done, taken: Taken) -> Done:
        if done.failure is not None:
            raise ModelError(f"on a worker: {done.failure}")
        actors = taken.actors
        for stage, seconds in done.spent.items():
            self.clock.add(stage, seconds / actors if stage == "for pictures" else seconds, actors)
        return done

    def _refuse_unseen(self, batch: Sequence[Prepared]) -> None:
        """A worker that does not see a file which is there would call all files bad."""
        for item in batch:
            path = item.found.shard or item.found.path
            if item.error == system_reason(FileNotFoundError()) and _is_there(path):
                raise DataError(
                    f"{path}: a worker does not see this file: mount its folder at the same place "
                    "on every node"
                )

    def _write(self, batch: list[Prepared], done: Done) -> Stored:
        keys = {item.content_hash for item in batch} & done.embeddings.keys()
        embeddings = {key: done.embeddings[key] for key in sorted(keys)}
        with self.clock.time("write"):
            new = self.library.writing(
                lambda session: store_new(session, self.model, batch, embeddings)
            )
        self.clock.files += len(batch)
        return Stored(batch, new)


class _Embed:
    """What Ray Data runs in an actor: a table of batches to a table of results."""

    def __init__(self, task: Task, known: Any) -> None:
        self._worker = Worker(task, import_ray().get(known))

    def __call__(self, table: Any) -> Any:
        import pyarrow

        done = [self._worker(batch) for batch in table.column("data").to_pylist()]
        return pyarrow.table({"data": pyarrow.array(done, pyarrow.large_binary())})


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
