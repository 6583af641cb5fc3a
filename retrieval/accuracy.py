"""Accuracy of a classifier over labelled pictures: as a whole, by class, and what is mixed up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.retrieval.metrics import ClassRanks
from rwkvsearch.retrieval.shares import Interval, mean_interval, share_interval

WORST = 10
"""Pairs of classes that are told."""


@dataclass(frozen=True)
class Figure:
    """A share in percent with its 95 % bootstrap interval."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class ClassAccuracy:
    """One class: the share of its `images` that are right, in percent.

    `rival` is the class that most of the others are taken for, so many `mistaken` times; None
    where none is.
    """

    name: str
    images: int
    top1: float
    top5: float
    rival: str | None
    mistaken: int


@dataclass(frozen=True)
class Confusion:
    """How many of the `images` of one class are taken for another."""

    name: str
    taken_for: str
    count: int
    images: int


@dataclass(frozen=True)
class Accuracy:
    """Accuracy in percent and what it was measured on.

    `mean_per_class` is the mean of the top-1 of the classes that have pictures; `by_class` are
    these, the worst first; `confusions` the pairs with most mistakes.
    """

    top1: Figure
    top5: Figure
    mean_per_class: Figure
    images: int
    classes: int
    by_class: tuple[ClassAccuracy, ...]
    confusions: tuple[Confusion, ...]


def accuracy_of(found: ClassRanks, labels: NDArray[np.int64], names: Sequence[str]) -> Accuracy:
    """The accuracy of pictures of the classes `labels` `[I]`; `names` are those of all classes."""
    first, five = found.ranks < 1, found.ranks < 5
    pairs = zip(labels[~first].tolist(), found.rivals[~first].tolist(), strict=True)
    mistakes = sorted(Counter(pairs).items(), key=lambda item: (-item[1], item[0]))
    most = {own: (names[rival], count) for (own, rival), count in reversed(mistakes)}
    rows = {int(number): np.flatnonzero(labels == number) for number in np.unique(labels)}
    by_class = [
        ClassAccuracy(
            names[number],
            len(own),
            _percent(first[own]),
            _percent(five[own]),
            *most.get(number, (None, 0)),
        )
        for number, own in rows.items()
    ]
    means = mean_interval([first[own] for own in rows.values()])
    return Accuracy(
        Figure(_percent(first), share_interval(first)),
        Figure(_percent(five), share_interval(five)),
        Figure(float(np.mean([one.top1 for one in by_class])), means),
        len(labels),
        len(names),
        tuple(sorted(by_class, key=lambda one: (one.top1, one.name))),
        tuple(
            Confusion(names[own], names[rival], count, len(rows[own]))
            for (own, rival), count in mistakes[:WORST]
        ),
    )


def _percent(right: NDArray[np.bool_]) -> float:
    return 100 * float(right.mean())
