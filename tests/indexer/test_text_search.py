"""The best texts of a library: as brute force, and only of what is there."""

from pathlib import Path

import numpy as np
import pytest

from rwkvsearch.indexer import text_search
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.text_search import best_texts, texts_of

from .conftest import FakeEncoder


@pytest.fixture
def told(library: Library, photos: Path, encoder: FakeEncoder) -> Library:
    """Ten pictures with a text beside each, two of them with the same."""
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        path.with_suffix(".txt").write_text(f"text {number % 9}")
    sync(library, [photos], encoder)
    return library


@pytest.mark.parametrize("block", [2, 16_384])
def test_as_brute_force(
    told: Library, encoder: FakeEncoder, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_search, "_BLOCK", block)
    texts = [f"text {number}" for number in range(9)]
    query = 3 * np.random.default_rng(0).standard_normal(12).astype(np.float32)
    stored = encoder.encode_texts(texts).astype(np.float16).astype(np.float64)
    cosines = stored @ query / np.linalg.norm(stored, axis=1) / np.linalg.norm(query)
    order = np.argsort(-cosines)
    for k in (1, 4, 9, 50):
        scores, ids = best_texts(told, told.models()[0], query, k)
        known = texts_of(told, ids.tolist())
        assert [known[n][0] for n in ids.tolist()] == [texts[row] for row in order[:k]]
        np.testing.assert_allclose(scores, cosines[order[:k]], atol=1e-6)
    assert sorted(len(owners) for _, owners in known.values()) == [1] * 8 + [2]


def test_what_has_gone_says_nothing(told: Library, photos: Path, encoder: FakeEncoder) -> None:
    query = encoder.encode_texts(["text 3"])[0]
    (_, best) = best_texts(told, told.models()[0], query, 1)
    assert texts_of(told, best.tolist())[int(best[0])][0] == "text 3"
    (photos / "a" / "3.png").unlink()
    sync(told, None, encoder)
    _, ids = best_texts(told, told.models()[0], query, 50)
    assert len(ids) == 8 and best[0] not in ids


def test_more_than_one_statement_takes(told: Library) -> None:
    assert texts_of(told, [*range(1, 300_000)]) == texts_of(told, [*range(1, 10)])
