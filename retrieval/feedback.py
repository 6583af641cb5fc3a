"""A query turned towards the pictures that were right, and away from those that were wrong.

Rocchio's feedback: the query, plus a share of the mean of the liked, less a share of the mean of
the disliked. Each part counts by how far its scores spread in the library, as terms of a query do.
Source: Rocchio, Relevance feedback in information retrieval (1971). `docs/querying.md` says how the
shares were chosen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LIKED = 0.75
DISLIKED = 0.15

Floats = NDArray[np.float32]


def turned(
    vectors: Floats,
    liked: Floats,
    disliked: Floats,
    background: Floats,
    *,
    shares: tuple[float, float] = (LIKED, DISLIKED),
) -> Floats:
    """Return the query vectors `[P, D]` after feedback, of length 1; as they are without any.

    `liked` `[L, D]` and `disliked` `[M, D]` are embeddings, `background` `[n, D]` is a sample
    of the library. `shares` weigh the liked and the disliked against the query.
    """
    parts = [
        share * _standard(_mean(group), background)
        for share, group in zip((shares[0], -shares[1]), (liked, disliked), strict=True)
        if len(group)
    ]
    if not parts:
        return vectors
    moved = np.stack([_standard(vector, background) for vector in vectors]) + sum(parts)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    # Opposites that cancel each other out leave no direction: then the query stays as it was.
    return np.where(lengths > 1e-6, moved / np.maximum(lengths, 1e-6), vectors).astype(np.float32)


def _mean(embeddings: Floats) -> NDArray[np.float64]:
    rows = embeddings.astype(np.float64)
    mean: NDArray[np.float64] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0)
    return mean


def _standard(vector: NDArray[np.floating], background: Floats) -> NDArray[np.float64]:
    """The vector so scaled that its scores spread by 1 over the background."""
    spread = float((background @ vector).std()) if len(background) > 1 else 0.0
    exact = vector.astype(np.float64)
    length = float(np.linalg.norm(exact))
    if spread > 1e-9:
        return exact / spread
    return exact / length if length else exact
