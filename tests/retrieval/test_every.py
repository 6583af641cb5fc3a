"""The weakest term decides: as brute force would, without looking at everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rwkvsearch.retrieval.every import FIRST, best_by_weakest


class Gallery:
    """Scores `[T, N]` of images, and how deep a search went."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores
        self.depth = 0

    def search(self, depth: int) -> tuple[np.ndarray, np.ndarray]:
        self.depth = depth
        order = np.stack([np.lexsort((np.arange(row.size), -row)) for row in self.scores])
        ids = order[:, :depth]
        return np.take_along_axis(self.scores, ids, axis=1), ids

    def scores_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return ids, self.scores[:, ids]


def brute_force(scores: np.ndarray, k: int) -> np.ndarray:
    weakest = scores.min(axis=0)
    return np.lexsort((np.arange(weakest.size), -weakest))[:k]


@given(
    st.integers(0, 2**32),
    st.integers(2, 4),
    st.integers(1, 3000),
    st.integers(1, 40),
    st.booleans(),
)
def test_as_brute_force(seed: int, terms: int, images: int, k: int, ties: bool) -> None:
    scores = np.random.default_rng(seed).normal(size=(terms, images)).astype(np.float32)
    if ties:
        scores = np.round(scores)
    gallery = Gallery(scores)
    found, ids = best_by_weakest(gallery.search, gallery.scores_of, lambda s: s, k)
    np.testing.assert_array_equal(ids, brute_force(scores, k))
    np.testing.assert_array_equal(found, scores[:, ids])


def test_standings_decide_not_scores() -> None:
    scores = np.array([[0.9, 0.8, 0.1], [0.02, 0.03, 0.05]], np.float32)
    gallery = Gallery(scores)
    spread = np.array([[1], [0.01]], np.float32)
    _, ids = best_by_weakest(gallery.search, gallery.scores_of, lambda s: s / spread, 3)
    np.testing.assert_array_equal(ids, [0, 1, 2])
    _, ids = best_by_weakest(gallery.search, gallery.scores_of, lambda s: s, 3)
    np.testing.assert_array_equal(ids, [2, 1, 0])


@pytest.mark.parametrize(("related", "most"), [(True, FIRST), (False, 16_384)])
def test_stops_as_soon_as_nothing_better_can_come(related: bool, most: int) -> None:
    random = np.random.default_rng(0)
    first = random.normal(size=100_000).astype(np.float32)
    second = (
        first + random.normal(size=first.size, scale=0.01)
        if related
        else random.normal(size=first.size)
    )
    gallery = Gallery(np.stack([first, second.astype(np.float32)]))
    _, ids = best_by_weakest(gallery.search, gallery.scores_of, lambda s: s, 10)
    assert gallery.depth <= most
    np.testing.assert_array_equal(ids, brute_force(gallery.scores, 10))
