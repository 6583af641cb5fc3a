"""Feedback: the formula by hand, what it must never do, and that it finds more of the same."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rwkvsearch.retrieval.feedback import DISLIKED, LIKED, turned

Floats = NDArray[np.float32]
NONE = np.empty((0, 8), np.float32)


def units(rows: int, seed: int, dim: int = 8) -> Floats:
    values = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    unit: Floats = values / np.linalg.norm(values, axis=1, keepdims=True)
    return unit


def test_by_hand() -> None:
    background = np.array([[1, 0], [-1, 0], [0, 2], [0, -2]], np.float32) * 2**0.5  # sd 1 and 2
    query, liked, disliked = np.eye(2, dtype=np.float32)[[[0], [1], [1]]]
    moved = turned(query, liked, NONE[:, :2], background)
    wanted = np.array([1, LIKED / 2])
    np.testing.assert_allclose(moved[0], wanted / np.linalg.norm(wanted), atol=1e-6)
    moved = turned(query, query, disliked, background)
    wanted = np.array([1 + LIKED, -DISLIKED / 2])
    np.testing.assert_allclose(moved[0], wanted / np.linalg.norm(wanted), atol=1e-6)


def test_without_anything_liked_the_query_stays() -> None:
    queries, background = units(3, 0), units(50, 1)
    assert turned(queries, NONE, NONE, background) is queries
    assert turned(queries, NONE, units(4, 2), background) is queries


def test_every_vector_moves_on_its_own() -> None:
    queries, liked, disliked, background = (units(3, seed) for seed in range(4))
    moved = turned(queries, liked, disliked, background)
    assert moved.shape == (3, 8) and moved.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-6)
    for query, one in zip(queries, moved, strict=True):
        alone = turned(query[None], liked, disliked, background)[0]
        np.testing.assert_allclose(alone, one, atol=1e-6)


def test_lengths_and_order_of_what_was_voted_on_do_not_matter() -> None:
    query, liked, background = units(1, 0), units(4, 1), units(50, 2)
    moved = turned(query, liked, NONE, background)
    again = turned(query, liked[::-1] * 16, NONE, background)
    np.testing.assert_allclose(moved, again, atol=1e-6)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_library_too_small_for_a_background(rows: int) -> None:
    query, liked = units(1, 0), units(1, 1)
    moved = turned(query, liked, NONE, units(rows, 2))
    wanted = query[0] + LIKED * liked[0]
    np.testing.assert_allclose(moved[0], wanted / np.linalg.norm(wanted), atol=1e-6)


def test_opposites_leave_the_query_as_it_was() -> None:
    query = units(1, 0)
    moved = turned(query, -query, NONE, units(50, 1), shares=(1.0, 0.0))
    np.testing.assert_allclose(moved, query)


def test_more_of_what_is_liked_is_found() -> None:
    """Twenty groups of pictures; a query between two of them, one of which is liked."""
    centres = units(20, 0, 64)
    noise = 0.5 * units(2000, 1, 64)
    images = centres.repeat(100, axis=0) + noise
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    query = (centres[0] + centres[1])[None] / np.linalg.norm(centres[0] + centres[1])
    first = np.argsort(-(images @ query[0]))[:10]
    liked, disliked = first[first < 100], first[first >= 100]
    assert len(liked) and len(disliked)
    moved = turned(query, images[liked], images[disliked], images[::2])
    rest = np.setdiff1d(np.arange(2000), first)
    share = [
        (rest[np.argsort(-(images[rest] @ v))[:50]] < 100).mean() for v in (query[0], moved[0])
    ]
    assert share[1] > share[0] + 0.2
