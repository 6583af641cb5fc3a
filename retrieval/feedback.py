"""A query turned towards the pictures that were right, and away from those that were wrong.

Rocchio's feedback: the query, plus a share of the mean of the liked, less a share of the mean of
the disliked. Each part counts by how far its scores spread in the library, as terms of a query do.
What is wrong counts only beside something that is right: alone it made the other hits worse.
Source: Rocchio, Relevance feedback in information retrieval (1971). `docs/querying.md` says how the
shares were chosen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LIKED = 0.5
DISLIKED = 0.3

Floats = NDArray[np.float32]


def turned(
    vectors: Floats,
    liked: Floats,
    disliked: Floats,
    background: Floats,
    *,
    shares: tuple[float, float] = (LIKED, DISLIKED),
) -> Floats:
    """Return the query vectors `[P, D]` after feedback, of length 1; as they are without any liked.

    `liked` `[L, D]` and `disliked` `[M, D]` are embeddings, `background` `[n, D]` is a sample of
    the library. `shares` weigh the liked and the disliked against the query.
    """
    if not len(liked):
        return vectors
    moved = np.stack([_standard(vector, background) for vector in vectors])
    moved += shares[0] * _standard(mean_of(liked), background)
    if len(disliked):
        moved -= shares[1] * _standard(mean_of(disliked), background)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    # Opposites that cancel each other out leave no direction: then the query stays as it was.
    unit: Floats = np.where(lengths > 1e-6, moved / np.maximum(lengths, 1e-6), vectors)
    return unit.astype(np.float32)


def mean_of(embeddings: Floats) -> NDArray[np.float64]:
    """The mean `[D]` of embeddings `[n, D]`, each counting the same whatever its length."""
    rows = embeddings.astype(np.float64)
    mean: NDArray[np.float64] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0)
    return mean


def _standard(vector: NDArray[np.floating[Any]], background: Floats) -> NDArray[np.float64]:
    """The vector so scaled that its scores spread by 1 over the background."""
    exact = vector.astype(np.float64)
    spread = float((background @ exact).std()) if len(background) > 1 else 0.0
    return exact / (spread if spread > 1e-9 else np.linalg.norm(exact) or 1.0)
