"""The best images for a query embedding: proposed by Milvus, scored from the truth.

As `search.SearchIndex`, with a collection in the place of the file.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.blocks import (
    Floats,
    Ids,
    count_live,
    distinct,
    is_in,
    known_model,
)
from rwkvsearch.indexer.cluster.kinds import ClusterKind
from rwkvsearch.indexer.cluster.mark import Mark, last_sync, read_mark, target_of
from rwkvsearch.indexer.cluster.measure import SPARE, Proposer
from rwkvsearch.indexer.cluster.milvus import MOST, Collection
from rwkvsearch.indexer.cluster.mirror import check_owner
from rwkvsearch.indexer.cluster.narrowing import expression
from rwkvsearch.indexer.filters import Filters
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.scoring import Fresh, Proposals, best_by_steps, every_one, unit_queries

BRUTE_FORCE = 2_000
"""Up to so many images allowed by a filter, all of them are scored from the truth."""
LISTED = 20_000
"""Up to so many may be named in an expression."""
THIN = 1 / 16
"""A smaller share of the rows is named; of a larger one enough is found among all candidates."""

_MORE = 8  # times as many candidates, where the first have not been enough


class MilvusIndex:
    """The live images of one model, as `protocols.ImageIndex` says; `kind` is that of Milvus.

    What is newer than the mirror is searched in memory, what has gone since is left out.
    """

    def __init__(
        self, library: Library, model: ModelInfo, collection: Collection, mark: Mark
    ) -> None:
        """Use `MilvusIndex.open`."""
        self._library = library
        self._collection = collection
        self._mark = mark
        self.model = model
        self._fresh = Fresh(library, model, mark.upto, mark.left_out_ids)
        with library.read() as session:
            self._settled = last_sync(session) == mark.synced
        self._proposer = Proposer(collection, ClusterKind(mark.kind), mark.search)
        self.kind: str | None = f"Milvus {mark.kind}"
        self.exact = self._proposer.kind.exact
        self.ann_recall = mark.ann_recall

    @classmethod
    def open(cls, library: Library, model_id: str, preprocessing_id: str, ann: str) -> Self:
        """Connect, and load what is newer than the mirror from the library.

        Raises:
            LibraryError: the model has no embeddings in the library, Milvus cannot be reached, or
                what it holds is not the mirror that was made last.
        """
        model = known_model(library, model_id, preprocessing_id)
        with library.read() as session:
            target = target_of(session, model, ann)
            mark = read_mark(session, model, target)
        if not mark.state:
            raise LibraryError(f"{target.name} is no mirror of this library yet: {_how(ann)}")
        collection = Collection(target)
        try:
            _check(library, model, collection, mark)
            return cls(library, model, collection, mark)
        except BaseException:
            collection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._collection.close()

    @cached_property
    def rows(self) -> int:
        """How many images there were at the first use."""
        with self._library.read() as session:
            return count_live(session, self.model, 0)[0]

    @property
    def size(self) -> int:
        """How many images there are, with those in the mirror that have gone; known at once."""
        return self._mark.rows + len(self._fresh)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        among: NDArray[np.int64] | None = None,
        *,
        exact: bool = False,
        filters: Filters | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As `protocols.ImageIndex.search`."""
        unit = unit_queries(queries, self.model.dim)
        allowed = None if among is None else distinct(among.astype(np.int64))
        k = max(min(k, self.size if allowed is None else len(allowed)), 0)
        few = allowed is not None and len(allowed) <= BRUTE_FORCE
        steps = [partial(self._propose, allowed, filters, times) for times in (1, _MORE)]
        if exact and not self.exact or few or k + SPARE > MOST:
            steps = []
        steps.append(partial(every_one, self._library, self.model, self._fresh.newest, allowed))
        return best_by_steps(self._library, self.model, queries, unit, k, steps, exact=self.exact)

    def _propose(
        self, allowed: Ids | None, filters: Filters | None, times: int, queries: Floats, k: int
    ) -> Proposals:
        """What Milvus proposes, so many times what is asked for at first, and what is fresh."""
        proposals = self._fresh.propose(queries, k, allowed)
        left_out = np.full(len(queries), -np.inf, np.float32)
        wanted, share = self._narrowed(allowed, filters, times)
        near, limit = self._proposer.near(queries, k, wanted=wanted, share=share, times=times)
        for row, (found, scores) in enumerate(near):
            left_out[row] = scores[-1] if len(found) >= limit else -np.inf
            passing = found if allowed is None else found[is_in(found, allowed)]
            proposals[row] = np.append(proposals[row], passing)
        return proposals, left_out

    def _narrowed(
        self, allowed: Ids | None, filters: Filters | None, times: int
    ) -> tuple[str, float]:
        """An expression for Milvus, and the share of what fulfils it that is allowed."""
        if allowed is None:
            return "", 1.0
        wanted, complete = expression(filters, settled=self._settled) if filters else ("", False)
        share = min(1.0, len(allowed) / max(self.size, 1))
        if complete or (times == 1 and share >= THIN) or len(allowed) > LISTED:
            return wanted, 1.0 if complete else share
        return f"id in {allowed.tolist()}", 1.0


def _check(library: Library, model: ModelInfo, collection: Collection, mark: Mark) -> None:
    """Raise `LibraryError` unless the collection is what the library remembers of its mirror."""
    how = _how(collection.address.text)
    if collection.kind() is None:
        raise LibraryError(f"{collection.name} is not there any more: {how}")
    collection.load()
    check_owner(library, model, collection)
    there = collection.signature()
    if there is None or there.state != mark.state:
        raise LibraryError(f"{collection.name} is not the mirror that was made last: {how}")


def _how(ann: str) -> str:
    return f"bring it up to date with `rwkvsearch index --ann {ann}`"
