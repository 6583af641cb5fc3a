"""The scores of candidates, whatever proposes them: from the embeddings in the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.blocks import (
    BLOCK,
    MARGIN,
    Block,
    Floats,
    Ids,
    best_of,
    blocks,
    distinct,
    is_in,
    joined,
    live_rows,
    newest_embedding,
)
from rwkvsearch.indexer.library import Library, ModelInfo

Proposals = tuple[list[Ids], Floats]
"""Candidates of each query, and the rough score above which nothing was left out; -inf: none."""
Step = Callable[[Floats, int], Proposals]
"""Proposes candidates for the best `k` of unit queries `[Q, D]`."""


def rescore(query: NDArray[np.float32], embeddings: NDArray[np.float16]) -> NDArray[np.float32]:
    """Cosine `[m]` of a `query` `[D]` with stored `embeddings` `[m, D]`, whatever their lengths.

    The sums run in float64, so that the float32 result does not depend on how many rows there are.
    """
    rows, one = embeddings.astype(np.float64), query.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(one)
    scores: NDArray[np.float32] = (rows @ one / lengths).astype(np.float32)
    return scores


def best_proposed(
    library: Library, model: ModelInfo, queries: Floats, k: int, proposals: list[Ids]
) -> tuple[Floats, Ids]:
    """Of the image ids proposed for each query the best `k` that are live: scores and ids `[Q, k]`.

    Best first, equal scores by image id; -inf and -1 fill up.
    """
    with library.read() as session:
        rows = live_rows(session, model, distinct(np.concatenate(proposals)))
    stored, embeddings = library.unpack(rows, model.dim)
    scores, ids = nothing_found(len(queries), k)
    for row, query in enumerate(queries):
        at = np.flatnonzero(is_in(stored, distinct(proposals[row])))
        score = rescore(query, embeddings[at])
        best = np.lexsort((stored[at], -score))[:k]
        scores[row, : len(best)], ids[row, : len(best)] = score[best], stored[at][best]
    return scores, ids


def best_by_steps(
    library: Library,
    model: ModelInfo,
    queries: NDArray[np.float32],
    unit: Floats,
    k: int,
    steps: Iterable[Step],
    *,
    exact: bool,
) -> tuple[Floats, Ids]:
    """The `k` best images of each query `[Q, D]`, by one step after another until it is enough.

    That is when the scores prove it, for an `exact` index, else when there are `k`. `unit` are the
    queries by `unit_queries`.
    """
    scores, ids = nothing_found(len(unit), k)
    todo = np.arange(len(unit) if k else 0)
    for step in steps:
        if not todo.size:
            break
        proposals, left_out = step(unit[todo], k)
        scores[todo], ids[todo] = best_proposed(library, model, queries[todo], k, proposals)
        sure = scores[todo, -1] > left_out + MARGIN if exact else ids[todo, -1] >= 0
        todo = todo[~sure]
    return as_found(scores, ids)


def nothing_found(queries: int, k: int) -> tuple[Floats, Ids]:
    """Scores and ids `[Q, k]` to be filled."""
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64)


def as_found(scores: Floats, ids: Ids) -> tuple[Floats, Ids]:
    """Without the places for which nothing was found.

    Every query has met all there is if one has met less than k.
    """
    there = int((ids >= 0).sum(axis=1).min(initial=ids.shape[1]))
    return scores[:, :there], ids[:, :there]


def every_one(
    library: Library, model: ModelInfo, upto: int, allowed: Ids | None, queries: Floats, k: int
) -> Proposals:
    """From the truth alone, whatever an index says; arguments as `live_blocks` and `best_of`."""
    found = best_of(live_blocks(library, model, upto, allowed), queries, k)
    return [ids for ids, _ in found], np.full(len(queries), -np.inf, np.float32)


class Fresh:
    """The live images that an index does not hold: newer than `after`, or left out and back.

    `newest` is the embedding up to which the library was looked at.
    """

    def __init__(self, library: Library, model: ModelInfo, after: int, left_out: Ids) -> None:
        with library.read() as session:
            self.newest = newest_embedding(session, model)
            back = live_rows(session, model, left_out) if len(left_out) else []
        newer = blocks(library, model, after=after, upto=self.newest, live=True)
        self._ids, self._embeddings = joined([*newer, library.unpack(back, model.dim)])

    def __len__(self) -> int:
        """How many there are."""
        return len(self._ids)

    def propose(self, queries: Floats, k: int, allowed: Ids | None) -> list[Ids]:
        """Of each unit query those that can be among its `k` best, of `allowed` if given."""
        ids, embeddings = self._ids, self._embeddings
        if allowed is not None:
            wanted = is_in(ids, allowed)
            ids, embeddings = ids[wanted], embeddings[wanted]
        return [found for found, _ in best_of([(ids, embeddings)], queries, k)]


def live_blocks(
    library: Library, model: ModelInfo, upto: int, allowed: Ids | None
) -> Iterator[Block]:
    """The live images with an embedding id up to `upto`, or of the distinct ids `allowed`."""
    if allowed is None:
        yield from blocks(library, model, upto=upto, live=True)
        return
    for start in range(0, len(allowed), BLOCK):
        with library.read() as session:
            rows = live_rows(session, model, allowed[start : start + BLOCK])
        yield library.unpack(rows, model.dim)


def unit_queries(queries: NDArray[np.float32], dim: int) -> Floats:
    """The queries `[Q, D]`, each of length 1.

    Raises:
        QueryError: they have another dimension than `dim`, or one has no direction.
    """
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise QueryError(f"queries of shape {queries.shape} against embeddings of {dim} numbers")
    norms = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise QueryError("a query embedding is zero or not finite")
    return np.ascontiguousarray(queries / norms, np.float32)
