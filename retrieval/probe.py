"""A linear probe: how well classes can be told from the features of an image tower by a line.

The features are the pooled output before normalisation, as they are: neither centred nor scaled.
The classifier is scikit-learn's multinomial logistic regression with intercept (L-BFGS, at most
`ITERATIONS`), which minimises the sum of the losses of all pictures plus `l2 / 2` times the sum of
the squared weights. `l2` is swept on pictures held out from training, then all are trained on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import DataError, ModelError
from rwkvsearch.retrieval.accuracy import Accuracy, accuracy_of
from rwkvsearch.retrieval.metrics import class_ranks_from_scores

HELD_OUT = 0.2
"""Share of each class that is kept back, for validation or for the test."""
ITERATIONS = 1000
COARSE = tuple(range(-6, 7, 2))
"""Exponents of ten that are tried first; then half as far to both sides of the best, and again."""
FINEST = 0.125

Features = NDArray[np.float32]
Labels = NDArray[np.int64]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Labelled:
    """Features `[I, D]`, the class of each picture and the SHA-256 of its file."""

    features: Features
    labels: Labels
    contents: Sequence[bytes]

    def part(self, rows: NDArray[np.bool_]) -> Labelled:
        """Those of the pictures in `rows`."""
        kept = [content for content, row in zip(self.contents, rows, strict=True) if row]
        return Labelled(self.features[rows], self.labels[rows], kept)


@dataclass(frozen=True)
class Tried:
    """An L2 strength and what it gave on the held-out pictures; `converged` in `ITERATIONS`."""

    l2: float
    top1: float
    loss: float
    converged: bool


@dataclass(frozen=True)
class ProbeResult:
    """Accuracy on the test with the L2 strength `best`, of all that were `tried`, in order.

    `train` pictures, of which `validation` were held out while strengths were tried; `shared` of
    the test are among them by content.
    """

    accuracy: Accuracy
    best: Tried
    tried: tuple[Tried, ...]
    train: int
    validation: int
    shared: int
    converged: bool


def check_sklearn() -> None:
    """Make sure that there is a solver before features are computed for it.

    Raises:
        ModelError: scikit-learn is not installed.
    """
    try:
        import sklearn.linear_model  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "a linear probe needs scikit-learn, which is not installed: "
            "pip install 'rwkvsearch[probe]'"
        ) from error


def measure_probe(
    train: Labelled, test: Labelled, names: Sequence[str], progress: Progress
) -> ProbeResult:
    """Train on one set, test on the other; `names` are of the classes, all of them in `train`.

    `progress` is told of each classifier that was trained. The same input gives the same result.

    Raises:
        DataError: no class has two pictures to hold one of them out.
    """
    held = held_out(train.labels, train.contents)
    if not held.any():
        raise DataError("a linear probe needs two pictures of a class, one of them to hold out")
    tried = _sweep(train.part(~held), train.part(held), progress)
    best = min(tried, key=_worth)
    classifier, converged = _fit(train, best.l2)
    progress(1)
    ranks = class_ranks_from_scores(_scores(classifier, test), test.labels)
    accuracy = accuracy_of(ranks, test.labels, names)
    shared = len(set(test.contents) & set(train.contents))
    counts = (len(train.labels), int(held.sum()), shared)
    return ProbeResult(accuracy, best, tuple(tried), *counts, converged)


def held_out(labels: Labels, contents: Sequence[bytes]) -> NDArray[np.bool_]:
    """Which pictures to hold out, `[I]`: `HELD_OUT` of each class that has two or more.

    Chosen by content, so that names and order do not matter and copies stay together.
    """
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label).tolist()
        different = sorted({contents[row] for row in own})
        count = max(1, round(HELD_OUT * len(different))) if len(different) > 1 else 0
        chosen = set(different[:count])
        held[[row for row in own if contents[row] in chosen]] = True
    return held


def _sweep(train: Labelled, validation: Labelled, progress: Progress) -> list[Tried]:
    tried: dict[float, Tried] = {}

    def attempt(exponents: Sequence[float]) -> None:
        for exponent in exponents:
            if exponent not in tried and COARSE[0] <= exponent <= COARSE[-1]:
                tried[exponent] = _attempt(train, validation, 10.0**exponent)
                progress(1)

    attempt(COARSE)
    step = (COARSE[1] - COARSE[0]) / 2
    while step >= FINEST:
        best = min(tried, key=lambda exponent: _worth(tried[exponent]))
        attempt((best - step, best + step))
        step /= 2
    return [tried[exponent] for exponent in sorted(tried)]


def _worth(one: Tried) -> tuple[float, float, float]:
    """Least for the best: accuracy decides, then the loss, then more regularisation."""
    return -one.top1, one.loss, -one.l2


def _attempt(train: Labelled, validation: Labelled, l2: float) -> Tried:
    classifier, converged = _fit(train, l2)
    scores = _scores(classifier, validation)
    own = scores[np.arange(len(scores)), validation.labels]
    top = scores.max(axis=1)
    losses = top + np.log(np.exp(scores - top[:, None]).sum(axis=1)) - own
    right = scores.argmax(axis=1) == validation.labels
    return Tried(l2, 100 * float(right.mean()), float(losses.mean()), converged)


def _scores(classifier: Any, data: Labelled) -> NDArray[np.float64]:
    """The logit of each class, `[I, K]`."""
    logits: NDArray[np.float64] = classifier.decision_function(data.features.astype(np.float64))
    return logits if logits.ndim == 2 else np.stack([np.zeros_like(logits), logits], axis=1)


def _fit(data: Labelled, l2: float) -> tuple[Any, bool]:
    """Return the classifier, and whether it came to an end."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(C=1 / l2, max_iter=ITERATIONS)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ConvergenceWarning)
        classifier.fit(data.features.astype(np.float64), data.labels)
    return classifier, not said
