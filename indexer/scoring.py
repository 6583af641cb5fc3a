"""The scores of candidates: whatever proposes them, they come from the embeddings in the truth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.blocks import (
    BLOCK,
    Block,
    Floats,
    Ids,
    blocks,
    distinct,
    is_in,
    live_rows,
)
from rwkvsearch.indexer.library import Library, ModelInfo


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
    scores = np.full((len(queries), k), -np.inf, np.float32)
    ids = np.full((len(queries), k), -1, np.int64)
    for row, query in enumerate(queries):
        at = np.flatnonzero(is_in(stored, distinct(proposals[row])))
        score = rescore(query, embeddings[at])
        best = np.lexsort((stored[at], -score))[:k]
        scores[row, : len(best)], ids[row, : len(best)] = score[best], stored[at][best]
    return scores, ids


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
