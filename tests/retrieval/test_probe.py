"""The linear probe on toy sets, and against scikit-learn used by hand."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from rwkvsearch.data.errors import DataError
from rwkvsearch.retrieval.probe import COARSE, Labelled, ProbeResult, held_out, measure_probe

linear_model = pytest.importorskip("sklearn.linear_model")


def toy(rows: int, classes: int, dim: int, noise: float, seed: int, wrong: float = 0) -> Labelled:
    """Clouds around one point for each class; a share `wrong` of the labels is drawn anew."""
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    features = centres[labels] + noise * random.normal(size=(rows, dim))
    drawn = random.random(rows) < wrong
    labels = np.where(drawn, random.integers(0, classes, rows), labels)
    contents = [hashlib.sha256(f"{seed} {row}".encode()).digest() for row in range(rows)]
    return Labelled(features.astype(np.float32), labels, contents)


def measure(train: Labelled, test: Labelled, classes: int) -> tuple[ProbeResult, list[int]]:
    told: list[int] = []
    names = [f"class {number}" for number in range(classes)]
    return measure_probe(train, test, names, told.append), told


@pytest.mark.parametrize("classes", [2, 5])
def test_a_separable_set_is_told_apart(classes: int) -> None:
    train, test = (toy(100, classes, 8, 0.1, seed) for seed in (1, 2))
    result, told = measure(train, test, classes)
    assert result.accuracy.top1.value == result.best.top1 == 100
    assert (result.train, result.validation, result.shared) == (100, 20, 0)
    assert len(told) == len(result.tried) + 1 and result.converged
    again, _ = measure(train, test, classes)
    assert again == result


def test_equal_to_scikit_learn_by_hand() -> None:
    train, test = (toy(240, 4, 6, 1.2, seed) for seed in (1, 2))
    result, _ = measure(train, test, 4)
    held = held_out(train.labels, train.contents)
    for one in result.tried:
        by_hand = linear_model.LogisticRegression(C=1 / one.l2, max_iter=1000)
        by_hand.fit(train.features[~held].astype(float), train.labels[~held])
        x, y = train.features[held].astype(float), train.labels[held]
        assert one.top1 == pytest.approx(100 * by_hand.score(x, y))
        own = by_hand.predict_log_proba(x)[np.arange(len(y)), y]
        assert one.loss == pytest.approx(-own.mean(), rel=1e-6)
    most = max(one.top1 for one in result.tried)
    least = min(one.loss for one in result.tried if one.top1 == most)
    assert (result.best.top1, result.best.loss) == (most, least)
    final = linear_model.LogisticRegression(C=1 / result.best.l2, max_iter=1000)
    final.fit(train.features.astype(float), train.labels)
    wanted = 100 * final.score(test.features.astype(float), test.labels)
    assert result.accuracy.top1.value == pytest.approx(wanted)
    assert 50 < wanted < 100


def test_the_sweep_goes_to_the_right_end() -> None:
    # Few pictures, many numbers, labels half wrong: the line must hardly move.
    noisy, _ = measure(toy(60, 2, 200, 3, 1, wrong=0.5), toy(60, 2, 200, 3, 2), 2)
    # Well told apart only where weights may grow: clouds as close as their centres are, shrunk.
    clear, test = (toy(100, 4, 8, 0.1, seed) for seed in (1, 2))
    small = [Labelled(one.features * 1e-3, one.labels, one.contents) for one in (clear, test)]
    clean, _ = measure(small[0], small[1], 4)
    assert clean.best.l2 < 1e-3 < 1 < noisy.best.l2


def test_strengths_lie_on_a_grid_that_gets_finer() -> None:
    result, _ = measure(toy(240, 4, 6, 1.2, 1), toy(40, 4, 6, 1.2, 2), 4)
    exponents = np.log10([one.l2 for one in result.tried])
    assert sorted(exponents) == list(exponents)
    assert {round(e, 6) for e in exponents} >= set(COARSE)
    near = np.abs(exponents - np.log10(result.best.l2))
    assert sorted(near)[1] == pytest.approx(0.125)
    assert len(exponents) <= len(COARSE) + 8


def test_held_out_by_content() -> None:
    random = np.random.default_rng(0)
    labels = np.array([0] * 20 + [1] * 2 + [2])
    contents = [hashlib.sha256(bytes([row])).digest() for row in range(23)]
    contents[1] = contents[0]
    held = held_out(labels, contents)
    assert held[0] == held[1]
    assert len({c for c, row in zip(contents[:20], held[:20], strict=True) if row}) == 4
    assert (held[20:22].sum(), held[22]) == (1, 0)
    order = random.permutation(23)
    assert (held_out(labels[order], [contents[row] for row in order]) == held[order]).all()


def test_pictures_of_the_test_that_were_trained_on_are_counted() -> None:
    train, test = (toy(40, 2, 4, 0.1, seed) for seed in (1, 2))
    both = Labelled(test.features, test.labels, [*train.contents[:3], *test.contents[3:]])
    assert measure(train, both, 2)[0].shared == 3


def test_nothing_to_hold_out() -> None:
    alone = toy(3, 3, 4, 0.1, 1)
    with pytest.raises(DataError, match="needs two pictures of a class"):
        measure(alone, alone, 3)


def test_without_scikit_learn() -> None:
    program = """if True:
        import sys
        sys.modules["sklearn"] = None
        from rwkvsearch.data.errors import ModelError
        from rwkvsearch.retrieval.probe import check_sklearn
        try:
            check_sklearn()
        except ModelError as error:
            print(error)
    """
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert said.stdout.strip().endswith(b"pip install 'rwkvsearch[probe]'")
