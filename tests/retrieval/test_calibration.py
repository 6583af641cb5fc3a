"""Trials and their figures, on photographs made up of embeddings and captions."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rwkvsearch.data.captions import load_captions
from rwkvsearch.retrieval.algebra_bench import average_precision
from rwkvsearch.retrieval.calibration import Judged, auc_interval, fit, judge, roc_auc
from rwkvsearch.retrieval.prompt_bench import Gallery, found_by, precision_of
from rwkvsearch.retrieval.trials import (
    Photographs,
    Vocabulary,
    all_words,
    copies,
    countable_words,
    few,
    halves,
    mentions,
    removed,
    unrelated,
    words,
)

DIM = 32
THINGS = ("dog", "guitar", "tractor", "pizza")


def unit(number: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(number, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def photographs() -> Photographs:
    """Eighty pictures in turn of the four things, two captions each that are near their picture."""
    kinds = unit(len(THINGS), 1)
    images = unit(80, 2) + 2 * kinds[np.arange(80) % 4]
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    owner = np.repeat(np.arange(80), 2)
    texts = images[owner] + 0.5 * unit(160, 3)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    captions = tuple(f"One {THINGS[row % 4]}, or two {THINGS[row % 4]}s!" for row in owner)
    return Photographs(images, texts, owner, captions)


@pytest.fixture(scope="module")
def vocabulary(photographs: Photographs) -> Vocabulary:
    known = countable_words()
    kinds = dict(zip(THINGS, unit(len(THINGS), 1), strict=True))
    rows = unit(len(known), 4)
    for number, word in enumerate(known):
        rows[number] = kinds.get(word.name, rows[number])
    return Vocabulary(known, rows, rows)


def test_mentions(photographs: Photographs) -> None:
    known = [word for word in countable_words() if word.name in ("dog", "puppy", "lobster")]
    said = mentions(photographs, known)
    assert said[:5].tolist() == [[2, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [2, 0, 0]]


def test_what_is_removed_is_not_there(photographs: Photographs, vocabulary: Vocabulary) -> None:
    trials = [
        *halves(photographs),
        *few(photographs, 10, 3),
        *unrelated(photographs, 10, 20),
        *words(photographs, vocabulary, 20),
        *all_words(photographs, vocabulary),
        *removed(photographs, vocabulary),
        *copies(photographs, photographs.images[None, :30], 10, 5),
    ]
    for trial in trials:
        assert len(set(trial.library.tolist())) == len(trial.library)
        assert np.isin(trial.right[trial.right >= 0], trial.library).all()
        assert len(trial.queries) == len(trial.right) == len(trial.group)
    rights = np.concatenate([trial.right for trial in trials])
    assert (rights < 0).any() and (rights >= 0).any()
    for trial in unrelated(photographs, 10, 20):
        if trial.right[0] < 0:
            assert not (trial.library % 4 == trial.group[0] % 4).any()
    absent = [t for t in removed(photographs, vocabulary) if len(t.library) == 60]
    assert len(absent) == len(THINGS)


def test_confidence_tells_what_is_there(photographs: Photographs) -> None:
    judged = judge(photographs, unit(100, 9), unrelated(photographs, 10, 40))
    auc, low, high = auc_interval(judged, rounds=50)
    assert low <= auc <= high and auc > 0.95
    assert (judged.rank[judged.there] >= 1).all() and (judged.rank[~judged.there] == 0).all()


def test_roc_auc_by_hand() -> None:
    assert roc_auc(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == (1 + 0.5 + 1 + 1) / 4
    assert roc_auc(np.array([1.0]), np.array([2.0, 3.0])) == 0


def test_the_curve_that_made_the_answers_is_found() -> None:
    random = np.random.default_rng(0)
    lead = random.normal(size=20_000)
    there = random.random(20_000) < 1 / (1 + np.exp(-(1.5 * lead)))
    group = np.arange(20_000)
    curve = fit([Judged(lead, lead, there, group, group)])
    assert curve == pytest.approx((1.5, 0), abs=0.08)


def test_average_precision_by_hand() -> None:
    scores = np.array([0.9, 0.1, 0.8, 0.7], np.float32)
    right = np.array([True, True, False, False])
    assert average_precision(scores, right) == (1 + 2 / 4) / 2


def test_prompts_are_judged_by_recall_and_precision() -> None:
    images = np.eye(4, dtype=np.float32)
    gallery = Gallery(images, np.array([0, 0, 1, 1]), ("x", "y"), np.array([0, 1]))
    texts = np.array([[0.8, 0.6, 0, 0], [0.6, 0, 0.8, 0]], np.float32)
    assert found_by(gallery, texts)[:, 0].tolist() == [1, 1]
    np.testing.assert_allclose(precision_of(gallery, texts)[:, 0], [1, (1 + 2 / 4) / 2])
    lost = np.array([[0, 0, 1, 0], [0.6, 0, 0.8, 0]], np.float32)
    assert found_by(gallery, lost)[:, 0].tolist() == [0, 1]


def test_the_twenty_queries_name_sample_photographs() -> None:
    samples = {
        item.path.name
        for item in load_captions(Path(__file__).parents[2] / "data" / "samples").images
    }
    lines = Path(__file__).with_name("sample_queries.tsv").read_text("utf-8").splitlines()
    named = [line.split("\t")[1:] for line in lines]
    assert sum(bool(each) for each in named) == sum(not each for each in named) == 10
    assert {name for each in named for name in each} <= samples
