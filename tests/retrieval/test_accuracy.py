"""Accuracy by class and what is mixed up, on a table that can be checked by eye."""

import numpy as np
import pytest

from rwkvsearch.retrieval.accuracy import ClassAccuracy, Confusion, accuracy_of
from rwkvsearch.retrieval.metrics import class_ranks_from_scores
from rwkvsearch.retrieval.shares import mean_interval, share_interval

NAMES = ["cat", "dog", "cow", "elk", "ant", "bee", "fly"]


def test_by_hand() -> None:
    # cat: right, dog, dog, cow; dog: right, right; cow: ant and sixth itself; nothing else.
    best = [(0, 0), (0, 1), (0, 1), (0, 2), (1, 1), (1, 1), (2, 4)]
    scores = np.zeros((7, 7), np.float32)
    for row, (own, taken) in enumerate(best):
        scores[row] = 0.1
        scores[row, own], scores[row, taken] = 0.5, 1.0
    scores[6] = [3, 4, 1, 5, 9, 6, 0]
    labels = np.array([own for own, _ in best])
    found = accuracy_of(class_ranks_from_scores(scores, labels), labels, NAMES)
    assert (found.images, found.classes) == (7, 7)
    assert found.top1.value == pytest.approx(300 / 7)
    assert found.top5.value == pytest.approx(600 / 7)
    assert found.mean_per_class.value == pytest.approx((25 + 100 + 0) / 3)
    assert found.by_class == (
        ClassAccuracy("cow", 1, 0.0, 0.0, "ant", 1),
        ClassAccuracy("cat", 4, 25.0, 100.0, "dog", 2),
        ClassAccuracy("dog", 2, 100.0, 100.0, None, 0),
    )
    assert found.confusions == (
        Confusion("cat", "dog", 2, 4),
        Confusion("cat", "cow", 1, 4),
        Confusion("cow", "ant", 1, 1),
    )
    for figure in (found.top1, found.top5, found.mean_per_class):
        assert 0 <= figure.interval[0] <= figure.value <= figure.interval[1] <= 100


def test_a_tie_is_a_mistake() -> None:
    labels = np.array([0, 1])
    found = accuracy_of(class_ranks_from_scores(np.ones((2, 2)), labels), labels, NAMES[:2])
    assert found.top1.value == 0
    assert [one.count for one in found.confusions] == [1, 1]


def test_intervals_are_those_of_drawing_pictures() -> None:
    random = np.random.default_rng(3)
    right = random.random(400) < 0.3
    drawn = right[random.integers(0, 400, (4000, 400))].mean(axis=1)
    wanted = 100 * np.quantile(drawn, [0.025, 0.975])
    assert share_interval(right) == pytest.approx(tuple(wanted), abs=0.6)
    assert share_interval(right) == share_interval(right)
    assert share_interval(np.ones(9, bool)) == (100, 100)
    parts = [right[:100], right[100:150], right[150:]]
    means = np.mean([p[random.integers(0, len(p), (4000, len(p)))].mean(axis=1) for p in parts], 0)
    wanted = 100 * np.quantile(means, [0.025, 0.975])
    assert mean_interval(parts) == pytest.approx(tuple(wanted), abs=0.6)
