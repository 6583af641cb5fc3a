"""The best images for a query embedding: proposed by Milvus, scored from the truth.

As `search.SearchIndex`, with a collection in the place of the file.
"""

from __future__ import annotations

from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.blocks import (
    MARGIN,
    Floats,
    Ids,
    best_of,
    blocks,
    count_live,
    distinct,
    find_model,
    is_in,
    joined,
    live_rows,
    newest_embedding,
)
from rwkvsearch.indexer.cluster.kinds import ClusterKind
from rwkvsearch.indexer.cluster.mark import Mark, last_sync, read_mark, target_of
from rwkvsearch.indexer.cluster.measure import SPARE, Proposer
from rwkvsearch.indexer.cluster.milvus import MOST, Collection
from rwkvsearch.indexer.cluster.mirror import check_owner
from rwkvsearch.indexer.cluster.narrowing import expression
from rwkvsearch.indexer.filters import Filters
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.scoring import best_proposed, live_blocks, unit_queries

BRUTE_FORCE = 2_000
"""Up to so many images allowed by a filter, all of them are scored from the truth."""
LISTED = 20_000
"""Up to so many may be named in an expression."""
THIN = 1 / 16
"""A smaller share of the rows is named; of a larger one enough is found among all candidates."""

_MORE = 8  # times as many candidates, where the first have not been enough

Proposals = tuple[list[Ids], Floats]


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
        with library.read() as session:
            self._newest = newest_embedding(session, model)
            back = live_rows(session, model, mark.left_out_ids)
            self._settled = last_sync(session) == mark.synced
        newer = blocks(library, model, after=mark.upto, upto=self._newest, live=True)
        self._fresh = joined([*newer, library.unpack(back, model.dim)])
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
        with library.read() as session:
            model = find_model(session, model_id, preprocessing_id)
        model = model or library.model(model_id, preprocessing_id)
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
        return self._mark.rows + len(self._fresh[0])

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
        steps = [1, _MORE]
        few = allowed is not None and len(allowed) <= BRUTE_FORCE
        if exact and not self.exact or few or k + SPARE > MOST:
            steps = []
        scores, ids = np.full((len(unit), k), -np.inf, np.float32), np.full((len(unit), k), -1)
        todo = np.arange(len(unit) if k else 0)
        for times in (*steps, 0):
            if not todo.size:
                break
            propose = self._propose(unit[todo], k, allowed, filters, times)
            found = best_proposed(self._library, self.model, queries[todo], k, propose[0])
            scores[todo], ids[todo] = found
            enough = found[0][:, -1] > propose[1] + MARGIN if self.exact else found[1][:, -1] >= 0
            todo = todo[~enough & (times > 0)]
        # Every query has met all there is if one has met less than k.
        there = int((ids >= 0).sum(axis=1).min(initial=k))
        return scores[:, :there], ids[:, :there]

    def _propose(
        self, queries: Floats, k: int, allowed: Ids | None, filters: Filters | None, times: int
    ) -> Proposals:
        """The candidates of each query, and the rough score above which nothing was left out.

        All there is if `times` is 0, else so many times what is asked for at first.
        """
        left_out = np.full(len(queries), -np.inf, np.float32)
        if not times:
            every = live_blocks(self._library, self.model, self._newest, allowed)
            return [ids for ids, _ in best_of(every, queries, k)], left_out
        ids, embeddings = self._fresh
        if allowed is not None:
            inside = is_in(ids, allowed)
            ids, embeddings = ids[inside], embeddings[inside]
        proposals = [found for found, _ in best_of([(ids, embeddings)], queries, k)]
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
