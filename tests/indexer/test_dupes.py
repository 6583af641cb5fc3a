"""Copies, other versions of a photograph, and look-alikes that are not duplicates."""

from __future__ import annotations

import itertools
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select, text

from rwkvsearch.data.perceptual import hamming
from rwkvsearch.indexer.dupes import Duplicates, _Compared, _Joined, _joining, find_duplicates
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.near_hashes import near_pairs
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.tables import ImageRow

SAMPLES = Path(__file__).parents[2] / "data" / "samples" / "photos"


def names(found: Duplicates) -> list[list[str]]:
    return [[copy.path.name for copy in group.copies] for group in found.groups]


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """Six photographs, and of two of them other versions."""
    folder = tmp_path / "versions"
    folder.mkdir()
    for path in sorted(SAMPLES.glob("*.jpg"))[:6]:
        shutil.copy(path, folder)
    cat, coffee = sorted(folder.iterdir())[:2]
    with Image.open(cat) as image:
        image.resize((image.width // 2, image.height // 2)).save(folder / "small.jpg")
        image.save(folder / "rough.jpg", quality=40)
    with Image.open(coffee) as image:
        image.save(folder / "other.png")
    shutil.copy(coffee, folder / "copy.jpg")
    for at, path in enumerate(sorted(folder.iterdir())):
        os.utime(path, ns=(at * 10**9, at * 10**9))
    cat.rename(folder / "first.jpg")
    coffee.rename(folder / "second.jpg")
    os.utime(folder / "copy.jpg", ns=(10**12, 10**12))
    return folder


def test_versions_are_found_and_look_alikes_are_not(
    versions: Path, library: Library, encoder: Any
) -> None:
    sync(library, [versions], encoder)
    found = find_duplicates(library)
    assert sorted(names(found)) == [
        ["first.jpg", "rough.jpg", "small.jpg"],
        ["second.jpg", "other.png", "copy.jpg"],
    ]
    assert (found.files, found.images, found.unhashed) == (10, 9, 0)
    for group in found.groups:
        assert not group.exact
        assert group.spare_bytes == sum(copy.path.stat().st_size for copy in group.copies[1:])
        best = group.copies[0]
        assert (best.score, best.distance) == (None, 0)
        for copy in group.copies[1:]:
            if copy.image_id != best.image_id:
                assert copy.score is not None and copy.score > 0.9 and copy.distance <= 10
    spare = [group.spare_bytes for group in found.groups]
    assert spare == sorted(spare, reverse=True)


def test_only_exact(versions: Path, library: Library, encoder: Any) -> None:
    sync(library, [versions], encoder)
    found = find_duplicates(library, exact_only=True)
    assert names(found) == [["second.jpg", "copy.jpg"]]
    assert found.groups[0].exact


def test_only_below_a_folder(versions: Path, library: Library, encoder: Any) -> None:
    (versions / "sub").mkdir()
    for name in ("copy.jpg", "second.jpg"):
        (versions / name).rename(versions / "sub" / name)
    sync(library, [versions], encoder)
    found = find_duplicates(library, under=versions / "sub")
    assert names(found) == [["second.jpg", "copy.jpg"]]
    assert found.files == 2


def test_both_limits_count(versions: Path, library: Library, encoder: Any) -> None:
    sync(library, [versions], encoder)
    with library.write() as session:  # the same hash for all, so only embeddings tell them apart
        session.execute(text("UPDATE images SET perceptual_hash = 5"))
    assert names(find_duplicates(library, min_score=0.9999)) != []
    everything = find_duplicates(library, min_score=-1)
    assert [len(group) for group in names(everything)] == [10]
    with library.write() as session:  # hashes far apart
        for image in session.scalars(select(ImageRow)):
            image.perceptual_hash = 63 << image.id * 6 & (1 << 63) - 1
    assert names(find_duplicates(library, min_score=-1)) == [["second.jpg", "copy.jpg"]]


def test_files_that_are_gone_are_no_copies(versions: Path, library: Library, encoder: Any) -> None:
    sync(library, [versions], encoder)
    for name in ("copy.jpg", "other.png", "small.jpg"):
        (versions / name).unlink()
    sync(library, [versions], encoder)
    assert names(find_duplicates(library)) == [["first.jpg", "rough.jpg"]]


def test_pictures_without_a_hash_are_counted(photos: Path, library: Library, encoder: Any) -> None:
    shutil.copy(photos / "a" / "0.png", photos / "b" / "copy.png")
    sync(library, [photos], encoder)
    with library.write() as session:
        session.execute(text("UPDATE images SET perceptual_hash = NULL"))
    found = find_duplicates(library)
    assert [sorted(group) for group in names(found)] == [["0.png", "copy.png"]]
    assert found.unhashed == 10


def test_an_empty_library_has_none(library: Library) -> None:
    assert find_duplicates(library) == Duplicates([], 0, 0, 0)


@pytest.mark.parametrize("limit", [0, 1, 3, 8, 10, 20])
def test_near_pairs_are_those_of_all_pairs(limit: int) -> None:
    rng = np.random.default_rng(limit)
    seeds = rng.integers(-(2**63), 2**63, 60, dtype=np.int64)
    flips = rng.integers(0, 64, (60, 12))
    rows = [seeds]
    for number in (1, 3, 6, 9, 12):
        bits = np.array([np.bitwise_or.reduce(1 << flip[:number]) for flip in flips], np.int64)
        rows.append(seeds ^ bits)
    hashes = np.unique(np.concatenate(rows))
    far = hamming(hashes[:, None], hashes[None])
    expected = [
        pair for pair in itertools.combinations(range(len(hashes)), 2) if far[pair] <= limit
    ]
    assert near_pairs(hashes, limit).tolist() == [list(pair) for pair in expected]
    assert limit == 0 or expected


def test_memory_does_not_grow_with_the_square() -> None:
    hashes = np.unique(np.random.default_rng(0).integers(0, 2**40, 20_000, dtype=np.int64))
    tracemalloc.start()
    near_pairs(hashes, 8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(hashes) ** 2 / 2


def test_hundreds_of_one_hash(
    tmp_path: Path, library: Library, encoder: Any, paint: Callable[[Path, int], Path]
) -> None:
    """Pictures of which the hash says nothing are told apart by their embeddings."""
    for seed in range(300):
        paint(tmp_path / "many" / f"{seed}.png", seed)
    sync(library, [tmp_path / "many"], encoder)
    with library.write() as session:
        session.execute(text("UPDATE images SET perceptual_hash = 0"))
    ids, embeddings = library.embeddings("fake", "fake-8")
    near = embeddings.astype(np.float32) @ embeddings.astype(np.float32).T >= 0.99
    expected = int((near.sum(axis=1) > 1).sum())
    found = find_duplicates(library, min_score=0.99)
    assert sum(len(group.copies) for group in found.groups) == expected


def test_of_equal_pictures_few_pairs_are_told(
    tmp_path: Path, library: Library, encoder: Any, paint: Callable[[Path, int], Path]
) -> None:
    for seed in range(40):
        paint(tmp_path / "many" / f"{seed}.png", seed)
    sync(library, [tmp_path / "many"], encoder)
    ids, _ = library.embeddings("fake", "fake-8")
    pairs = list(_Compared(library, dict.fromkeys(ids.tolist(), 0)).pairs(10, -1))
    assert len(pairs) < 2 * len(ids)
    joined = _Joined()
    for one, other in pairs:
        joined.join(one, other)
    assert len({joined.first(image_id) for image_id in ids.tolist()}) == 1


def sets(pairs: list[tuple[int, int]], number: int) -> list[int]:
    joined = _Joined()
    for row, column in pairs:
        joined.join(row, number + column)
    return [joined.first(at) for at in range(2 * number)]


@pytest.mark.parametrize("share", [0.0, 0.005, 0.02, 0.05, 0.5, 1.0])
def test_few_pairs_join_as_all_of_them(share: float) -> None:
    near = np.random.default_rng(5).random((40, 40)) < share
    few = list(_joining(near))
    assert len(few) < 80
    assert sets(few, 40) == sets([(int(row), int(column)) for row, column in np.argwhere(near)], 40)
