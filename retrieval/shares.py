"""How sure a share of pictures is: 95 % bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
LEVELS = (0.025, 0.975)

Interval = tuple[float, float]


def share_interval(right: NDArray[np.bool_]) -> Interval:
    """95 % bootstrap interval, percent, of the share that is true among pictures.

    Drawing pictures with replacement draws a binomial number of right ones, so nothing but that
    number is drawn.
    """
    random = np.random.default_rng(0)
    return _interval(random.binomial(len(right), right.mean(), DRAWS) / len(right))


def mean_interval(rights: Sequence[NDArray[np.bool_]]) -> Interval:
    """The same of the mean over classes of their shares; pictures are drawn within their class."""
    random = np.random.default_rng(0)
    total = np.zeros(DRAWS)
    for right in rights:
        total += random.binomial(len(right), right.mean(), DRAWS) / len(right)
    return _interval(total / len(rights))


def _interval(shares: NDArray[np.float64]) -> Interval:
    low, high = 100 * np.quantile(shares, LEVELS)
    return float(low), float(high)
