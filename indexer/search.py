"""The best images for a query embedding: proposed by the ann, scored from the truth.

The ann only proposes. `rescore` gives every score in the project, from the fp16 embeddings in
`library.sqlite`, so a missing, old or damaged file changes how long a search takes, not its answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.ann import embedding_rows, load_index, newest_generation, propose
from rwkvsearch.indexer.catalog import EmbeddingRow
from rwkvsearch.indexer.library import IS_LIVE, Library, ModelInfo

# fp16 rounding moves a component, so also the norm and the unscaled product, by 2**-11 at most.
_MARGIN = 2**-10
_SPARE = 16
_BLOCK = 16384

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]
Proposals = tuple[list[Ids], Floats]


def rescore(query: NDArray[np.float32], embeddings: NDArray[np.float16]) -> NDArray[np.float32]:
    """Cosine `[m]` of a `query` `[D]` with stored `embeddings` `[m, D]`, whatever their lengths.

    The sums run in float64, so that the float32 result does not depend on how many rows there are.
    """
    rows, one = embeddings.astype(np.float64), query.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(one)
    scores: NDArray[np.float32] = (rows @ one / lengths).astype(np.float32)
    return scores


@dataclass(frozen=True)
class Memory:
    """Image ids `[m]` and fp16 embeddings `[m, D]` searched by brute force."""

    ids: Ids
    embeddings: NDArray[np.float16]

    def propose(self, query: NDArray[np.float32], k: int) -> Ids:
        """Every id that can be among the `k` best for a unit `query` `[D]`, ties included."""
        if len(self.ids) <= k:
            return self.ids
        near = np.empty(len(self.ids), np.float32)
        for start in range(0, len(near), _BLOCK):
            part = slice(start, start + _BLOCK)
            near[part] = self.embeddings[part].astype(np.float32) @ query
        close: Ids = self.ids[near >= np.partition(near, -k)[-k] - 2 * _MARGIN]
        return close


class SearchIndex:
    """The `rows` live images of one model as they were when it was opened. Safe among threads."""

    def __init__(self, library: Library, model: ModelInfo) -> None:
        """Use `SearchIndex.open`."""
        self._library = library
        self._model = model
        with library.read() as session:
            generation = newest_generation(session, model)
            self._published = load_index(library, generation)
            self._upto = generation.max_embedding_id if generation and self._published else 0
            of_model = EmbeddingRow.model == model.key
            dead = select(EmbeddingRow.image_id).where(
                of_model, EmbeddingRow.id <= self._upto, ~IS_LIVE
            )
            fresh = select(EmbeddingRow.image_id, EmbeddingRow.data).where(
                of_model, EmbeddingRow.id > self._upto, IS_LIVE
            )
            self._dead = np.array(session.scalars(dead).all(), np.int64)
            rows = [(image_id, data) for image_id, data in session.execute(fresh)]
        self._fresh = Memory(*library.unpack(rows, model.dim))
        self._mapped = self._published.ntotal - len(self._dead) if self._published else 0
        self.rows = self._mapped + len(rows)

    @classmethod
    def open(cls, library: Library, model_id: str, preprocessing_id: str) -> Self:
        """Map the newest published file and load what is newer from the catalog.

        Raises:
            LibraryError: the model has no embeddings in the library, or faiss is not installed.
        """
        return cls(library, library.model(model_id, preprocessing_id))

    def search(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The `k` best images of each query `[Q, D]`: scores `[Q, k]` and image ids `[Q, k]`.

        Exact: best first, equal scores by image id. `k` is cut to `rows`.

        Raises:
            QueryError: the queries have another dimension, or one has no direction.
        """
        unit = _unit(queries, self._model.dim)
        k = min(k, self.rows)
        scores, ids = np.empty((len(unit), k), np.float32), np.empty((len(unit), k), np.int64)
        todo = np.arange(len(unit) if k else 0)
        for step in (self._few, self._many, self._all):
            if todo.size:
                proposals, left_out = step(unit[todo], k)
                scores[todo], ids[todo], sure = self._best(queries[todo], k, proposals, left_out)
                todo = todo[~sure]
        return scores, ids

    def _few(self, queries: Floats, k: int) -> Proposals:
        return self._propose(queries, k, k + _SPARE)

    def _many(self, queries: Floats, k: int) -> Proposals:
        return self._propose(queries, k, 8 * (k + _SPARE))

    def _all(self, queries: Floats, k: int) -> Proposals:
        """From the truth alone: many equal scores, or a file that does not hold what it should."""
        ids, embeddings = self._library.unpack(self._rows_of(self._upto), self._model.dim)
        live = ~np.isin(ids, self._dead)
        memory = Memory(ids[live], embeddings[live])
        proposals = [
            np.concatenate([memory.propose(query, k), self._fresh.propose(query, k)])
            for query in queries
        ]
        return proposals, np.full(len(queries), -np.inf, np.float32)

    def _propose(self, queries: Floats, k: int, count: int) -> Proposals:
        """`count` ids per query from the file and all that matter from memory."""
        left_out = np.full(len(queries), -np.inf, np.float32)
        proposals = [self._fresh.propose(query, k) for query in queries]
        if self._published:
            count = min(count, self._mapped)
            near, found = propose(self._published, queries, count, self._dead)
            proposals = [np.append(a, b) for a, b in zip(proposals, found, strict=True)]
            if count < self._mapped:
                left_out = near[:, -1]
        return proposals, left_out

    def _best(
        self, queries: Floats, k: int, proposals: list[Ids], left_out: Floats
    ) -> tuple[Floats, Ids, NDArray[np.bool_]]:
        """The best `k` of the proposals, and for which queries nothing left out can be better."""
        stored, embeddings = self._library.embeddings_of(
            self._model, np.unique(np.concatenate(proposals)).tolist()
        )
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        for row, query in enumerate(queries):
            at = np.flatnonzero(np.isin(stored, proposals[row]))
            score = rescore(query, embeddings[at])
            best = np.lexsort((stored[at], -score))[:k]
            scores[row, : len(best)], ids[row, : len(best)] = score[best], stored[at][best]
        return scores, ids, scores[:, -1] > left_out + _MARGIN

    def _rows_of(self, upto: int) -> list[tuple[int, bytes]]:
        with self._library.read() as session:
            return embedding_rows(session, self._model, upto)


def _unit(queries: NDArray[np.float32], dim: int) -> Floats:
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise QueryError(f"queries of shape {queries.shape} against embeddings of {dim} numbers")
    norms = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise QueryError("a query embedding is zero or not finite")
    return np.ascontiguousarray(queries / norms, np.float32)
