from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sqlalchemy import event

from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync
from rwkvsearch.retrieval.diverse import (
    BURST_BITS,
    BURST_SECONDS,
    COPY_BITS,
    SCENE_BITS,
    Looks,
    distinct,
    distinct_images,
    read_looks,
)
from rwkvsearch.retrieval.encoder import Encoder

PHOTOS = sorted((Path(__file__).parents[2] / "data" / "samples" / "photos").glob("*.jpg"))[::6]
NEVER = float("nan")


def looks(*rows: tuple[int | None, float, float]) -> Looks:
    """Of pictures as (hash, angle of the embedding in degrees, seconds)."""
    hashes, angles, seconds = zip(*rows, strict=True)
    turns = np.radians(angles)
    return Looks(
        np.array([value or 0 for value in hashes], np.int64),
        np.array([value is not None for value in hashes]),
        np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32),
        np.array(seconds, np.float64),
    )


def bits(number: int) -> int:
    return (1 << number) - 1


def test_copies_and_scenes() -> None:
    assert distinct(looks((0, 0, NEVER), (bits(COPY_BITS), 89, NEVER))) == [0]
    assert distinct(looks((0, 0, NEVER), (bits(COPY_BITS + 1), 89, NEVER))) == [0, 1]
    assert distinct(looks((0, 0, NEVER), (bits(SCENE_BITS), 25, NEVER))) == [0]
    assert distinct(looks((0, 0, NEVER), (bits(SCENE_BITS), 26, NEVER))) == [0, 1]
    assert distinct(looks((0, 0, NEVER), (bits(SCENE_BITS + 1), 0, NEVER))) == [0, 1]
    assert distinct(looks((None, 0, NEVER), (None, 0, NEVER))) == [0, 1]  # nothing to go by


def test_bursts() -> None:
    far = bits(40)
    assert distinct(looks((0, 0, 5), (far, 40, 5 + BURST_SECONDS))) == [0]
    assert distinct(looks((None, 0, 5), (None, 40, 5))) == [0]
    assert distinct(looks((0, 0, 5), (far, 40, 6 + BURST_SECONDS))) == [0, 1]
    assert distinct(looks((0, 0, 5), (far, 46, 5))) == [0, 1]
    assert distinct(looks((0, 0, 5), (bits(BURST_BITS), 89, 5))) == [0]
    assert distinct(looks((0, 0, 5), (bits(BURST_BITS + 1), 89, 5))) == [0, 1]
    assert distinct(looks((0, 0, 5), (far, 0, NEVER))) == [0, 1]


def test_only_what_is_kept_counts() -> None:
    row = [(None, 0.0, second) for second in (0.0, 8.0, 16.0, 24.0, 9.0)]
    assert distinct(looks(*row)) == [0, 2]  # 24 is as near to 16 as 8 is to 0


@given(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 90), st.integers(0, 40))))
def test_each_is_near_a_kept_one_or_kept(rows: list[tuple[int, int, int]]) -> None:
    if not rows:
        return
    whole = looks(*rows)
    expected = distinct(whole)
    for one in range(len(rows)):  # each is near a kept one before it, or kept
        near = [at for at in expected if at < one and whole.nearly_same(one)[at]]
        assert bool(near) != (one in expected)


def save(image: Image.Image, path: Path, moment: str | None = None, quality: int = 90) -> None:
    exif = Image.Exif()
    if moment:
        exif.get_ifd(0x8769)[0x9003] = moment
    image.save(path, quality=quality, exif=exif)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """Photographs, each with a smaller copy of less quality and a frame of two seconds later."""
    folder = tmp_path_factory.mktemp("diverse")
    for number, path in enumerate(PHOTOS):
        with Image.open(path) as image:
            image.load()
        width, height = image.size
        save(image, folder / f"{path.stem}-1.jpg", f"2020:01:01 {number:02}:00:00")
        small = image.resize((width // 2, height // 2))
        save(small, folder / f"{path.stem}-2.jpg", quality=60)
        later = image.crop((width // 12, height // 24, width, height))
        save(later, folder / f"{path.stem}-3.jpg", f"2020:01:01 {number:02}:00:02")
    with Library.create(folder / "library") as library:
        assert sync(library, [folder], Encoder.load("starter", device="cpu")).added == 30
        yield library


def test_real_photographs(library: Library) -> None:
    """The photographs all stay, whatever comes first, and nothing but them."""
    model, ids = library.models()[0], list(range(1, 31))
    kinds: dict[str, list[int]] = {"1": [], "2": [], "3": []}
    for one, paths in library.paths_of(ids).items():
        kinds[paths[0].stem[-1]].append(one)
    originals, copies, later = (kinds[kind][::-1] for kind in "123")
    assert len(originals) == len(PHOTOS) == 10

    def keep(ids: list[int]) -> list[int]:
        return distinct_images(library, model, ids)

    assert keep(originals) == originals and keep(copies) == copies
    assert keep([*originals, *copies, *later]) == originals
    assert keep([*later, *originals]) == later


def test_reads_in_one_query(library: Library) -> None:
    model, asked = library.models()[0], []
    event.listen(
        library._database.engine, "before_cursor_execute", lambda *call: asked.append(call[2])
    )
    found = read_looks(library, model, [9, 3, 999, 4])
    assert [statement.split()[0] for statement in asked] == ["BEGIN", "SELECT"]
    assert found.hashed.tolist() == [True, True, False, True]
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), [1, 1, 0, 1], atol=1e-6)
    one_by_one = [read_looks(library, model, [one]).hashes[0] for one in (9, 3, 999, 4)]
    assert found.hashes.tolist() == one_by_one
    assert distinct_images(library, model, [999, 998]) == [999, 998]
