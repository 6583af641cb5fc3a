"""Embeddings on a plane, so that what is alike lies together: t-SNE, as scikit-learn has it.

Of 8,000 photographs it keeps 36 % of the ten nearest in the plane, where UMAP keeps 18 % and PCA
2 %, and it needs no compiler at run time; figures in `docs/serving.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import ModelError
from rwkvsearch.indexer.blocks import Floats

PERPLEXITY = 30.0
"""About how many others each picture is laid out against."""
NEIGHBOURS = 5
"""Of a picture that is put beside those most like it."""
NEAREST = 0.8
"""How far towards the nearest of them: a mean of several lies between groups, in no man's land."""
_FEWEST = 4
_BLOCK = 2_048  # rows compared with all others at a time
_SEED = 0


def lay_out(embeddings: Floats) -> Floats:
    """Points `[M, 2]`, both from 0 to 1, of unit embeddings `[M, D]`; the same ones each time.

    Memory grows with M, time a little faster.

    Raises:
        ModelError: scikit-learn is not installed.
    """
    if len(embeddings) < _FEWEST or not np.ptp(embeddings, axis=0).any():
        return _on_a_circle(len(embeddings))
    tsne = import_manifold().TSNE(
        2,
        perplexity=min(PERPLEXITY, (len(embeddings) - 1) / 3),
        init="pca",
        random_state=_SEED,
        n_jobs=-1,
    )
    return _in_unit_square(tsne.fit_transform(embeddings.astype(np.float32)))


def place(embeddings: Floats, known: Floats, points: Floats) -> Floats:
    """Points `[m, 2]` of unit embeddings `[m, D]` beside those of `known` `[M, D]` most like them.

    `points` `[M, 2]` are those of `known`. Near the nearest, drawn to the median of a few.
    """
    parts = [np.empty((0, 2), np.float32)]
    for nearest in _nearest(embeddings, known):
        around = points[nearest]  # [b, k, 2]
        parts.append(NEAREST * around[:, 0] + (1 - NEAREST) * np.median(around, axis=1))
    return np.concatenate(parts).astype(np.float32)


def neighbours_kept(embeddings: Floats, points: Floats, k: int = 10, sample: int = 1_000) -> float:
    """The share of the `k` nearest by embedding that are among the `k` nearest on the plane.

    Of a `sample` of the pictures; by chance it would be `k / M`.
    """
    some = np.random.default_rng(_SEED).permutation(len(points))[:sample]
    shares = []
    for one in some.tolist():
        scores, square = embeddings @ embeddings[one], ((points - points[one]) ** 2).sum(axis=1)
        scores[one], square[one] = -np.inf, np.inf
        alike, near = np.argsort(-scores)[:k], np.argsort(square)[:k]
        shares.append(np.isin(near, alike).mean())
    return float(np.mean(shares))


def import_manifold() -> ModuleType:
    """scikit-learn's manifold module, imported at the first use.

    Raises:
        ModelError: it is not installed.
    """
    try:
        import sklearn.manifold as manifold
    except ImportError as error:
        raise ModelError(
            "a map needs scikit-learn, which is not installed: pip install 'rwkvsearch[map]'"
        ) from error
    module: ModuleType = manifold
    return module


def _nearest(embeddings: Floats, known: Floats) -> Iterator[NDArray[np.intp]]:
    """For blocks of rows, the places `[b, k]` of the nearest of `known`, best first."""
    k = min(NEIGHBOURS, len(known))
    for start in range(0, len(embeddings), _BLOCK):
        scores = embeddings[start : start + _BLOCK] @ known.T
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        yield np.take_along_axis(best, order, axis=1)


def _in_unit_square(points: Floats) -> Floats:
    """The same shape, as large as fits, in the middle."""
    low, high = points.min(axis=0), points.max(axis=0)
    size = float((high - low).max()) or 1.0
    unit: Floats = np.clip((points - (low + high) / 2) / size + 0.5, 0, 1).astype(np.float32)
    return unit


def _on_a_circle(number: int) -> Floats:
    angles = 2 * np.pi * np.arange(number) / max(number, 1)
    around = 0.5 + 0.3 * (number > 1) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return around.astype(np.float32).reshape(-1, 2)
