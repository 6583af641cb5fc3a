"""Recall of a model on a captioned set: as it is, through a library, and with scaled decoding.

The figures of the model come from its float32 embeddings and every score between them, with
pictures decoded fully. What storing, searching and decoding as `rwkvsearch index` and `query` do
costs is measured on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.captions import CaptionedImage, CaptionSet
from rwkvsearch.data.images import read_picture
from rwkvsearch.indexer.ann.kinds import Kind, Search
from rwkvsearch.indexer.ann.loose import Answers, check_rows, search_loose
from rwkvsearch.retrieval.benchmark import BATCH, Progress, embed_images, embed_texts
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.ranks import (
    COSINE_ROUNDING,
    KS,
    Both,
    Direction,
    Ids,
    Intervals,
    Ranks,
    Ties,
    bootstrap,
    figures,
    in_folds,
    margin,
    rank_pairs,
    shares,
)

Floats = NDArray[np.float32]
Recalls = dict[Direction, dict[str, float]]
"""Percent, keyed `R@1`, ... by direction."""


@dataclass(frozen=True)
class Searched:
    """Through a library: by an exact search, and by an ann of a kind, each with a FAISS string.

    There is one ann over the pictures and one over the captions.
    """

    exact: Recalls
    ann: Recalls
    kind: str
    how: dict[Direction, tuple[str, Search]]


@dataclass(frozen=True)
class Scaled:
    """With decoding as `rwkvsearch index` has it; `pictures` is how many came out smaller."""

    recall: Recalls
    pictures: int


@dataclass(frozen=True)
class Folds:
    """Means over `number` parts of `images` images each, by tie policy."""

    number: int
    images: int
    figures: dict[Ties, Both]


@dataclass(frozen=True)
class RecallResult:
    """Everything measured of one model; `per_image` is the least and the most captions of one.

    `figures` and the 95 % `intervals`, which are of the pessimistic ones, need no library;
    `curve` has the pessimistic recall at other k, `chance` what an order by chance would have.
    """

    images: int
    captions: int
    per_image: tuple[int, int]
    prefix: str
    figures: dict[Ties, Both]
    intervals: Intervals
    curve: dict[Direction, list[tuple[int, float]]]
    chance: dict[Direction, list[tuple[int, float]]]
    scaled: Scaled
    searched: Searched | None = None
    folds: Folds | None = None


def measure_recall(
    encoder: Encoder,
    captions: CaptionSet,
    prefix: str,
    progress: Progress,
    *,
    ann: Kind | None = None,
    folds: int | None = None,
) -> RecallResult:
    """Embed every image and caption of a set and rank each against the other.

    `prefix` is put before every caption. With `ann` the search through a library is measured too,
    with `folds` the mean over so many parts of the set.

    Raises:
        ImageError: a picture of the set cannot be read.
        LibraryError: the ann cannot be made.
    """
    if ann:
        check_rows(ann, len(captions.images))
    texts = [prefix + caption for item in captions.images for caption in item.captions]
    counts = np.array([len(item.captions) for item in captions.images])
    owner = np.repeat(np.arange(len(counts)), counts)
    images = embed_images(encoder, (item.source() for item in captions.images), progress)
    words = embed_texts(encoder, texts, progress)
    ranks = rank_pairs(images, words, owner)
    return RecallResult(
        images=len(images),
        captions=len(texts),
        per_image=(int(counts.min()), int(counts.max())),
        prefix=prefix,
        figures={ties: figures(one) for ties, one in ranks.items()},
        intervals=bootstrap(ranks["pessimistic"]),
        curve=_curves(ranks["pessimistic"]),
        chance=_chances(counts),
        scaled=_scaled(encoder, captions.images, images, words, owner),
        searched=_searched(images, words, owner, ann) if ann else None,
        folds=_folds(images, words, owner, folds) if folds else None,
    )


def embed_scaled(
    encoder: Encoder, images: Sequence[CaptionedImage], embeddings: Floats
) -> tuple[Floats, int]:
    """The `embeddings` `[I, D]` of fully decoded images as scaled decoding makes them.

    And of how many pictures it decodes less; only those are embedded again.
    """

    def prepare(item: CaptionedImage) -> Floats | None:
        picture = read_picture(item.source(), min_side=encoder.image_size)
        whole = picture.image.size == (picture.width, picture.height)
        return None if whole else encoder.preprocess(picture.image)

    found, number = embeddings.copy(), 0
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(images), BATCH):
            pixels = list(pool.map(prepare, images[start : start + BATCH]))
            smaller = [n for n, one in enumerate(pixels) if one is not None]
            if smaller:
                part = np.stack([one for one in pixels if one is not None])
                found[start + np.array(smaller)] = encoder.encode_pixels(part)
                number += len(smaller)
    return found, number


def found_recall(answers: Answers, query_ids: Ids, gallery_ids: Ids) -> dict[str, float]:
    """Recall, ties pessimistic, of what a search of at least `max(KS)` hits has found.

    A row of the gallery is right for a query with the same id.
    """
    there = answers.rows >= 0
    right = there & (gallery_ids[answers.rows] == query_ids[:, None])
    best = np.where(right, answers.scores, -np.inf).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # nothing right is found: -inf less -inf
        lead = answers.scores - best
    above = (there & ~right & (lead >= margin("pessimistic", COSINE_ROUNDING))).sum(axis=1)
    return shares(np.where(right.any(axis=1), above + 1, max(KS) + 1), KS)


def _searched(images: Floats, texts: Floats, owner: Ids, kind: Kind) -> Searched:
    numbers = np.arange(len(images))
    pictures = search_loose(images, texts, max(KS), kind)
    words = search_loose(texts, images, max(KS), kind)
    return Searched(
        exact={
            "text_to_image": found_recall(pictures.exact, owner, numbers),
            "image_to_text": found_recall(words.exact, numbers, owner),
        },
        ann={
            "text_to_image": found_recall(pictures.ann, owner, numbers),
            "image_to_text": found_recall(words.ann, numbers, owner),
        },
        kind=kind.name,
        how={
            "text_to_image": (pictures.factory, pictures.search),
            "image_to_text": (words.factory, words.search),
        },
    )


def _scaled(
    encoder: Encoder, items: Sequence[CaptionedImage], images: Floats, texts: Floats, owner: Ids
) -> Scaled:
    scaled, number = embed_scaled(encoder, items, images)
    both = figures(rank_pairs(scaled, texts, owner)["pessimistic"])
    return Scaled({direction: one.recall for direction, one in both.items()}, number)


def _folds(images: Floats, texts: Floats, owner: Ids, number: int) -> Folds:
    return Folds(number, len(images) // number, in_folds(images, texts, owner, number))


def _curves(ranks: Ranks) -> dict[Direction, list[tuple[int, float]]]:
    """At 1, 2, 5, 10, 20, 50, ... up to the size of the gallery."""
    return {
        "text_to_image": _curve(ranks.text_to_image, len(ranks.image_to_text)),
        "image_to_text": _curve(ranks.image_to_text, len(ranks.text_to_image)),
    }


def _curve(ranks: Ids, gallery: int) -> list[tuple[int, float]]:
    ks = _steps(gallery)
    return [(k, share) for k, share in zip(ks, shares(ranks, ks).values(), strict=True)]


def _steps(gallery: int) -> list[int]:
    steps = [s * 10**power for power in range(len(str(gallery))) for s in (1, 2, 3, 5, 7)]
    return [k for k in steps if k < gallery] + [gallery]


def _chances(counts: Ids) -> dict[Direction, list[tuple[int, float]]]:
    """What an order by chance finds, where image n has `counts[n]` captions."""
    images, captions = len(counts), int(counts.sum())
    return {
        "text_to_image": [(k, 100 * k / images) for k in _steps(images)],
        "image_to_text": [(k, 100 * _any_of(k, counts, captions)) for k in _steps(captions)],
    }


def _any_of(k: int, counts: Ids, captions: int) -> float:
    """How probable it is that one of an image's captions is among k of all, over the images."""
    drawn = np.arange(counts.max())
    missed = np.cumprod(np.maximum(captions - k - drawn, 0) / (captions - drawn))
    return float(np.mean(1 - missed[counts - 1]))
