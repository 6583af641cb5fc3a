"""How far down the right answers come: recall, median and mean rank, MRR and their intervals.

A rank is 1 for a query whose best right answer comes first. Right answers do not stand in each
other's way: only wrong ones above the best right one count. How a wrong answer with the same
score counts is the tie policy, see `metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import ModelError

Ties = Literal["pessimistic", "strict"]
TIES: tuple[Ties, ...] = get_args(Ties)
Direction = Literal["text_to_image", "image_to_text"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
Floats = NDArray[np.floating[Any]]
Scores = NDArray[np.float32]
Ids = NDArray[np.int64]

COSINE_ROUNDING = 1e-6
"""Cosines closer than this are ties: a float32 product of equal rows varies by its position."""
KS = (1, 5, 10)
ENTRIES = 1 << 21
"""Scores that exist at a time; with what is computed of them they take 9 bytes each, 19 MB."""
REPLICATES = 1000
_AT_ONCE = 50  # replicates


@dataclass(frozen=True)
class Ranks:
    """The rank of every caption `[M]` and of every image `[I]` of a set under one tie policy.

    `caption_image[m]` is the image that caption m describes.
    """

    text_to_image: Ids
    image_to_text: Ids
    caption_image: Ids


@dataclass(frozen=True)
class Figures:
    """Of one direction: `recall` in percent keyed `R@1`, ..., ranks from 1, `mrr` from 0 to 1."""

    recall: dict[str, float]
    median_rank: float
    mean_rank: float
    mrr: float


Both = dict[Direction, Figures]
Intervals = dict[Direction, dict[str, tuple[float, float]]]
"""Of every recall of a direction, in percent."""


def rank_pairs(
    image_embeddings: Floats,
    text_embeddings: Floats,
    caption_image: Ids,
    *,
    block: int | None = None,
) -> dict[Ties, Ranks]:
    """The ranks of `[I, D]` image and `[M, D]` text embeddings, L2-normalised, by tie policy.

    `caption_image[m]` is the row of the image that caption m describes; every image has at least
    one caption, not necessarily the same number. Scores are float32 and exist for `block` queries
    at a time, None: for as many as make `ENTRIES` scores, so that memory does not grow with
    I * M.

    Raises `ModelError` for embeddings that are not finite, `ValueError` for shapes that do not fit.
    """
    images, texts = finite(image_embeddings), finite(text_embeddings)
    if images.shape[1] != texts.shape[1]:
        raise ValueError(f"image embeddings {images.shape} and text embeddings {texts.shape}")
    image_ids = checked_ids(caption_image, len(images), len(texts))
    margins = [margin(ties, COSINE_ROUNDING) for ties in TIES]
    found = _above(lambda q: texts[q] @ images.T, caption_image, image_ids, margins, block)
    finds = _above(lambda q: images[q] @ texts.T, image_ids, caption_image, margins, block)
    return {t: Ranks(found[n] + 1, finds[n] + 1, caption_image) for n, t in enumerate(TIES)}


def rank_scores(scores: Floats, caption_image: Ids) -> dict[Ties, Ranks]:
    """The same from a matrix of scores `[I, M]`, where only equal scores are ties."""
    table = finite(scores)
    image_ids = checked_ids(caption_image, *table.shape)
    margins = [margin(ties, 0.0) for ties in TIES]
    found = _above(lambda q: table.T[q], caption_image, image_ids, margins)
    finds = _above(lambda q: table[q], image_ids, caption_image, margins)
    return {t: Ranks(found[n] + 1, finds[n] + 1, caption_image) for n, t in enumerate(TIES)}


def figures(ranks: Ranks, ks: Sequence[int] = KS) -> Both:
    """What is said of the ranks, in both directions."""
    return {direction: _figures(getattr(ranks, direction), ks) for direction in DIRECTIONS}


def shares(ranks: Ids, ks: Sequence[int], key: str = "R@{}") -> dict[str, float]:
    """Percentage of the `ranks` that are at most k, for every k."""
    if not ks or min(ks) < 1:
        raise ValueError(f"ks must be positive, got {tuple(ks)}")
    return {key.format(k): 100.0 * float(np.mean(ranks <= k)) for k in ks}


def bootstrap(ranks: Ranks, ks: Sequence[int] = KS, *, replicates: int = REPLICATES) -> Intervals:
    """95 % intervals of the recalls, from sets whose images are drawn anew out of those there are.

    An image is drawn with all of its captions, which are alike and no independent questions; the
    gallery stays what it is. The same ranks have the same intervals.
    """
    images = len(ranks.image_to_text)
    per_image = np.bincount(ranks.caption_image, minlength=images)
    hits = [np.stack([ranks.image_to_text <= k for k in ks], 1).astype(np.float64)]
    found = [np.bincount(ranks.caption_image, ranks.text_to_image <= k, images) for k in ks]
    columns = np.concatenate([np.stack(found, 1), *hits, per_image[:, None]], axis=1)
    random = np.random.default_rng(0)
    sums = []
    for start in range(0, replicates, _AT_ONCE):
        size = min(_AT_ONCE, replicates - start)
        sums.append(random.multinomial(images, np.full(images, 1 / images), size) @ columns)
    drawn = np.concatenate(sums)
    shares_of = {
        "text_to_image": drawn[:, : len(ks)] / drawn[:, -1:],
        "image_to_text": drawn[:, len(ks) : -1] / images,
    }
    return {d: _bounds(100 * shares_of[d], ks) for d in DIRECTIONS}


def in_folds(
    image_embeddings: Floats, text_embeddings: Floats, caption_image: Ids, folds: int
) -> dict[Ties, Both]:
    """The means over `folds` parts of the images, in their order, each a gallery of its own.

    COCO's test set of 5,000 images in five folds gives the figures that are called 1K.
    """
    if not 1 <= folds <= len(image_embeddings):
        raise ValueError(f"{folds} folds of {len(image_embeddings)} images")
    parts: list[dict[Ties, Both]] = []
    for rows in np.array_split(np.arange(len(image_embeddings)), folds):
        own = np.isin(caption_image, rows)
        texts = text_embeddings[own]
        ranked = rank_pairs(image_embeddings[rows], texts, caption_image[own] - rows[0])
        parts.append({ties: figures(ranked[ties]) for ties in TIES})
    return {
        ties: {d: _mean([part[ties][d] for part in parts]) for d in DIRECTIONS} for ties in TIES
    }


def margin(ties: Ties, rounding: float) -> float:
    """The least lead over the right answer that puts a wrong one above it."""
    if ties == "pessimistic":
        return -rounding
    return float(np.nextafter(np.float32(rounding), np.float32(1)))


def finite(array: Floats) -> Scores:
    """A matrix as float32; `ModelError` if a number in it is none."""
    if array.ndim != 2:
        raise ValueError(f"expected a matrix, got shape {array.shape}")
    table = np.asarray(array, dtype=np.float32)
    if not np.isfinite(table).all():
        raise ModelError("the embeddings are not finite: the weights of the model are damaged")
    return table


def checked_ids(caption_image: Ids, images: int, captions: int) -> Ids:
    """The rows of the images; `ValueError` if one of them has no caption."""
    if caption_image.shape != (captions,):
        raise ValueError(f"{captions} captions, but caption_image has shape {caption_image.shape}")
    if not np.array_equal(np.unique(caption_image), np.arange(images)) or not images:
        raise ValueError(f"caption_image must name each of the images 0..{images - 1}")
    return np.arange(images)


def _above(
    score_rows: Callable[[slice], Scores],
    query_ids: Ids,
    gallery_ids: Ids,
    margins: Sequence[float],
    block: int | None = None,
) -> Ids:
    """The number of wrong answers above the best right one, for each margin and query `[m, Q]`.

    A gallery row is right for a query with the same id; every query has one. `score_rows(rows)`
    gives `[rows, G]`.
    """
    order = np.argsort(gallery_ids, kind="stable")
    first = np.searchsorted(gallery_ids[order], query_ids)
    number = np.searchsorted(gallery_ids[order], query_ids, side="right") - first
    block = block or max(1, ENTRIES // len(gallery_ids))
    above = np.empty((len(margins), len(query_ids)), dtype=np.int64)
    for start in range(0, len(query_ids), block):
        rows = slice(start, start + block)
        scores = score_rows(rows)
        starts = np.cumsum(number[rows]) - number[rows]
        row = np.repeat(np.arange(len(scores)), number[rows])
        nth = np.arange(len(row)) - starts[row]
        right = scores[row, order[first[rows][row] + nth]]
        best = np.maximum.reduceat(right, starts)
        lead = scores - best[:, None]
        for n, least in enumerate(margins):
            own = np.add.reduceat((right - best[row] >= least).astype(np.int64), starts)
            above[n, rows] = np.count_nonzero(lead >= least, axis=1) - own
    return above


def _figures(ranks: Ids, ks: Sequence[int]) -> Figures:
    return Figures(
        shares(ranks, ks), float(np.median(ranks)), float(ranks.mean()), float((1 / ranks).mean())
    )


def _mean(parts: Sequence[Figures]) -> Figures:
    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    return Figures(
        {name: mean([part.recall[name] for part in parts]) for name in parts[0].recall},
        mean([part.median_rank for part in parts]),
        mean([part.mean_rank for part in parts]),
        mean([part.mrr for part in parts]),
    )


def _bounds(drawn: NDArray[np.float64], ks: Sequence[int]) -> dict[str, tuple[float, float]]:
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return {f"R@{k}": (float(low[n]), float(high[n])) for n, k in enumerate(ks)}
