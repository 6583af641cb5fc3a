"""Bring a collection in Milvus up to date with a library, and say how the two differ.

The library is compared with the collection by parts of the image ids, and only what differs is
written: so it does not matter what was there before, or at which moment a run before was killed.
Every write is an upsert or a delete by id, which may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.blocks import Ids, image_ids
from rwkvsearch.indexer.cluster.kinds import ClusterKind
from rwkvsearch.indexer.cluster.lock import alone
from rwkvsearch.indexer.cluster.mark import (
    Mark,
    identify,
    last_sync,
    new_state,
    read_mark,
    settled_newest,
    signature_of,
    target_of,
    write_mark,
)
from rwkvsearch.indexer.cluster.measure import measured
from rwkvsearch.indexer.cluster.milvus import MOST, Collection, Listed
from rwkvsearch.indexer.cluster.rows import Window, windows
from rwkvsearch.indexer.library import Library, ModelInfo, chunks
from rwkvsearch.indexer.tables import EmbeddingRow

BATCH = 1_000
"""Rows in one upsert: of 640 numbers each they are 2.6 MB, of the 64 that Milvus takes."""

OnDone = Callable[[int, int], None]
"""Is told how many images were compared, and of how many."""


@dataclass(frozen=True)
class Difference:
    """Of some image ids: those to enter or to replace, those that the library has no more."""

    window: Window
    missing: Ids
    changed: Ids
    stale: Ids

    @property
    def wanted(self) -> Ids:
        """What has to be written."""
        return np.union1d(self.missing, self.changed)


@contextmanager
def open_collection(library: Library, model: ModelInfo, ann: str) -> Iterator[Collection]:
    """The collection that mirrors `model`, there or not, until the block ends."""
    with library.read() as session:
        target = target_of(session, model, ann)
    with closing(Collection(target)) as collection:
        yield collection


def reach(library: Library, model: ModelInfo, ann: str) -> None:
    """Raise what `mirror` would before it writes anything, to be told at once."""
    with library.write() as session:
        identify(session)
    with open_collection(library, model, ann) as collection:
        if collection.kind() is not None:
            check_dim(collection, model)
            collection.load()
            if collection.signature() is not None:
                check_owner(library, model, collection)


def mirror(
    library: Library, model: ModelInfo, ann: str, on_done: OnDone | None = None
) -> tuple[int, int]:
    """Make the collection at `ann` hold the live images of `model`; how many came, how many went.

    The caller is the library's writer. Killed at any moment, it leaves a mirror that can be
    searched, and the next run goes on from there.

    Raises:
        LibraryError: Milvus cannot be reached, or the collection is another's.
        LibraryBusy: somebody else brings the mirror of a team library up to date.
    """
    with library.write() as session:
        identify(session)
    with alone(library), open_collection(library, model, ann) as collection:
        newest, dead, before = _begin(library, model, collection)
        kind = _make(library, model, collection, before.rows)
        write_mark(library, model, collection.target, before)
        rows = written = gone = 0
        for found in differences(library, model, collection, newest, dead):
            collection.delete(found.stale)
            _enter(library, model, collection, found)
            rows += len(found.window.ids)
            written += len(found.wanted)
            gone += len(found.stale)
            if on_done:
                on_done(rows, before.rows)
        with library.read() as session:
            synced = last_sync(session)
        mark = replace(
            before, rows=rows, upto=newest, left_out=dead.tolist(), kind=kind.name, synced=synced
        )
        there = collection.signature()
        if written or gone or not before.state or there is None or there.state != before.state:
            mark = replace(mark, state=new_state())
            _sign(library, model, collection, mark.state)
        if before.kind != kind.name:
            mark = replace(mark, ann_recall=None)
        write_mark(library, model, collection.target, measured(library, model, collection, mark))
    return written, gone


def _make(library: Library, model: ModelInfo, collection: Collection, rows: int) -> ClusterKind:
    """Make the collection, or what it lacks, if it is the library's own or nobody's."""
    if collection.kind() is not None:
        check_dim(collection, model)
    there = collection.make(model.dim, rows)
    if collection.signature() is None and not len(collection.listed(0, None, 1).ids):
        _sign(library, model, collection, 0)
    check_owner(library, model, collection)
    outgrown = there.exact and not ClusterKind.default(rows).exact
    kind = collection.address.kind or (ClusterKind.default(rows) if outgrown else there)
    if kind != there:
        collection.rebuild(kind, rows, model.dim)
    return kind


def _sign(library: Library, model: ModelInfo, collection: Collection, state: int) -> None:
    with library.read() as session:
        signature = signature_of(session, model, state)
    collection.sign(signature, model.dim)


def mirror_again(library: Library, ann: str) -> None:
    """Bring the mirrors of all models that were mirrored to `ann` up to date, if any were.

    Raises:
        LibraryError: Milvus cannot be reached, or somebody else writes.
    """
    with library.read() as session:
        every = library.models()
        marked = [m for m in every if read_mark(session, m, target_of(session, m, ann)).state]
    if marked:
        with library.writer():
            for model in marked:
                mirror(library, model, ann)


def differences(
    library: Library, model: ModelInfo, collection: Collection, newest: int, dead: Ids
) -> Iterator[Difference]:
    """Every part of the ids with what differs in it; a part is `MOST` ids.

    The library's are those of embeddings up to `newest`, without `dead`; what the collection holds
    of newer ones is left alone, as long as the library has them.
    """
    last = 0
    for window in windows(library, model, newest, dead, MOST):
        yield _compared(library, window, collection.listed(window.after, window.upto), newest)
        last = window.upto
    yield from _behind(library, collection, last, newest)


def _behind(
    library: Library, collection: Collection, last: int, newest: int
) -> Iterator[Difference]:
    """What the collection holds behind all images of the library, as long as it is deleted."""
    nothing = np.empty(0, np.int64)
    before: Ids | None = None
    while True:
        there = collection.listed(last, None)
        if before is not None and np.array_equal(before, there.ids):
            return
        found = _compared(library, Window(last, last, nothing, nothing, nothing, []), there, newest)
        yield found
        if len(there.ids) < MOST or not len(found.stale):
            return
        before = there.ids


def dead_images(library: Library, model: ModelInfo, newest: int) -> Ids:
    """The images, ascending, that have an embedding with an id up to `newest` and no live file."""
    with library.read() as session:
        every = image_ids(session, model, newest)
        return np.setdiff1d(every, image_ids(session, model, newest, live=True))


def check_owner(library: Library, model: ModelInfo, collection: Collection) -> None:
    """Raise `LibraryError` if the collection is the mirror of another library or model."""
    there = collection.signature()
    with library.read() as session:
        own = signature_of(session, model, 0)
    if there is None or there.owner != own.owner:
        raise LibraryError(
            f"{collection.name} is the mirror of another library or model: name another "
            "collection with --ann milvus://HOST:PORT/COLLECTION, or none"
        )


def check_dim(collection: Collection, model: ModelInfo) -> None:
    """Raise `LibraryError` if the collection is for embeddings of another length."""
    if (dim := collection.dim()) != model.dim:
        raise LibraryError(
            f"{collection.name} holds embeddings of {dim} numbers, {model.model_id} makes "
            f"{model.dim}: name another collection with --ann milvus://HOST:PORT/COLLECTION"
        )


def _begin(library: Library, model: ModelInfo, collection: Collection) -> tuple[int, Ids, Mark]:
    """Up to where to go, the images to leave out, and the mark for the time until that is done."""
    with library.write() as session:
        newest = settled_newest(session, model)
        mark = read_mark(session, model, collection.target)
    dead = dead_images(library, model, newest)
    with library.read() as session:
        rows = len(image_ids(session, model, newest)) - len(dead)
    return newest, dead, replace(mark.without(dead), rows=max(rows, 1))


def _compared(library: Library, window: Window, there: Listed, newest: int) -> Difference:
    at = np.searchsorted(there.ids, window.ids)
    known = np.isin(window.ids, there.ids)
    same = np.zeros(len(window.ids), np.bool_)
    place = at[known]
    same[known] = (there.generations[place] == window.generations[known]) & (
        there.stamps[place] == window.stamps[known]
    )
    lost = ~np.isin(there.ids, window.ids)
    newer = lost & (there.generations > newest)
    lost[newer] = ~_has(library, there.generations[newer])
    return Difference(window, window.ids[~known], window.ids[known & ~same], there.ids[lost])


def _has(library: Library, generations: Ids) -> NDArray[np.bool_]:
    """Which of these embeddings there are: another writer has mirrored them meanwhile."""
    found: list[int] = []
    with library.read() as session:
        for part in chunks(generations.tolist()):
            found += session.scalars(select(EmbeddingRow.id).where(EmbeddingRow.id.in_(part)))
    return np.isin(generations, found)


def _enter(library: Library, model: ModelInfo, collection: Collection, found: Difference) -> None:
    rows = dict(zip(found.window.ids.tolist(), found.window.rows, strict=True))
    for start in range(0, len(found.wanted), BATCH):
        ids, embeddings = library.embeddings_of(model, found.wanted[start : start + BATCH].tolist())
        entered: list[dict[str, Any]] = [
            rows[image_id] | {"embedding": embedding}
            for image_id, embedding in zip(ids.tolist(), embeddings.astype(np.float32), strict=True)
        ]
        if entered:
            collection.upsert(entered)
