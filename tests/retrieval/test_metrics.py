from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.metrics import (
    class_embeddings,
    class_ranks,
    class_ranks_from_scores,
    recall_at_k,
    recall_from_scores,
    top_k_accuracy,
)

# Two captions per image: image 0 owns columns 0 and 1, image 3 owns columns 6 and 7.
PAIRS = np.repeat(np.arange(4), 2)

# Rows: image 0 finds an own caption first, 1 and 2 second, 3 has five better and one equal.
# Columns: 0, 1, 3 and 4 find their image first, 5, 6 and 7 second, 2 third.
MIXED = np.array(
    [
        [9, 8, 7, 1, 1, 1, 1, 1],
        [1, 1, 5, 6, 1, 1, 1, 7],
        [2, 2, 2, 2, 8, 7, 9, 2],
        [6, 5, 6, 5, 4, 8, 3, 4],
    ],
    dtype=np.float32,
)

# Every image finds an own caption first; of each pair of captions only the first finds its image.
HALF = np.array(
    [
        [9, 0, 0, 5, 0, 5, 0, 5],
        [0, 5, 9, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 9, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 9, 0],
    ],
    dtype=np.float32,
)


def test_mixed_matrix() -> None:
    recall = recall_from_scores(MIXED, PAIRS, ks=(1, 2, 3, 6))
    assert recall.text_to_image == {"R@1": 50.0, "R@2": 87.5, "R@3": 100.0, "R@6": 100.0}
    assert recall.image_to_text == {"R@1": 25.0, "R@2": 75.0, "R@3": 75.0, "R@6": 75.0}
    strict = recall_from_scores(MIXED, PAIRS, ks=(5, 6), ties="strict")
    assert strict.image_to_text == {"R@5": 75.0, "R@6": 100.0}


def test_half_matrix() -> None:
    recall = recall_from_scores(HALF, PAIRS, ks=(1, 2))
    assert recall.text_to_image == {"R@1": 50.0, "R@2": 50.0}
    assert recall.image_to_text == {"R@1": 100.0, "R@2": 100.0}
    # Columns 1, 3, 5 and 7 lose to one image and tie with the others.
    assert recall_from_scores(HALF, PAIRS, ks=(2,), ties="strict").text_to_image["R@2"] == 100.0


def naive_recall(
    images: NDArray[Any], texts: NDArray[Any], owner: NDArray[Any], k: int, ties: str
) -> tuple[float, float]:
    def above(score: float, right: float) -> bool:
        return score >= right if ties == "pessimistic" else score > right

    scores = [[float(np.dot(image, text)) for text in texts] for image in images]
    found_images = 0
    for m, own in enumerate(owner):
        wrong = [scores[i][m] for i in range(len(images)) if i != own]
        found_images += sum(above(score, scores[own][m]) for score in wrong) < k
    found_texts = 0
    for i in range(len(images)):
        best = max(scores[i][m] for m in range(len(texts)) if owner[m] == i)
        wrong = [scores[i][m] for m in range(len(texts)) if owner[m] != i]
        found_texts += sum(above(score, best) for score in wrong) < k
    return 100 * found_images / len(texts), 100 * found_texts / len(images)


