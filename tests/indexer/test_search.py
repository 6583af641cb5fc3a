"""Every path through the index gives the same ids and the same scores as brute force."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rwkvsearch.data.errors import LibraryError, QueryError
from rwkvsearch.indexer.ann.file import import_faiss
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.scoring import rescore
from rwkvsearch.indexer.search import SearchIndex
from rwkvsearch.indexer.sync import sync

Paint = Callable[[Path, int], Path]


def brute_force(
    library: Library, queries: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    ids, embeddings = library.embeddings("fake", "fake-8")
    scores = np.stack([rescore(query, embeddings) for query in queries])
    order = np.stack([np.lexsort((ids, -row)) for row in scores])[:, :k]
    return np.take_along_axis(scores, order, 1), ids[order]


def some_queries(number: int = 7) -> NDArray[np.float32]:
    queries = np.random.default_rng(1).standard_normal((number, 12)).astype(np.float32)
    unit: NDArray[np.float32] = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    return unit


def check(library: Library, published: bool, ks: tuple[int, ...] = (1, 3, 50, 500)) -> None:
    index = SearchIndex.open(library, "fake", "fake-8")
    assert (index._published is not None) == published
    for k in ks:
        scores, ids = index.search(some_queries(), k)
        expected_scores, expected_ids = brute_force(library, some_queries(), k)
        np.testing.assert_array_equal(ids, expected_ids)
        np.testing.assert_array_equal(scores, expected_scores)
        assert scores.dtype == np.float32 and ids.dtype == np.int64


@pytest.fixture
def many(tmp_path: Path, paint: Paint) -> Path:
    for seed in range(90):
        paint(tmp_path / "many" / f"{seed}.png", seed)
    return tmp_path / "many"


def ann_files(library: Library) -> list[Path]:
    return sorted((library.path / "ann").iterdir())


def test_rescore_by_hand() -> None:
    embeddings = np.array([[1, 0], [0, 2], [-1, 0], [3, 4]], np.float16)
    scores = rescore(np.array([1, 0], np.float32), embeddings)
    np.testing.assert_array_equal(scores, np.array([1, 0, -1, 0.6], np.float32))


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_published_newer_removed_and_republished(
    library: Library, many: Path, encoder: Any, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(library, [many], encoder)
    check(library, published=True)
    first = ann_files(library)
    assert [path.name for path in first] == ["fake-1.faiss"]
    for seed in range(0, 60, 2):
        (many / f"{seed}.png").unlink()
    for seed in range(1000, 1020):
        paint(many / f"{seed}.png", seed)
    with monkeypatch.context() as patch:
        patch.setattr("rwkvsearch.indexer.sync.publish", lambda *_, **__: None)
        sync(library, [many], encoder)
    check(library, published=True)  # old file + newer rows - removed rows
    mapped = SearchIndex.open(library, "fake", "fake-8")
    sync(library, [many], encoder)
    assert [path.name for path in ann_files(library)] == ["fake-2.faiss"]
    check(library, published=True)
    assert mapped.search(some_queries(), 5)[1].shape == (7, 5)  # its file is gone, its map is not
    for seed in range(0, 60, 2):  # come back: no embedding, no new generation
        paint(many / f"{seed}.png", seed)
    assert sync(library, [many], encoder).added == 0
    assert [path.name for path in ann_files(library)] == ["fake-2.faiss"]
    check(library, published=True)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_many_equal_scores_are_ordered_by_image_id(
    library: Library, many: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant = np.full((1, 12), 12**-0.5, np.float32)
    monkeypatch.setattr(encoder, "encode_pixels", lambda pixels: constant.repeat(len(pixels), 0))
    sync(library, [many], encoder)
    check(library, published=True)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage", "folder gone"])
def test_a_damaged_file_is_only_a_cache(
    damage: str, library: Library, many: Path, encoder: Any
) -> None:
    sync(library, [many], encoder)
    (path,) = ann_files(library)
    data = path.read_bytes()
    path.unlink()
    if damage == "folder gone":
        path.parent.rmdir()
    elif damage != "missing":
        new = {"empty": b"", "truncated": data[:-1], "garbage": os.urandom(len(data))}
        path.write_bytes(new[damage])
    check(library, published=False)
    sync(library, [many], encoder)
    check(library, published=True)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_bit_rot_behind_the_checked_head(
    library: Library, many: Path, encoder: Any, paint: Paint
) -> None:
    for seed in range(90, 150):
        paint(many / f"{seed}.png", seed)
    sync(library, [many], encoder)
    (path,) = ann_files(library)
    data = bytearray(path.read_bytes())
    assert len(data) > 4096
    data[4096:] = b"\xff" * (len(data) - 4096)  # the ids, and the last of the embeddings
    path.write_bytes(data)
    scores, ids = SearchIndex.open(library, "fake", "fake-8").search(some_queries(), 5)
    truth = brute_force(library, some_queries(), 500)
    for row in range(7):
        assert len(set(ids[row])) == 5
        for score, image_id in zip(scores[row], ids[row], strict=True):
            assert score == truth[0][row][truth[1][row] == image_id][0]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_damaged_heads_never_crash(library: Library, many: Path, encoder: Any) -> None:
    sync(library, [many], encoder)
    (path,) = ann_files(library)
    good, rng = path.read_bytes(), random.Random(0)
    for _ in range(50):
        data = bytearray(good)
        data[rng.randrange(200)] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        assert SearchIndex.open(library, "fake", "fake-8")._published is None


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_leftovers_of_a_killed_publish_are_removed(
    library: Library, photos: Path, encoder: Any, other_encoder: Any
) -> None:
    sync(library, [photos], encoder)
    (library.path / "ann" / "fake-7.tmp").touch()
    (library.path / "ann" / "fake-6.faiss").touch()
    sync(library, [photos], other_encoder("org/second model"))
    assert [path.name for path in ann_files(library)] == [
        "fake-1.faiss",
        "org_second_model-2.faiss",
    ]


def test_k_and_queries(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos], encoder)
    index = SearchIndex.open(library, "fake", "fake-8")
    assert index.rows == 10
    assert index.search(some_queries(), 99)[0].shape == (7, 10)
    assert index.search(some_queries(), 0)[1].shape == (7, 0)
    assert index.search(some_queries()[:0], 3)[1].shape == (0, 3)
    np.testing.assert_array_equal(
        index.search(3 * some_queries(), 4)[1], index.search(some_queries(), 4)[1]
    )
    with pytest.raises(QueryError, match="embeddings of 12 numbers"):
        index.search(np.ones((1, 5), np.float32), 1)
    for bad in (0, np.nan, np.inf):
        with pytest.raises(QueryError, match="zero or not finite"):
            index.search(np.full((1, 12), bad, np.float32), 1)
    for path in photos.rglob("*.png"):
        path.unlink()
    (photos / "words.png").write_text("not one image left")
    sync(library, [photos], encoder)
    assert SearchIndex.open(library, "fake", "fake-8").search(some_queries(), 3)[0].shape == (7, 0)


def test_without_faiss(library: Library, photos: Path, encoder: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "faiss", None)
        with pytest.raises(LibraryError, match=r"pip install 'rwkvsearch\[cpu\]' or"):
            sync(library, [photos], encoder)
    assert import_faiss().__name__ == "faiss"
