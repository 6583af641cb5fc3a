"""The best images for a query embedding, out of PostgreSQL: pgvector proposes, the truth scores.

Up to `SMALL` rows, and where a filter leaves few, the database looks at all of them; else at what
its HNSW index finds. Either way the scores are those of `scoring.rescore`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

from rwkvsearch.indexer.blocks import (
    Floats,
    Ids,
    distinct,
    image_ids,
    is_in,
    known_model,
    newest_embedding,
)
from rwkvsearch.indexer.filters import Filters
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.scoring import (
    as_found,
    best_proposed,
    every_one,
    nothing_found,
    unit_queries,
)
from rwkvsearch.indexer.tables import EmbeddingRow
from rwkvsearch.indexer.team.proposals import (
    MOST_BY_INDEX,
    ROUGH,
    Proposed,
    by_index,
    by_looking,
    candidates,
)
from rwkvsearch.indexer.team.published import Published, published

_FEW = 10_000  # allowed by a filter: then all of them are compared
_SHARE = 0.02  # of all rows that a filter has to leave for a search of the index to be worth it
_SPARE = 1.5  # times the candidates that a filter should leave of those from everywhere
_DEEPER = 8  # times as many candidates, when those were not enough
_DEEPEST = 20_000  # candidates, beyond which all embeddings are read: many scores are equal


class TeamIndex:
    """The live images of one model as they are now. Safe among threads.

    `model` is the one it was opened for; `kind` says what proposes, None if everything is compared;
    `ann_recall` is the share of the exact best 10 that a search returns, as measured when the index
    was built; `exact` whether every search is exact without asking for it.
    """

    def __init__(self, library: Library, model: ModelInfo) -> None:
        """Use `TeamIndex.open`."""
        self._library = library
        self.model = model
        with library.read() as session:
            self._published: Published | None = published(session, model)
            after = self._published.upto if self._published else 0
            newer = select(func.count()).where(
                EmbeddingRow.model == model.key, EmbeddingRow.id > after
            )
            self.size = (self._published.rows if self._published else 0) + (
                session.scalar(newer) or 0
            )
        self.kind = self._published.kind if self._published else None
        self.exact = self._published is None
        self.ann_recall = self._published.ann_recall if self._published else 1.0

    @classmethod
    def open(cls, library: Library, model_id: str, preprocessing_id: str) -> Self:
        """Look up what was published.

        Raises:
            LibraryError: the model has no embeddings in the library.
        """
        return cls(library, known_model(library, model_id, preprocessing_id))

    @cached_property
    def rows(self) -> int:
        """How many images there were at the first use."""
        with self._library.read() as session:
            upto = newest_embedding(session, self.model)
            return len(image_ids(session, self.model, upto, live=True))

    def close(self) -> None:
        """Nothing is held but the library."""

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        among: NDArray[np.int64] | None = None,
        *,
        exact: bool = False,
        filters: Filters | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As `ImageIndex.search`."""
        unit = unit_queries(queries, self.model.dim)
        allowed = None if among is None else distinct(among.astype(np.int64))
        k = max(min(k, self.size if allowed is None else len(allowed)), 0)
        scores, ids = nothing_found(len(unit), k)
        for row, query in enumerate(queries if k else []):
            one = self._one(unit[row], query, k, allowed, exact or self._is_few(allowed))
            scores[row], ids[row] = one
        return as_found(scores, ids)

    def _is_few(self, allowed: Ids | None) -> bool:
        if self._published is None:
            return True
        return allowed is not None and len(allowed) <= max(_FEW, _SHARE * self.size)

    def _one(
        self, unit: Floats, query: Floats, k: int, allowed: Ids | None, exact: bool
    ) -> tuple[Floats, Ids]:
        """The best `k`: with more candidates until no other one can be better, or there is none."""
        n = candidates(k)
        while n <= _DEEPEST:
            by_looks = exact or n > MOST_BY_INDEX
            found = self._propose(unit, n, k, allowed, by_looks)
            scores, ids = best_proposed(self._library, self.model, query[None], k, [found.ids])
            left_out = -np.inf if found.all_seen else float(found.scores[-1]) + ROUGH
            if scores[0, -1] > left_out or (not by_looks and ids[0, -1] >= 0):
                return scores[0], ids[0]
            if by_looks and found.all_seen:
                return scores[0], ids[0]
            n *= _DEEPER
            exact = exact or found.all_seen
        with self._library.read() as session:
            upto = newest_embedding(session, self.model)
        best, _ = every_one(self._library, self.model, upto, allowed, unit[None], k)
        scores, ids = best_proposed(self._library, self.model, query[None], k, best)
        return scores[0], ids[0]

    def _propose(
        self, unit: Floats, n: int, k: int, allowed: Ids | None, by_looks: bool
    ) -> Proposed:
        with self._library.read() as session:
            if by_looks or self._published is None:
                return by_looking(session, self.model, unit, n, allowed)
            ef = self._published.ef
            if allowed is not None:
                # Of many that are allowed, candidates from everywhere hold enough: the ids, which
                # take longer to send than to search, stay here.
                wide = round(_SPARE * n * self.size / max(len(allowed), 1))
                if wide <= MOST_BY_INDEX:
                    found = by_index(session, self.model, unit, wide, ef, None)
                    kept = is_in(found.ids, allowed)
                    if kept.sum() >= k:
                        return Proposed(found.ids[kept], found.scores[kept], False)
            return by_index(session, self.model, unit, n, ef, allowed)
