"""Embeddings in no library are searched as in one: exactly, and by every kind of ann."""

import numpy as np
import pytest

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.ann.kinds import Kind
from rwkvsearch.indexer.ann.loose import search_loose
from rwkvsearch.indexer.ann.synthetic import Synthetic

SOURCE = Synthetic(64, 200)


@pytest.mark.parametrize("kind", ["SQfp16", "RaBitQ,Refine(SQfp16)", "IVF,SQ8", "HNSW32,SQ8"])
def test_equals_brute_force(kind: str) -> None:
    images, texts = SOURCE.images(2000), SOURCE.texts(300)
    found = search_loose(images, texts, 10, Kind(kind))
    stored = images.astype(np.float16).astype(np.float64)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    scores = texts @ stored.T
    right = np.argsort(-scores, axis=1)[:, :10]
    assert (found.exact.rows == right).mean() > 0.999  # but for scores that are equal
    np.testing.assert_allclose(
        found.exact.scores, np.take_along_axis(scores, found.exact.rows, 1), atol=1e-6
    )
    same = np.mean([np.isin(a, b).mean() for a, b in zip(right, found.ann.rows, strict=True)])
    assert same > (0.999 if kind == "SQfp16" else 0.85)
    assert found.factory.startswith(kind.split(",")[0])


def test_an_ann_that_loses_much_shows_it() -> None:
    images, texts = SOURCE.images(4000), SOURCE.texts(200)
    found = search_loose(images, texts, 10, Kind("RaBitQ"))
    assert found.search["times"] in (4, 8, 16)
    assert not np.array_equal(found.exact.rows, found.ann.rows)


def test_fewer_than_asked_for() -> None:
    images = SOURCE.images(3)
    found = search_loose(images, images, 10, Kind("RaBitQ,Refine(SQfp16)"))
    for answers in (found.exact, found.ann):
        assert answers.rows[:, 0].tolist() == [0, 1, 2]
        assert (answers.rows[:, 3:] == -1).all() and np.isneginf(answers.scores[:, 3:]).all()
    with pytest.raises(LibraryError, match="IVF100,SQ8 needs at least 100 rows, not 3"):
        search_loose(images, images, 10, Kind("IVF100,SQ8"))
