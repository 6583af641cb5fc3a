"""Pages of an approximate index: none of its hits twice, and none on no page."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rwkvsearch.retrieval.ranking import PAGES, Ranking


class Approximate:
    """An index that finds the more the deeper it looks, as faiss's do; or an exact one."""

    def __init__(self, exact: bool) -> None:
        self.exact = exact
        self.depths: list[int] = []

    def search(
        self, vectors: np.ndarray, k: int, among: np.ndarray | None, *, filters: None
    ) -> tuple[np.ndarray, np.ndarray]:
        self.depths.append(k)
        ids = np.arange(5 * PAGES)
        if not self.exact:
            ids = ids[(ids % 10 != 3) | (ids < k // 2)]
        return 1 - ids[None, :k] / 1000, ids[None, :k]


def ranking(index: Approximate) -> Ranking:
    nothing: Any = SimpleNamespace()
    vectors = np.ones((1, 4), np.float32)
    return Ranking(nothing, nothing, index, nothing, vectors, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("exact", [True, False])
def test_pages_are_parts_of_one_answer(exact: bool) -> None:
    whole, scores = ranking(Approximate(exact)).top(PAGES)
    assert scores.shape == (1, PAGES)
    for count in (1, 10, 20, 77, PAGES - 1):
        found, some = ranking(Approximate(exact)).top(count)
        np.testing.assert_array_equal(found, whole[:count])
        np.testing.assert_array_equal(some, scores[:, :count])


def test_an_exact_index_looks_no_deeper_than_asked() -> None:
    index = Approximate(exact=True)
    ranking(index).top(10)
    assert index.depths == [10]


def test_deeper_pages_double_the_depth() -> None:
    index = Approximate(exact=False)
    for count in (1, PAGES, PAGES + 1, 2 * PAGES, 2 * PAGES + 1):
        ranking(index).top(count)
    assert index.depths == [PAGES, PAGES, 2 * PAGES, 2 * PAGES, 4 * PAGES]
