"""The images of a library in the order of a query, as far down as is asked for."""

from __future__ import annotations

from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.indexer.background import Background
from rwkvsearch.indexer.filters import Filters
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.protocols import ImageIndex
from rwkvsearch.indexer.scoring import rescore
from rwkvsearch.retrieval.algebra import combine, scores_at, standings
from rwkvsearch.retrieval.every import best_by_weakest
from rwkvsearch.retrieval.query import Query

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

PAGES = 128
"""Hits of an approximate index that are found at once, whichever page of them is asked for."""


def query_vectors(query: Query, embeddings: Floats, background: Floats) -> Floats:
    """Return what is searched for, `[P, D]`: the sum of all terms, or each that has to hold.

    `embeddings` `[T, D]` are those of the terms. What is not wanted is taken from each.
    """
    weights = np.array([term.weight for term in query.terms])
    wanted = np.flatnonzero(weights > 0)
    if not query.every or len(wanted) == 1:
        return combine(embeddings, weights, background)[None]
    unwanted = np.flatnonzero(weights < 0)
    groups = [np.append(row, unwanted) for row in wanted]
    return np.stack([combine(embeddings[rows], weights[rows], background) for rows in groups])


class Ranking:
    """One vector searches by its cosine; of several, the weakest standing counts."""

    def __init__(
        self,
        library: Library,
        model: ModelInfo,
        index: ImageIndex,
        background: Background,
        vectors: Floats,
        among: Ids | None,
        filters: Filters | None = None,
    ) -> None:
        """Take `vectors` `[P, D]` of length 1; `among` are the image ids allowed, None for all.

        `filters` are what led to `among`.
        """
        self.vectors = vectors
        self._library = library
        self._model = model
        self._index = index
        self._background = background
        self._search = partial(index.search, among=among, filters=filters)

    def top(self, count: int) -> tuple[Ids, Floats]:
        """Return the `count` best: ids `[n]` and scores `[P, n]`; fewer if there are fewer."""
        if len(self.vectors) == 1:
            scores, ids = self._search(self.vectors, self._depth(count))
            return ids[0, :count], scores[:, :count]
        search = partial(self._search, self.vectors)
        scores, found = best_by_weakest(search, self._scores, self.standings, count)
        return found, scores

    def _depth(self, count: int) -> int:
        """How deep to search for `count`: pages of an approximate index come from one answer."""
        if self._index.exact:
            return count
        return PAGES << max(0, (count - 1).bit_length() - (PAGES - 1).bit_length())

    def standings(self, scores: Floats) -> Floats:
        """Return scores `[P, n]` as what can be compared among vectors."""
        return standings(scores, self._usual)

    def ceiling(self, last: Floats) -> Floats:
        """Return the highest scores `[P, 1]` behind an image with the scores `last` `[P, 1]`."""
        if len(self.vectors) == 1:
            return last
        return scores_at(self.standings(last).min(axis=0), self._usual)

    @cached_property
    def _usual(self) -> Floats:
        """The scores `[P, n]` of the background."""
        usual: Floats = self.vectors @ self._background.embeddings.T
        return usual

    def _scores(self, ids: Ids) -> tuple[Ids, Floats]:
        there, embeddings = self._library.embeddings_of(self._model, ids.tolist())
        return there, np.stack([rescore(vector, embeddings) for vector in self.vectors])