@given(
    counts=st.lists(st.integers(1, 7), min_size=1, max_size=9),
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 12),
    ties=st.sampled_from(["pessimistic", "strict"]),
    block=st.integers(1, 20),
    levels=st.integers(1, 4),
)
def test_equals_brute_force_on_ragged_captions(
    counts: list[int], seed: int, k: int, ties: Any, block: int, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    # Small integers: products are exact and ties frequent.
    images = rng.integers(-levels, levels + 1, (len(counts), 3)).astype(np.float32)
    texts = rng.integers(-levels, levels + 1, (len(owner), 3)).astype(np.float32)
    expected = naive_recall(images, texts, owner, k, ties)
    recall = recall_at_k(images, texts, owner, (k,), ties, block=block)
    matrix = recall_from_scores(images @ texts.T, owner, (k,), ties)
    for found in (recall, matrix):
        assert found.text_to_image[f"R@{k}"] == pytest.approx(expected[0])
        assert found.image_to_text[f"R@{k}"] == pytest.approx(expected[1])


def unit_rows(rng: np.random.Generator, rows: int, width: int) -> NDArray[np.float32]:
    table = rng.normal(size=(rows, width)).astype(np.float32)
    return np.asarray(table / np.linalg.norm(table, axis=1, keepdims=True), dtype=np.float32)


def noisy_pairs() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    owner = np.concatenate([np.arange(83), rng.integers(0, 83, 211)])
    images = unit_rows(rng, 83, 48)
    texts = images[owner] + 0.25 * rng.normal(size=(len(owner), 48)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    return images, texts, owner


def test_blocks_do_not_matter() -> None:
    images, texts, owner = noisy_pairs()
    whole = recall_at_k(images, texts, owner, block=10_000)
    assert 0 < whole.text_to_image["R@1"] < 100
    for block in (1, 7, 64):
        assert recall_at_k(images, texts, owner, block=block) == whole


def test_order_does_not_matter() -> None:
    images, texts, owner = noisy_pairs()
    rng = np.random.default_rng(1)
    image_order, text_order = rng.permutation(len(images)), rng.permutation(len(texts))
    moved = np.argsort(image_order)[owner[text_order]]
    assert recall_at_k(images[image_order], texts[text_order], moved) == recall_at_k(
        images, texts, owner
    )


@pytest.mark.parametrize("width", [3, 256, 643])
@pytest.mark.parametrize("block", [1, 5, 256])
def test_a_collapsed_model_finds_nothing(width: int, block: int) -> None:
    one = unit_rows(np.random.default_rng(2), 1, width)
    owner = np.repeat(np.arange(103), 5)
    images, texts = np.tile(one, (103, 1)), np.tile(one, (515, 1))
    recall = recall_at_k(images, texts, owner, block=block)
    assert set(recall.text_to_image.values()) == set(recall.image_to_text.values()) == {0.0}
    generous = recall_at_k(images, texts, owner, ties="strict", block=block)
    assert set(generous.text_to_image.values()) == {100.0}
    accuracy = top_k_accuracy(images, images[:9], owner[:103] % 9, block=block)
    assert accuracy == {"top1": 0.0, "top5": 0.0}


def test_embeddings_that_are_not_finite() -> None:
    images, texts, owner = noisy_pairs()
    texts[3, 4] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        recall_at_k(images, texts, owner)


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        (np.array([0, 1]), "3 captions"),
        (np.array([0, 0, 0]), "each of the images 0..1"),
        (np.array([0, 1, 2]), "each of the images 0..1"),
        (np.array([-1, 0, 1]), "each of the images 0..1"),
    ],
)
def test_owners_that_do_not_fit(owner: NDArray[np.int64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recall_at_k(np.eye(2), np.ones((3, 2)), owner)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="image embeddings"):
        recall_at_k(np.eye(2), np.eye(3), np.arange(2))
    with pytest.raises(ValueError, match="positive"):
        recall_at_k(np.eye(2), np.eye(2), np.arange(2), ks=(0,))
    with pytest.raises(ValueError, match="matrix"):
        recall_at_k(np.ones(2), np.eye(2), np.arange(2))
    with pytest.raises(ValueError, match="labels"):
        top_k_accuracy(np.eye(2), np.eye(2), np.array([0, 2]))


def test_top_k_by_eye() -> None:
    classes = np.eye(3)
    images = np.array([[0.9, 0.1, 0.0], [0.9, 0.3, 0.0], [0.1, 0.2, 0.9], [0.5, 0.5, 0.0]])
    labels = np.array([0, 1, 2, 0])
    # Image 1 is second; image 3 ties with class 1.
    assert top_k_accuracy(images, classes, labels, (1, 2)) == {"top1": 50.0, "top2": 100.0}
    strict = top_k_accuracy(images, classes, labels, (1, 2), ties="strict")
    assert strict == {"top1": 75.0, "top2": 100.0}


def test_class_is_the_normalised_mean_of_its_names() -> None:
    names = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    found = class_embeddings(names, np.array([0, 0, 1]))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(found, [[half, half], [-1.0, 0.0]], atol=1e-6)
    with pytest.raises(ValueError, match="each of"):
        class_embeddings(names, np.array([0, 0, 2]))
    opposite = class_embeddings(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([0, 0]))
    np.testing.assert_array_equal(opposite, [[0.0, 0.0]])


def test_ranks_and_rivals_of_classes() -> None:
    scores = np.array([[3, 1, 2], [2, 2, 1], [1, 5, 9], [1, 1, 1]], np.float32)
    labels = np.array([0, 0, 1, 2])
    found = class_ranks_from_scores(scores, labels)
    assert found.ranks.tolist() == [0, 1, 1, 2]  # a tie counts against the own class
    assert found.rivals.tolist() == [2, 1, 2, 0]
    strict = class_ranks_from_scores(scores, labels, "strict")
    assert strict.ranks.tolist() == [0, 0, 1, 0]
    random = np.random.default_rng(0)
    images, classes = (random.normal(size=(n, 8)).astype(np.float32) for n in (300, 7))
    own = random.integers(0, 7, 300)
    ranks = class_ranks(images, classes, own, block=64)
    for row, (rank, rival) in enumerate(zip(ranks.ranks, ranks.rivals, strict=True)):
        alone = classes @ images[row]
        order = [n for n in np.argsort(-alone) if n != own[row]]
        assert (rank, rival) == ((alone > alone[own[row]]).sum(), order[0])
    with pytest.raises(ValueError, match=r"0\.\.2"):
        class_ranks_from_scores(scores, np.array([0, 0, 1, 3]))
