"""Recall@k in both directions and top-k accuracy, as pure functions on numpy arrays.

Every figure is a percentage, 0 to 100. A query is answered at k when fewer than k wrong answers
rank above its best right one.

A score equal to that of the right answer counts against it (`ties="pessimistic"`), so that a
model that gives every pair the same score cannot look good; `ties="strict"` gives it the
benefit of the doubt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rwkvsearch.retrieval.ranks import (
    COSINE_ROUNDING,
    Floats,
    Ids,
    Scores,
    Ties,
    checked_ids,
    finite,
    margin,
    rank_pairs,
    rank_scores,
    shares,
)


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
    block: int | None = None,
) -> Recall:
    """Recall of `[I, D]` image and `[M, D]` text embeddings, L2-normalised.

    `caption_image[m]` is the row of the image that caption m describes; every image has at least
    one caption, not necessarily the same number. See `rank_pairs`, also for `block`.

    Raises `ModelError` for embeddings that are not finite, `ValueError` for shapes that do not fit.
    """
    ranks = rank_pairs(image_embeddings, text_embeddings, caption_image, block=block)[ties]
    return Recall(shares(ranks.text_to_image, ks), shares(ranks.image_to_text, ks))


def recall_from_scores(
    scores: Floats,
    caption_image: Ids,
    ks: Sequence[int] = (1, 5, 10),
    ties: Ties = "pessimistic",
) -> Recall:
    """Recall from a matrix of scores `[I, M]`, one row per image, one column per caption.

    Here only equal scores are ties. Otherwise as `recall_at_k`.
    """
    ranks = rank_scores(scores, caption_image)[ties]
    return Recall(shares(ranks.text_to_image, ks), shares(ranks.image_to_text, ks))


def class_embeddings(name_embeddings: Floats, name_class: Ids) -> Scores:
    """One embedding per class, `[K, D]`: the normalised mean over the names of the class.

    `name_embeddings` `[S, D]` holds every synonym (or synonym in a prompt), `name_class[s]` the
    class of row s; classes are 0..K-1. The mean is used and not the best synonym, which would
    favour classes that have many.

    Raises `ModelError` for embeddings that are not finite, `ValueError` for a class without a name.
    """
    names = finite(name_embeddings)
    classes = int(name_class.max(initial=-1)) + 1
    checked_ids(name_class, classes, len(names))
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
    return shares(ranks + 1, ks, key="top{}")


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
    images, classes = finite(image_embeddings), finite(class_embeddings)
    if images.shape[1] != classes.shape[1] or labels.shape != (len(images),):
        raise ValueError(f"{images.shape} images, {classes.shape} classes, {labels.shape} labels")
    lead = margin(ties, COSINE_ROUNDING)
    return _class_ranks(lambda q: images[q] @ classes.T, labels, len(classes), lead, block)


def class_ranks_from_scores(scores: Floats, labels: Ids, ties: Ties = "pessimistic") -> ClassRanks:
    """The same from scores `[I, K]`; here only equal scores are ties."""
    table = finite(scores)
    if labels.shape != (len(table),):
        raise ValueError(f"{table.shape} scores, {labels.shape} labels")
    return _class_ranks(lambda q: table[q], labels, table.shape[1], margin(ties, 0.0))


def _class_ranks(
    score_rows: Callable[[slice], Scores],
    labels: Ids,
    classes: int,
    lead: float,
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
        ranks[rows] = (scores - best >= lead).sum(axis=1)
        rivals[rows] = scores.argmax(axis=1)
    return ClassRanks(ranks, rivals)
