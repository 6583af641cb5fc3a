"""Ranks against matrices checked by eye, brute force and the definition that others use."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.ranks import (
    DIRECTIONS,
    TIES,
    Ranks,
    bootstrap,
    figures,
    in_folds,
    rank_pairs,
    rank_scores,
)

# Image 0 owns columns 0 and 1, image 1 column 2, image 2 columns 3, 4 and 5.
OWNER = np.array([0, 0, 1, 2, 2, 2])
BY_EYE = np.array(
    [
        [9, 1, 9, 3, 3, 2],  # best own 9, one other equal
        [8, 8, 7, 7, 1, 1],  # own 7, two above, one equal
        [1, 2, 3, 6, 5, 4],  # best own 6, nothing above
    ],
    dtype=np.float32,
)


def test_by_eye() -> None:
    found = rank_scores(BY_EYE, OWNER)
    # Columns: 9 before 8 and 1; 1 behind 8 and 2; 7 behind 9; 6 behind 7; 5 first; 4 first.
    assert found["strict"].text_to_image.tolist() == [1, 3, 2, 2, 1, 1]
    assert found["pessimistic"].text_to_image.tolist() == [1, 3, 2, 2, 1, 1]
    assert found["strict"].image_to_text.tolist() == [1, 3, 1]
    assert found["pessimistic"].image_to_text.tolist() == [2, 4, 1]
    both = figures(found["pessimistic"], (1, 2, 3))
    texts, images = both["text_to_image"], both["image_to_text"]
    assert texts.recall == {"R@1": 50.0, "R@2": pytest.approx(500 / 6), "R@3": 100.0}
    assert (texts.median_rank, texts.mean_rank) == (1.5, pytest.approx(10 / 6))
    assert texts.mrr == pytest.approx((1 + 1 / 3 + 1 / 2 + 1 / 2 + 1 + 1) / 6)
    assert (images.median_rank, images.mean_rank) == (2.0, pytest.approx(7 / 3))
    assert images.mrr == pytest.approx((1 / 2 + 1 / 4 + 1) / 3)


def made_up(
    counts: list[int], seed: int, width: int = 24, noise: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Images, and captions near them in any order."""
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    images = rng.normal(size=(len(counts), width))
    texts = images[owner] + noise * rng.normal(size=(len(owner), width))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, texts)]
    return unit[0].astype(np.float32), unit[1].astype(np.float32), owner


RAGGED = st.lists(st.integers(1, 7), min_size=2, max_size=12)


@given(counts=RAGGED, seed=st.integers(0, 2**32 - 1), block=st.integers(1, 30))
def test_brute_force(counts: list[int], seed: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    # Small integers: products are exact and ties frequent.
    images = rng.integers(-2, 3, (len(counts), 3)).astype(np.float32)
    texts = rng.integers(-2, 3, (len(owner), 3)).astype(np.float32)
    found = rank_pairs(images, texts, owner, block=block)
    for ties in TIES:
        for m, own in enumerate(owner):
            scores = [float(image @ texts[m]) for image in images]
            wrong = [score for i, score in enumerate(scores) if i != own]
            assert found[ties].text_to_image[m] == 1 + count_above(wrong, scores[own], ties)
        for i, image in enumerate(images):
            scores = [float(image @ text) for text in texts]
            wrong = [score for m, score in enumerate(scores) if owner[m] != i]
            best = max(score for m, score in enumerate(scores) if owner[m] == i)
            assert found[ties].image_to_text[i] == 1 + count_above(wrong, best, ties)


def count_above(wrong: list[float], right: float, ties: str) -> int:
    return sum(score >= right if ties == "pessimistic" else score > right for score in wrong)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 5, 10])
def test_the_definition_of_others(seed: int, k: int) -> None:
    """The share of queries with a right one among the k of the highest scores, as they sort."""
    rng = np.random.default_rng(seed)
    images, texts, owner = made_up(rng.integers(1, 8, 90).tolist(), seed)
    scores = images @ texts.T
    first = np.argsort(-scores.T, axis=1)[:, :k]
    text_to_image = 100 * np.mean([owner[m] in first[m] for m in range(len(owner))])
    first = np.argsort(-scores, axis=1)[:, :k]
    image_to_text = 100 * np.mean([(owner[first[i]] == i).any() for i in range(len(images))])
    assert 0 < text_to_image < 100 or k > 1
    expected = {"text_to_image": text_to_image, "image_to_text": image_to_text}
    from_scores, from_pairs = rank_scores(scores, owner), rank_pairs(images, texts, owner)
    for direction, share in expected.items():
        for ties in TIES:  # no two scores are equal here
            both: dict[Any, Any] = dict(figures(from_scores[ties], (k,)))
            assert both[direction].recall[f"R@{k}"] == pytest.approx(share)
        # A few are within the rounding of a float32 product.
        low, high = (dict[Any, Any](figures(from_pairs[ties], (k,))) for ties in TIES)
        assert low[direction].recall[f"R@{k}"] <= share + 1e-9
        assert high[direction].recall[f"R@{k}"] >= share - 1e-9


