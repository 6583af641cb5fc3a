"""Check of a mirror in a cluster: that it holds what the library does, id by id."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.blocks import MARGIN, count_live, image_ids, live_rows
from rwkvsearch.indexer.cluster.mark import Mark, read_mark, target_of
from rwkvsearch.indexer.cluster.milvus import Collection
from rwkvsearch.indexer.cluster.mirror import (
    check_dim,
    check_owner,
    dead_images,
    differences,
    mirror,
    open_collection,
)
from rwkvsearch.indexer.doctor.findings import Finding, fault, note, ok, some
from rwkvsearch.indexer.library import Library, ModelInfo

_REMEDY = "what is missing or changed is entered, what is stale deleted"
_ANEW = "dropped, and entered anew"


def check_mirror(library: Library, ann: str, sample: int) -> Iterator[Finding]:
    """Whether the collection at `ann` of each model that was mirrored there is its mirror."""
    found = False
    for model in library.models():
        with library.read() as session:
            mark = read_mark(session, model, target_of(session, model, ann))
        if mark.state:
            found = True
            with open_collection(library, model, ann) as collection:
                yield from _check(library, model, collection, mark, sample)
    if not found:
        yield note("mirror", f"none at {ann} yet", f"`rwkvsearch index --ann {ann}` makes it")


class _Mirror:
    """Bring the mirror of a model up to date; `anew` drops it first."""

    def __init__(self, model: ModelInfo, ann: str, *, anew: bool = False) -> None:
        self.model = model
        self.ann = ann
        self.anew = anew

    def __call__(self, library: Library) -> None:
        if self.anew:
            with open_collection(library, self.model, self.ann) as collection:
                collection.drop()
        mirror(library, self.model, self.ann)


def _check(
    library: Library, model: ModelInfo, collection: Collection, mark: Mark, sample: int
) -> Iterator[Finding]:
    fix = _Mirror(model, collection.address.text)
    if collection.kind() is None:
        yield fault("mirror", f"{collection.name}: not there", _REMEDY, fix)
        return
    try:
        check_dim(collection, model)
        collection.load()
        check_owner(library, model, collection)
    except LibraryError as error:
        yield fault("mirror", str(error), "")
        return
    there = collection.signature()
    if there is None or there.state != mark.state:
        what = "not the mirror that was made last, perhaps an older one"
        yield fault("mirror", f"{collection.name}: {what}", _REMEDY, fix)
        return
    counts = _count(library, model, collection, mark)
    wrong = {name: number for name, number in counts.items() if number}
    for what, number in wrong.items():
        yield fault("mirror", f"{collection.name}: {some(number, 'image')} {what}", _REMEDY, fix)
    if number := _not_as_stored(library, model, collection, mark, sample):
        text = f"{collection.name}: {some(number, 'embedding')} of {sample:,} not as in the library"
        yield fault("mirror", text, _ANEW, _Mirror(model, collection.address.text, anew=True))
    elif not wrong:
        rows = some(mark.rows, "row")
        yield ok("mirror", f"{collection.name}: {rows}, those of the library")
    if behind := _behind(library, model, mark):
        how = f"`rwkvsearch index --ann {collection.address.text}` brings it up to date"
        yield note("mirror", f"{collection.name}: {behind} since", how)


def _count(
    library: Library, model: ModelInfo, collection: Collection, mark: Mark
) -> dict[str, int]:
    counts = {"not in it": 0, "in it not as in the library": 0, "in it that the library lacks": 0}
    left_out = np.sort(mark.left_out_ids)
    for found in differences(library, model, collection, mark.upto, left_out):
        parts = (found.missing, found.changed, found.stale)
        for what, ids in zip(counts, parts, strict=True):
            counts[what] += len(ids)
    return counts


def _not_as_stored(
    library: Library, model: ModelInfo, collection: Collection, mark: Mark, sample: int
) -> int:
    """How many of some embeddings in it are others."""
    with library.read() as session:
        known = np.setdiff1d(image_ids(session, model, mark.upto), mark.left_out_ids)
    some_of = np.sort(np.random.default_rng(0).permutation(known)[:sample])
    ids, inside = collection.embeddings(some_of)
    stored_ids, stored = library.embeddings_of(model, ids.tolist())
    there = np.isin(ids, stored_ids)
    wanted = stored[np.searchsorted(stored_ids, ids[there])].astype(np.float32)
    apart = np.abs(inside[there] - wanted).max(axis=1, initial=0)
    return int((apart > MARGIN).sum())


def _behind(library: Library, model: ModelInfo, mark: Mark) -> str:
    """What has changed since the mirror was made, in words; empty if nothing."""
    with library.read() as session:
        newer = count_live(session, model, mark.upto)[1]
        back = len(live_rows(session, model, mark.left_out_ids))
    gone = len(np.setdiff1d(dead_images(library, model, mark.upto), mark.left_out_ids))
    parts = [f"{newer + back:,} new"] if newer + back else []
    return ", ".join(parts + ([f"{gone:,} gone"] if gone else []))
