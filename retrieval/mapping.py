"""Make the map of a library, or bring it up to date: the library twin of `rwkvsearch map`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.background import Background
from rwkvsearch.indexer.blocks import (
    Floats,
    Halves,
    Ids,
    blocks,
    image_ids,
    is_in,
    newest_embedding,
)
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.maps import (
    ADDED,
    LAID_OUT,
    PLACED,
    CollectionMap,
    Kinds,
    mapper,
    read_map,
    write_map,
)
from rwkvsearch.retrieval.projection import import_manifold, lay_out, place

MOST_LAID_OUT = 20_000
"""Of a larger library a fixed sample is laid out, and the others are put beside it."""
MOST_CHANGED = 0.2
"""Share of the pictures that can come or go until all are laid out anew."""

Step = Callable[[str], None]
On = tuple[Ids, Floats, Kinds]
"""Images, points and how they came there, in any order."""


@dataclass(frozen=True)
class Standing:
    """How a map compares with its library.

    `kept` are the rows of the map that are still live; `lacking` live images are not on it. It
    `fits` if it is enough to put those beside what is there.
    """

    kept: Ids
    lacking: int
    fits: bool

    @property
    def is_current(self) -> bool:
        """Whether every live image has its right place."""
        return self.fits and not self.lacking


def live_images(library: Library, model: ModelInfo) -> Ids:
    """The images, ascending, that a map shows."""
    with library.read() as session:
        return image_ids(session, model, newest_embedding(session, model), live=True)


def compare(known: CollectionMap, live: Ids) -> Standing:
    """What has changed since `known` was made; `live` are the images, ascending, there are."""
    kept = np.flatnonzero(is_in(known.ids, live))
    how, lacking = known.how[kept], len(live) - len(kept)
    gone, added = known.made_of - int((how != ADDED).sum()), int((how == ADDED).sum()) + lacking
    fits = bool((how == LAID_OUT).any()) and gone + added <= MOST_CHANGED * known.made_of
    return Standing(kept, lacking, fits)


def make_map(
    library: Library,
    model: ModelInfo,
    *,
    anew: bool = False,
    on_step: Step = lambda step: None,
) -> CollectionMap:
    """Bring the map of `model` up to date, and keep it: by placing what is new, or `anew`.

    `on_step` is told what is being done.

    Raises:
        LibraryError: the library is empty, cannot be written, or another process makes its map.
        ModelError: scikit-learn is not installed.
    """
    with mapper(library):
        live = live_images(library, model)
        if not len(live):
            raise LibraryError("the library is empty; fill it with `rwkvsearch index PATH`")
        known = None if anew else read_map(library, model)
        standing = compare(known, live) if known else None
        if known is None or standing is None or not standing.fits:
            made = _from_scratch(library, model, on_step)
        elif standing.lacking or len(standing.kept) < len(known.ids):
            made = _with_new(library, model, known, standing, on_step)
        else:
            return known
        write_map(library, model, made)
    return made


def _from_scratch(library: Library, model: ModelInfo, on_step: Step) -> CollectionMap:
    began = time.monotonic()
    import_manifold()  # that it is missing is said at once
    on_step("reading the embeddings")
    sample = Background.read(library, model, MOST_LAID_OUT)
    order = np.argsort(sample.ids)
    ids, embeddings = sample.ids[order], sample.embeddings[order]
    on_step(f"laying out {len(ids):,} pictures")
    points = lay_out(embeddings)
    laid_out = (ids, points, np.full(len(ids), LAID_OUT, np.uint8))
    others = _placed(library, model, ids, (ids, embeddings, points), PLACED, on_step)
    seconds = round(time.monotonic() - began, 3)
    return _in_order([laid_out, *others], made_at=time.time(), seconds=seconds)


def _with_new(
    library: Library, model: ModelInfo, known: CollectionMap, standing: Standing, on_step: Step
) -> CollectionMap:
    """The map without what has gone, and with what is new beside what was laid out."""
    kept = standing.kept
    on = (known.ids[kept], known.points[kept], known.how[kept])
    others: list[On] = []
    if standing.lacking:
        on_step("reading the embeddings")
        laid_out = kept[known.how[kept] == LAID_OUT]
        ids, halves = library.embeddings_of(model, known.ids[laid_out].tolist())
        points = known.points[np.searchsorted(known.ids, ids)]
        others = [*_placed(library, model, on[0], (ids, unit(halves), points), ADDED, on_step)]
    made = _in_order([on, *others], made_at=known.made_at, seconds=known.seconds)
    return replace(made, made_of=known.made_of)


def _placed(
    library: Library,
    model: ModelInfo,
    there: Ids,
    beside: tuple[Ids, Floats, Floats],
    how: int,
    on_step: Step,
) -> Iterator[On]:
    """Every live image but those `there`, put `beside` others: ids, embeddings and points."""
    done = 0
    for block, halves in blocks(library, model, live=True):
        new = ~is_in(block, there)
        if new.any():
            on_step(f"placing the others, {done:,} so far")
            points = place(unit(halves[new]), *beside[1:])
            yield block[new], points, np.full(len(points), how, np.uint8)
            done += len(points)


def _in_order(parts: Sequence[On], *, made_at: float, seconds: float) -> CollectionMap:
    ids, points, how = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(ids)
    return CollectionMap(ids[order], points[order], how[order], len(ids), made_at, seconds)


def unit(halves: Halves) -> Floats:
    """Stored embeddings `[m, D]` as they are compared: in float32, of length 1."""
    rows = halves.astype(np.float32)
    lengths: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return lengths