def test_a_collapsed_model() -> None:
    images, owner = np.ones((9, 4)) / 2, np.repeat(np.arange(9), 3)
    found = rank_pairs(images, images[owner], owner)
    assert figures(found["pessimistic"])["image_to_text"].recall["R@10"] == 0
    assert (found["pessimistic"].text_to_image == 9).all()
    assert (found["pessimistic"].image_to_text == 25).all()
    assert figures(found["strict"])["image_to_text"].mrr == 1
    with pytest.raises(ModelError, match="not finite"):
        rank_pairs(images * np.nan, images, owner)


def test_memory_of_25000_by_5000() -> None:
    owner = np.repeat(np.arange(5000), 5)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(5000, 8)).astype(np.float32)
    texts = images[owner] + rng.normal(size=(25_000, 8)).astype(np.float32)
    tracemalloc.start()
    found = rank_pairs(images, texts, owner)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 48 << 20  # one matrix would be 477 MiB
    some = rng.integers(0, 25_000, 20)
    scores = texts[some] @ images.T
    right = scores[np.arange(20), owner[some]]
    above = (scores - right[:, None] > 1e-6).sum(axis=1)
    assert found["strict"].text_to_image[some].tolist() == (above + 1).tolist()


def test_intervals() -> None:
    images, texts, owner = made_up([1] * 400, 3, noise=1.6)
    ranks = rank_pairs(images, texts, owner)["pessimistic"]
    found = bootstrap(ranks)
    assert found == bootstrap(ranks)
    both = figures(ranks)
    for direction in DIRECTIONS:
        for name, (low, high) in found[direction].items():
            share = both[direction].recall[name] / 100
            assert low <= 100 * share <= high
            half = 196 * np.sqrt(share * (1 - share) / 400)  # of a binomial share, in percent
            assert (high - low) / 2 == pytest.approx(half, rel=0.15)
    one, k = Ranks(np.array([1]), np.array([7]), np.array([0])), (5,)
    assert bootstrap(one, k) == {
        "text_to_image": {"R@5": (100.0, 100.0)},
        "image_to_text": {"R@5": (0.0, 0.0)},
    }


def test_five_captions_alike_are_no_five_questions() -> None:
    images, texts, owner = made_up([1] * 100, 4, noise=1.6)
    once = bootstrap(rank_pairs(images, texts, owner)["strict"])
    five = rank_pairs(images, np.repeat(texts, 5, axis=0), np.repeat(owner, 5))["strict"]
    for name, interval in bootstrap(five)["text_to_image"].items():
        assert interval == pytest.approx(once["text_to_image"][name])


def test_folds() -> None:
    images, texts, owner = made_up([1, 2, 3, 4, 5, 6, 7] * 5, 5)
    whole = rank_pairs(images, texts, owner)
    assert in_folds(images, texts, owner, 1) == {ties: figures(whole[ties]) for ties in TIES}
    means = in_folds(images, texts, owner, 5)["pessimistic"]
    parts: dict[str, list[Any]] = {direction: [] for direction in DIRECTIONS}
    for start in range(0, 35, 7):
        own = (owner >= start) & (owner < start + 7)
        of_part = rank_pairs(images[start : start + 7], texts[own], owner[own] - start)
        for direction, found in figures(of_part["pessimistic"]).items():
            parts[direction].append(found)
    for direction in DIRECTIONS:
        assert means[direction].recall["R@1"] == pytest.approx(
            np.mean([part.recall["R@1"] for part in parts[direction]])
        )
        assert means[direction].mean_rank == pytest.approx(
            np.mean([part.mean_rank for part in parts[direction]])
        )
    assert means["text_to_image"].mean_rank < figures(whole["strict"])["text_to_image"].mean_rank
    with pytest.raises(ValueError, match="36 folds of 35 images"):
        in_folds(images, texts, owner, 36)
