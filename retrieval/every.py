"""The best images by their weakest term, proven without looking at all of them.

Each term gives its best images in order. An image that is in none of these lists is, for each term,
no better than the last of its list, so its weakest standing is at most the lowest of those last
ones; once the k-th best seen is above that, nothing unseen can change the answer.
Source: the threshold algorithm of Fagin, Lotem and Naor (PODS 2001), for the minimum.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FIRST = 256
GROWTH = 4

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Search = Callable[[int], tuple[Floats, Ids]]
"""The best n images of each term: scores and ids `[T, n]`, fewer columns if there are fewer."""
Scores = Callable[[Ids], tuple[Ids, Floats]]
"""Images that are there, and their scores `[T, m]` for all terms."""
Standings = Callable[[Floats], Floats]
"""Scores `[T, m]` to what can be compared among terms, growing with them."""


def best_by_weakest(
    search: Search, scores_of: Scores, standings: Standings, k: int
) -> tuple[Floats, Ids]:
    """Return the scores `[T, k]` and ids `[k]` of the best images, equal ones by id.

    The scores are those of each term; the order is that of the lowest standing among them. As exact
    as `search`.
    """
    depth = max(FIRST, 4 * k)
    while True:
        last, ids = search(depth)
        seen, scores = scores_of(np.unique(ids))
        weakest = standings(scores).min(axis=0)
        order = np.lexsort((seen, -weakest))[:k]
        everything = ids.shape[1] < depth
        if everything or len(order) == k and _is_proven(weakest[order[-1]], last, standings):
            return scores[:, order], seen[order]
        depth *= GROWTH


def _is_proven(kth: float, last: Floats, standings: Standings) -> bool:
    return bool(kth > standings(last[:, -1:]).min())
