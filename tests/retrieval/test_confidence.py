"""Confidence on libraries drawn at random, and its properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rwkvsearch.retrieval.confidence import LIKELY, Confidence, neutral_captions

DIM = 64
MAKES = [(1, 0), (0, 1), (1, 1), (2, 0), (3, 2)]


def unit(number: int, seed: int, dim: int = DIM) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(number, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("images", [1, 2, 3, 10, 400, 1_000_000])
@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20))
def test_it_lies_between_0_and_1_and_grows_with_the_score(
    make: tuple[int, int], images: int, scores: list[float]
) -> None:
    confidence = Confidence(unit(min(images, 400), 1), unit(50, 2))
    ordered = np.sort(np.array(scores, np.float32))
    found = confidence.of(ordered, images, texts=make[0], pictures=make[1])
    assert found.shape == ordered.shape and np.isfinite(found).all()
    assert (found >= 0).all() and (found <= 1).all() and (np.diff(found) >= 0).all()


def test_no_scores_and_no_library() -> None:
    confidence = Confidence(np.empty((0, DIM), np.float32), unit(50, 2))
    assert confidence.of(np.empty(0, np.float32), 0).shape == (0,)
    assert np.isfinite(confidence.of(np.array([0.3], np.float32), 0)).all()


def test_the_same_score_means_less_among_more_images() -> None:
    confidence = Confidence(unit(1000, 1), unit(100, 2))
    score = np.array([0.4], np.float32)
    found = [confidence.of(score, n)[0] for n in (1, 3, 10, 100, 1000, 1001, 10**5, 10**7)]
    assert (np.diff(found) < 0).all()


def test_a_small_sample_tells_what_a_large_library_would() -> None:
    library, neutral = unit(20_000, 1), unit(200, 2)
    expected = np.median(-np.log1p(0.01 - (neutral @ library.T).max(axis=1)))
    assert Confidence(library[:1000], neutral).norm(20_000).middle == pytest.approx(expected, 0.03)
    few = np.median(-np.log1p(0.01 - (neutral @ library[:50].T).max(axis=1)))
    assert Confidence(library[:1000], neutral).norm(50).middle == pytest.approx(few, 0.05)


def test_what_is_in_the_library_stands_out() -> None:
    library, neutral = unit(300, 1), unit(100, 2)
    confidence = Confidence(library, neutral)
    there = library[7] + 0.7 * unit(1, 3)[0]
    there /= np.linalg.norm(there)
    absent = unit(1, 4)[0]
    for pictures in (0, 1):
        likely, unlikely = (
            confidence.of(np.sort(library @ q)[-1:], 300, texts=1 - pictures, pictures=pictures)[0]
            for q in (there, absent)
        )
        assert unlikely < LIKELY < likely


def test_a_copy_is_certain_and_so_it_is_among_copies() -> None:
    library, neutral = unit(100, 1), unit(100, 2)
    twins = np.concatenate([library, library])
    for sample in (library, twins):
        found = Confidence(sample, neutral).of(
            np.array([0.3, 0.9, 1.0], np.float32), len(sample), texts=0, pictures=1
        )
        assert found[0] < LIKELY < found[1] and found[2] > 0.99


@pytest.mark.parametrize("alone", [0, 40])
def test_a_large_library_of_versions_of_one_picture(alone: int) -> None:
    """All frames of a camera that does not move: of a picture hardly any other one counts."""
    frames = unit(1, 3) + 0.01 * unit(1000 - alone, 4)
    frames /= np.linalg.norm(frames, axis=1, keepdims=True)
    confidence = Confidence(np.concatenate([frames, unit(alone, 5)]), unit(100, 2))
    scores = np.array([0.3, 1.0], np.float32)
    for make in MAKES:
        found = confidence.of(scores, 50_000, texts=make[0], pictures=make[1])
        assert 0 <= found[0] < found[1] <= 1
    assert confidence.of(scores, 50_000, texts=0, pictures=1)[1] > 0.99


def test_of_one_picture_little_can_be_said() -> None:
    confidence = Confidence(unit(1, 1), unit(100, 2))
    found = confidence.of(np.array([0.6], np.float32), 1, texts=0, pictures=1)
    assert 0 < found[0] < LIKELY


def test_it_is_the_same_again() -> None:
    scores = np.linspace(-1, 1, 9).astype(np.float32)
    one, other = (Confidence(unit(300, 1), unit(99, 2)) for _ in range(2))
    for texts, pictures in MAKES:
        again = other.of(scores, 300, texts=texts, pictures=pictures)
        np.testing.assert_array_equal(one.of(scores, 300, texts=texts, pictures=pictures), again)


def test_neutral_captions_are_many_and_different() -> None:
    captions = neutral_captions()
    assert len(captions) > 150 and len(set(captions)) == len(captions)
    assert all(caption == caption.strip() and caption for caption in captions)
