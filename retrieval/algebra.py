"""Several terms as one query vector, and scores of several queries made comparable.

A term's weight counts in standard deviations of its scores in the library, so that it means the
same for words, whose cosines lie close together, and for pictures. What is not wanted is
subtracted, at half its weight: more loses what is wanted, and orthogonal projection leaves more of
what is not. Measured by `algebra_bench.py`, see docs/querying.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import QueryError

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

PENALTY = 0.5
"""What a negative weight counts, against a positive one."""
_FLAT = 1e-6
"""A smaller standard deviation is rounding: of one picture, or of equal ones."""
_NOTHING = 1e-3
"""A sum shorter than this share of its parts has cancelled out."""


def combine(embeddings: Floats, weights: NDArray[np.floating[Any]], background: Floats) -> Floats:
    """The query vector `[D]` of terms `[T, D]` with `weights` `[T]`, all of length 1.

    `background` `[n, D]` is a sample of the library.

    Raises:
        QueryError: the terms cancel each other out.
    """
    terms = embeddings.astype(np.float64)
    most = np.abs(weights).max()  # only ratios count: so no weight is too large
    if len(terms) > 1:
        spreads = _spreads(terms @ background.T.astype(np.float64))
    else:
        spreads = np.ones(1)  # a length is all that it would change
    shares = weights / most / spreads
    vector = np.where(weights < 0, PENALTY * shares, shares) @ terms
    short = _NOTHING * np.abs(shares).sum()
    if min(np.linalg.norm(vector), np.linalg.norm(shares @ terms)) <= short:
        raise QueryError("the terms of the query cancel each other out: nothing is left to find")
    unit: Floats = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit


def standings(scores: Floats, usual: Floats) -> Floats:
    """Scores `[P, n]` in standard deviations above the mean of those of a sample `[P, m]`."""
    means = usual.mean(axis=1, dtype=np.float64, keepdims=True)
    standing: Floats = ((scores - means) / _spreads(usual)[:, None]).astype(np.float32)
    return standing


def scores_at(standing: Floats, usual: Floats) -> Floats:
    """The scores `[P, n]` of which each has the `standing` `[n]`."""
    means = usual.mean(axis=1, dtype=np.float64, keepdims=True)
    scores: Floats = (means + _spreads(usual)[:, None] * standing).astype(np.float32)
    return scores


def _spreads(scores: NDArray[np.floating[Any]]) -> Doubles:
    """The standard deviation of each row, above 0: of a flat one it is that of the others."""
    if not scores.shape[1]:
        return np.ones(len(scores))
    spreads: Doubles = scores.std(axis=1, dtype=np.float64)
    flat = spreads < _FLAT
    return np.where(flat, spreads[~flat].mean() if not flat.all() else 1.0, spreads)
