"""How unusual a score is for this library: is what was asked for here at all?

Scores of different queries mean different things, so a score is compared with what arbitrary
queries of the same make reach in this very library: neutral captions for words, other pictures of
the library for pictures, sums of them for a query of several terms. A logistic function of how far
it lies above their best scores gives the confidence. What was measured: docs/querying.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LIKELY = 0.5
"""Below this confidence of the best hit there is no confident match."""
NULLS = 256
"""Arbitrary queries that a score is compared with, at most."""
SAME = 0.95
"""Pictures with a cosine above are versions of one picture. Source: near_duplicates.py."""
_MEDIAN = math.log(2)
_ROUNDING = 0.01
"""Added to one minus a cosine, so that of a copy the last digits do not count."""


class Curve(NamedTuple):
    """Confidence is `1 / (1 + exp(-(slope * lead + offset)))`."""

    slope: float
    offset: float


TEXT = Curve(0.55, -0.53)
PICTURE = Curve(1.41, -2.04)
"""Fitted on Flickr8k val with the starter model, in bf16: `calibration --split val --fit`."""


class Norm(NamedTuple):
    """Best scores that arbitrary queries reach, in the scale of `stretch`."""

    middle: float
    spread: float


_PICTURE_PRIOR = Norm(0.9, 0.35)
_PRIOR_WEIGHT = 4
"""As many pictures as the prior counts for: of a few pictures little can be said."""
_LEAST_SPREAD = 0.01
_TAIL = 20
"""The upper tail is the best one in so many scores."""


@dataclass(frozen=True)
class _Nulls:
    """Scores of arbitrary queries over the sample `[q, n]`, best first, and how many count."""

    scores: Floats
    counts: NDArray[np.int64]


class Confidence:
    """Turns the scores of one library and model into confidences. Safe among threads."""

    def __init__(self, background: Floats, neutral: Floats) -> None:
        """`background` `[n, D]` is a sample of the library, `neutral` `[m, D]` of texts, unit."""
        self._background = background
        self._neutral = neutral
        self._known: dict[tuple[int, int], _Nulls] = {}
        self._norms: dict[tuple[int, int, int], Norm] = {}

    def of(
        self, scores: Floats, images: int, *, texts: int = 1, pictures: int = 0
    ) -> NDArray[np.float64]:
        """The confidence of each score `[k]`, 0 to 1; it grows with the score.

        `images` is the number that were searched, `texts` and `pictures` say how many of the
        query's positive terms are words and pictures.
        """
        if not len(scores):
            return np.empty(0)
        norm = self.norm(images, texts, pictures)
        lead = (stretch(np.asarray(scores, np.float64)) - norm.middle) / norm.spread
        share = pictures / (texts + pictures)
        slope = TEXT.slope + share * (PICTURE.slope - TEXT.slope)
        offset = TEXT.offset + share * (PICTURE.offset - TEXT.offset)
        confidence: NDArray[np.float64] = 1 / (1 + np.exp(-(slope * lead + offset)))
        return confidence

    def norm(self, images: int, texts: int = 1, pictures: int = 0) -> Norm:
        """What arbitrary queries of this make reach among so many images."""
        key = images, texts, pictures
        if key not in self._norms:
            self._norms[key] = self._norm(images, texts, pictures)
        return self._norms[key]

    def _norm(self, images: int, texts: int, pictures: int) -> Norm:
        nulls = self._known.get((texts, pictures))
        if nulls is None:
            nulls = self._known[texts, pictures] = self._nulls(texts, pictures)
        tops = stretch(_best_of(nulls, max(images, 1)))
        prior = _PRIOR_WEIGHT if pictures or not len(tops) else 0
        share = len(tops) / (len(tops) + prior)
        middle, low = np.quantile(tops, [0.5, 0.16]) if len(tops) else _PICTURE_PRIOR
        spread = math.hypot(
            math.sqrt(share) * (middle - low), math.sqrt(1 - share) * _PICTURE_PRIOR.spread
        )
        middle = share * middle + (1 - share) * _PICTURE_PRIOR.middle
        return Norm(float(middle), max(spread, _LEAST_SPREAD))

    def _nulls(self, texts: int, pictures: int) -> _Nulls:
        """Sums of so many neutral captions and pictures; their own pictures do not count."""
        random = np.random.default_rng(0)
        pools = [(self._neutral, texts), (self._background, pictures)]
        number = min([NULLS, *(len(pool) for pool, each in pools if each)])
        words, own = (_drawn(random, len(pool), number, each) for pool, each in pools)
        queries = self._neutral[words].sum(axis=1) + self._background[own].sum(axis=1)
        queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-9)
        scores = queries @ self._background.T
        for column in own.T:
            scores[self._background[column] @ self._background.T > SAME] = -np.inf
        scores = -np.sort(-scores, axis=1)
        counts = np.isfinite(scores).sum(axis=1)
        return _Nulls(scores[counts > 0], counts[counts > 0])


def _drawn(random: np.random.Generator, size: int, number: int, each: int) -> NDArray[np.int64]:
    """`[number, each]` of `0..size-1`, no column with one twice."""
    columns = [random.permutation(size)[:number] for _ in range(each)]
    return np.array(columns, np.int64).reshape(each, number).T


def _best_of(nulls: _Nulls, images: int) -> NDArray[np.float64]:
    """The median best score of each query among so many images `[q]`.

    Among fewer than in the sample it is the score at a rank; for more it goes on as the upper tail
    of a normal distribution, fitted to all queries at once.
    """
    rows = np.arange(len(nulls.scores))
    rank = np.maximum(nulls.counts * _MEDIAN / images, 1.0)
    low = np.minimum(rank.astype(np.int64), nulls.counts)
    high = np.minimum(low + 1, nulls.counts)
    above, below = nulls.scores[rows, low - 1], nulls.scores[rows, high - 1]
    best: NDArray[np.float64] = above + (rank - low) * (below - above).astype(np.float64)
    sample = nulls.scores.shape[1]
    long = nulls.counts >= sample // _TAIL  # of a picture with many versions too few count
    if images <= sample or sample < _TAIL or not long.any():
        return best
    steps = _height(1 / _TAIL) - _height(_MEDIAN / sample)
    tail = np.mean(nulls.scores[long, sample // _TAIL - 1] - nulls.scores[long, 0]) / steps
    further = float(tail) * (_height(_MEDIAN / images) - _height(_MEDIAN / sample))
    beyond: NDArray[np.float64] = best + further
    return beyond


def _height(share: float) -> float:
    """Standard deviations above the mean beyond which so large a share lies."""
    return NormalDist().inv_cdf(1 - share)


def stretch(cosine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spread out what is near 1, so that a copy stands off from what is merely alike."""
    stretched: NDArray[np.float64] = -np.log1p(_ROUNDING - np.minimum(cosine, 1.0))
    return stretched


@cache
def neutral_captions() -> tuple[str, ...]:
    """Captions of arbitrary pictures, to be embedded by the model of the library."""
    file = files("rwkvsearch.data") / "vocabulary" / "neutral_captions.txt"
    return tuple(file.read_text(encoding="utf-8").splitlines())
