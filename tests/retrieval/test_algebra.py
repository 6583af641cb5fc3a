"""Sums of terms and standings: their properties, on embeddings drawn at random."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rwkvsearch.data.errors import QueryError
from rwkvsearch.retrieval.algebra import PENALTY, combine, standings

WEIGHTS = st.lists(
    st.floats(0.0625, 20, width=32) | st.floats(-20, -0.0625, width=32), min_size=1, max_size=6
)


def unit(number: int, dim: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(number, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def weights(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.integers(0, 40), st.integers(3, 48), st.integers(0, 9))
def test_a_query_is_one_direction(asked: list[float], images: int, dim: int, seed: int) -> None:
    terms, background = unit(len(asked), dim, seed), unit(images, dim, seed + 100)
    try:
        vector = combine(terms, weights(*asked), background)
    except QueryError:
        assert len(asked) > 1
        return
    assert vector.dtype == np.float32 and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    again = combine(terms[::-1], 3 * weights(*asked)[::-1], background)
    np.testing.assert_allclose(again, vector, atol=1e-4)  # neither order nor scale counts


def test_one_term_is_itself() -> None:
    term = unit(1, 16, 1)
    np.testing.assert_allclose(combine(term, weights(7), unit(30, 16, 2)), term[0], atol=1e-6)


def test_weights_count_in_the_spread_of_scores() -> None:
    background = unit(500, 16, 2)
    background[:, 0] *= 5
    background /= np.linalg.norm(background, axis=1, keepdims=True)
    terms = np.eye(16, dtype=np.float32)[:2]
    vector = combine(terms, weights(1, 1), background)
    spread = (background @ terms.T).std(axis=0)
    assert spread[0] > 2 * spread[1]
    assert vector[1] / vector[0] == pytest.approx(spread[0] / spread[1], rel=1e-4)


def test_what_is_not_wanted_is_subtracted() -> None:
    terms, background = unit(2, 16, 3), unit(300, 16, 4)
    spread = (background @ terms.T).std(axis=0, dtype=np.float64)
    expected = terms[0] / spread[0] - PENALTY * terms[1] / spread[1]
    vector = combine(terms, weights(1, -1), background)
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)
    assert vector @ terms[1] < terms[0] @ terms[1]


def test_more_weight_leaves_less_of_what_is_not_wanted() -> None:
    terms, background = unit(2, 16, 3), unit(300, 16, 4)
    left = [combine(terms, weights(1, -w), background) @ terms[1] for w in (0.1, 0.5, 1, 2, 5)]
    assert (np.diff(left) < 0).all()


@pytest.mark.parametrize("asked", [(1, -1), (1, -2), (3, -3), (0.5, 0.5, -1)])
def test_terms_that_cancel_out_are_an_error(asked: tuple[float, ...]) -> None:
    terms = np.repeat(unit(1, 16, 1), len(asked), axis=0)
    with pytest.raises(QueryError, match="cancel each other out"):
        combine(terms, weights(*asked), unit(30, 16, 2))


@pytest.mark.parametrize("images", [0, 1, 2])
def test_a_tiny_library(images: int) -> None:
    vector = combine(unit(3, 8, 1), weights(1, 2, -1), unit(images, 8, 2))
    assert np.isfinite(vector).all() and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_a_library_of_equal_pictures() -> None:
    background = np.repeat(unit(1, 8, 2), 20, axis=0)
    assert np.isfinite(combine(unit(2, 8, 1), weights(1, -1), background)).all()
    scores = unit(2, 8, 1) @ background.T
    assert np.isfinite(standings(scores, scores)).all()


def test_standings_of_the_sample_itself() -> None:
    scores = unit(3, 16, 1) @ unit(400, 16, 2).T
    found = standings(scores, scores)
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=1), 1, atol=1e-4)
    assert (scores.argsort(axis=1) == found.argsort(axis=1)).all()


def test_standings_do_not_depend_on_scale_or_origin() -> None:
    scores = unit(1, 16, 1) @ unit(50, 16, 2).T
    moved = 0.3 * scores + 0.2
    np.testing.assert_allclose(standings(moved, moved), standings(scores, scores), atol=1e-4)
