"""Recall@k in both directions and top-k accuracy, as pure functions on numpy arrays.

Every figure is a percentage, 0 to 100. A query is answered at k when fewer than k wrong answers
rank above its best right one.

A score equal to that of the right answer counts against it (`ties="pessimistic"`), so that a
model that gives every pair the same score cannot look good; `ties="strict"` gives it the
benefit of the doubt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import ModelError

Ties = Literal["pessimistic", "strict"]
Floats = NDArray[np.floating[Any]]
Scores = NDArray[np.float32]
Ids = NDArray[np.int64]

COSINE_ROUNDING = 1e-6
"""Cosines closer than this are ties: a float32 product of equal rows varies by its position."""


@dataclass(frozen=True)
class Recall:
    """Recall in percent, 0 to 100, keyed `R@1`, `R@5`, ...

    `text_to_image` is the share of captions whose image is among the first k images;
    `image_to_text` is the share of images with a caption of their own among the first k captions.
    """

    text_to_image: dict[str, float]
    image_to_text: dict[str, float]


def recall_at_k(
    image_embeddings: Floats,
    text_embeddings: Floats,
    caption_image: Ids,
    ks: Sequence[int] = (1, 5, 10),
    ties: Ties = "pessimistic",
    *,
    block: int = 256,
) -> Recall:
    """Recall of `[I, D]` image and `[M, D]` text embeddings, L2-normalised.

    `caption_image[m]` is the row of the image that caption m describes; every image has at least
    one caption, not necessarily the same number. Scores are float32 and exist for `block` queries
    at a time, so memory grows with `block * max(I, M)`.

    Raises `ModelError` for embeddings that are not finite, `ValueError` for shapes that do not fit.
    """
    images, texts = _finite(image_embeddings), _finite(text_embeddings)
    if images.shape[1] != texts.shape[1]:
        raise ValueError(f"image embeddings {images.shape} and text embeddings {texts.shape}")
    image_ids = _image_ids(caption_image, len(images), len(texts))
    margin = _margin(ties, COSINE_ROUNDING)
    return Recall(
        _shares(_ranks(lambda q: texts[q] @ images.T, caption_image, image_ids, margin, block), ks),
        _shares(_ranks(lambda q: images[q] @ texts.T, image_ids, caption_image, margin, block), ks),
    )


def recall_from_scores(
    scores: Floats,
    caption_image: Ids,
    ks: Sequence[int] = (1, 5, 10),
    ties: Ties = "pessimistic",
) -> Recall:
    """Recall from a matrix of scores `[I, M]`, one row per image, one column per caption.

    Here only equal scores are ties. Otherwise as `recall_at_k`.
    """
    table = _finite(scores)
    image_ids = _image_ids(caption_image, *table.shape)
    margin = _margin(ties, 0.0)
    return Recall(
        _shares(_ranks(lambda q: table.T[q], caption_image, image_ids, margin), ks),
        _shares(_ranks(lambda q: table[q], image_ids, caption_image, margin), ks),
    )


def class_embeddings(name_embeddings: Floats, name_class: Ids) -> Scores:
    """One embedding per class, `[K, D]`: the normalised mean over the names of the class.

    `name_embeddings` `[S, D]` holds every synonym (or synonym in a prompt), `name_class[s]` the
    class of row s; classes are 0..K-1. The mean is used and not the best synonym, which would
    favour classes that have many.

    Raises `ModelError` for embeddings that are not finite, `ValueError` for a class without a name.
    """
    names = _finite(name_embeddings)
    classes = int(name_class.max(initial=-1)) + 1
    _image_ids(name_class, classes, len(names))
    sums = np.zeros((classes, names.shape[1]), dtype=np.float32)
    np.add.at(sums, name_class, names)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    means: Scores = sums / np.maximum(lengths, np.finfo(np.float32).tiny)
    return means


def top_k_accuracy(
    image_embeddings: Floats,
    class_embeddings: Floats,
    labels: Ids,
    ks: Sequence[int] = (1, 5),
    ties: Ties = "pessimistic",
    *,
    block: int = 256,
) -> dict[str, float]:
    """Share of images whose own class is among the first k, in percent, keyed `top1`, `top5`.

    `image_embeddings` `[I, D]` and `class_embeddings` `[K, D]` are L2-normalised; `labels[i]` is
    the row of the class of image i.

    Raises `ModelError` for embeddings that are not finite, `ValueError` for shapes that do not fit.
    """
    ranks = class_ranks(image_embeddings, class_embeddings, labels, ties, block=block).ranks
    return _shares(ranks, ks, key="top{}")


@dataclass(frozen=True)
class ClassRanks:
    """For each image the rank of its own class, 0 the best, and the best of the others, `[I]`."""

    ranks: Ids
    rivals: Ids


def class_ranks(
    image_embeddings: Floats,
    class_embeddings: Floats,
    labels: Ids,
    ties: Ties = "pessimistic",
    *,
    block: int = 256,
) -> ClassRanks:
    """Where the class of each image stands among all. Arguments and errors as `top_k_accuracy`."""
    images, classes = _finite(image_embeddings), _finite(class_embeddings)
    if images.shape[1] != classes.shape[1] or labels.shape != (len(images),):
        raise ValueError(f"{images.shape} images, {classes.shape} classes, {labels.shape} labels")
    margin = _margin(ties, COSINE_ROUNDING)
    return _class_ranks(lambda q: images[q] @ classes.T, labels, len(classes), margin, block)


def class_ranks_from_scores(scores: Floats, labels: Ids, ties: Ties = "pessimistic") -> ClassRanks:
    """The same from scores `[I, K]`; here only equal scores are ties."""
    table = _finite(scores)
    if labels.shape != (len(table),):
        raise ValueError(f"{table.shape} scores, {labels.shape} labels")
    return _class_ranks(lambda q: table[q], labels, table.shape[1], _margin(ties, 0.0))


def _class_ranks(
    score_rows: Callable[[slice], Scores],
    labels: Ids,
    classes: int,
    margin: float,
    block: int = 256,
) -> ClassRanks:
    if not len(labels) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be at least one, each in 0..{classes - 1}")
    ranks, rivals = np.empty((2, len(labels)), dtype=np.int64)
    for start in range(0, len(labels), block):
        rows = slice(start, start + block)
        scores = np.array(score_rows(rows))
        own = np.arange(len(scores)), labels[rows]
        best = scores[own][:, None].copy()
        scores[own] = -np.inf
        ranks[rows] = (scores - best >= margin).sum(axis=1)
        rivals[rows] = scores.argmax(axis=1)
    return ClassRanks(ranks, rivals)


def _ranks(
    score_rows: Callable[[slice], Scores],
    query_ids: Ids,
    gallery_ids: Ids,
    margin: float,
    block: int = 256,
) -> Ids:
    """For each query the number of wrong gallery rows above its best right one, `[Q]`.

    A gallery row is right for a query with the same id. `score_rows(rows)` gives `[rows, G]`.
    """
    ranks = np.empty(len(query_ids), dtype=np.int64)
    for start in range(0, len(query_ids), block):
        rows = slice(start, start + block)
        scores = score_rows(rows)
        right = query_ids[rows, None] == gallery_ids[None, :]
        best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
        ranks[rows] = ((scores - best >= margin) & ~right).sum(axis=1)
    return ranks


def _margin(ties: Ties, rounding: float) -> float:
    """The least lead over the right answer that puts a wrong one above it."""
    if ties == "pessimistic":
        return -rounding
    return float(np.nextafter(np.float32(rounding), np.float32(1)))


def _shares(ranks: Ids, ks: Sequence[int], key: str = "R@{}") -> dict[str, float]:
    if not ks or min(ks) < 1:
        raise ValueError(f"ks must be positive, got {tuple(ks)}")
    return {key.format(k): 100.0 * float(np.mean(ranks < k)) for k in ks}


def _finite(array: Floats) -> Scores:
    if array.ndim != 2:
        raise ValueError(f"expected a matrix, got shape {array.shape}")
    table = np.asarray(array, dtype=np.float32)
    if not np.isfinite(table).all():
        raise ModelError("the embeddings are not finite: the weights of the model are damaged")
    return table


def _image_ids(caption_image: Ids, images: int, captions: int) -> Ids:
    if caption_image.shape != (captions,):
        raise ValueError(f"{captions} captions, but caption_image has shape {caption_image.shape}")
    if not np.array_equal(np.unique(caption_image), np.arange(images)) or not images:
        raise ValueError(f"caption_image must name each of the images 0..{images - 1}")
    return np.arange(images)
