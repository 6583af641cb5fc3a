"""The best images for a query embedding: proposed by the ann, scored from the truth.

The ann only proposes. `scoring.rescore` gives every score in the project, from the embeddings in
`library.sqlite`, so a missing, old or damaged file never changes a score.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from threading import Lock
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.indexer.ann.generation import Generation, open_generation
from rwkvsearch.indexer.ann.gpu import AFTER, copy_to_gpu
from rwkvsearch.indexer.blocks import (
    Floats,
    Ids,
    distinct,
    image_ids,
    is_in,
    known_model,
)
from rwkvsearch.indexer.filters import Filters
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.scoring import Fresh, Proposals, best_by_steps, every_one, unit_queries

BRUTE_FORCE = 1_000
"""Up to so many images allowed by a filter, all of them are scored; see `docs/ann.md`."""


class SearchIndex:
    """The live images of one model as they were when it was opened, less those that have gone.

    Safe among threads. `model` is the one it was opened for; `kind` the FAISS string of its file,
    None if there is none; `ann_recall` the share of the exact best 10 that a search returns, as
    measured for the file; `exact` whether every search is exact without asking for it.
    """

    def __init__(
        self, library: Library, model: ModelInfo, generation: Generation | None = None
    ) -> None:
        """Use `SearchIndex.open`; `tune` hands in a generation that is not in use."""
        self._library = library
        self.model = model
        generation = generation or open_generation(library, model)
        left_out = generation.left_out if generation else np.empty(0, np.int64)
        self._fresh = Fresh(library, model, generation.upto if generation else 0, left_out)
        self._published = generation.ann if generation else None
        self._in_file = int(self._published.index.ntotal) if self._published else 0
        self._asked = 0
        self._lock = Lock()
        self.kind = self._published.kind if self._published else None
        self.exact = self._published is None or self._published.exact
        self.ann_recall = self._published.ann_recall if self._published else 1.0

    @classmethod
    def open(cls, library: Library, model_id: str, preprocessing_id: str) -> Self:
        """Map the newest published file and load what is newer from the catalog.

        Raises:
            LibraryError: the model has no embeddings in the library, or faiss is not installed.
        """
        return cls(library, known_model(library, model_id, preprocessing_id))

    @cached_property
    def rows(self) -> int:
        """How many images there were at the first use."""
        return len(self._live)

    @property
    def size(self) -> int:
        """How many images there are, with those in the file that have gone; known at once."""
        return self._in_file + len(self._fresh)

    @cached_property
    def _live(self) -> Ids:
        with self._library.read() as session:
            return image_ids(session, self.model, self._fresh.newest, live=True)

    def close(self) -> None:
        """Nothing is held: a file that was mapped goes with the last who uses it."""

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        among: NDArray[np.int64] | None = None,
        *,
        exact: bool = False,
        filters: Filters | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The `k` best images of each query `[Q, D]`: scores `[Q, k]` and image ids `[Q, k]`.

        Best first, equal scores by image id; only of the image ids `among`, if given, whatever
        `filters` led to them. `k` is cut to what there is. Scores are always exact; that nothing
        better exists is certain if `exact`, asked for or the index's own, or `among` has few
        (`BRUTE_FORCE`), else as `ann_recall` says.

        Raises:
            QueryError: the queries have another dimension, or one has no direction.
        """
        unit = unit_queries(queries, self.model.dim)
        self._count(len(unit))
        allowed = None if among is None else distinct(among.astype(np.int64))
        ways = [self._few, self._many, self._all]
        if exact and not self.exact or allowed is not None and len(allowed) <= BRUTE_FORCE:
            ways = [self._all]
        k = max(min(k, self.size if allowed is None else len(allowed)), 0)
        steps = [partial(way, allowed) for way in ways]
        return best_by_steps(self._library, self.model, queries, unit, k, steps, exact=self.exact)

    def _count(self, queries: int) -> None:
        """After enough queries, go on with a copy on the GPU if there is one."""
        with self._lock:
            before, self._asked = self._asked, self._asked + queries
            if self._published and before < AFTER <= self._asked:
                self._published = replace(self._published, gpu=copy_to_gpu(self._published))

    def _few(self, allowed: Ids | None, queries: Floats, k: int) -> Proposals:
        return self._propose(queries, k, allowed, allowed)

    def _many(self, allowed: Ids | None, queries: Floats, k: int) -> Proposals:
        """More of them, from everywhere in the file, and none that has gone."""
        live = self._live if allowed is None else allowed[is_in(allowed, self._live)]
        return self._propose(queries, k, allowed, live, everywhere=True)

    def _all(self, allowed: Ids | None, queries: Floats, k: int) -> Proposals:
        """Asked for, many equal scores, or a file that lacks what it had."""
        return every_one(self._library, self.model, self._fresh.newest, allowed, queries, k)

    def _propose(
        self,
        queries: Floats,
        k: int,
        allowed: Ids | None,
        in_file: Ids | None,
        *,
        everywhere: bool = False,
    ) -> Proposals:
        """What the file proposes, of `in_file` only, and all that matter of fresh."""
        ann = self._published
        proposals = self._fresh.propose(queries, k, allowed)
        left_out = np.full(len(queries), -np.inf, np.float32)
        mask = None if in_file is None or ann is None else ann.mask(in_file)
        there = self._in_file if mask is None else int(mask.sum())
        if ann and there:
            near, found = ann.propose(queries, k, mask, everywhere=everywhere)
            proposals = [np.append(a, b) for a, b in zip(proposals, found, strict=True)]
            left_out = near[:, -1] if near.shape[1] < there else left_out
        return proposals, left_out
