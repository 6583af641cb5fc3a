"""The sample that scores are compared with: fixed by the pictures alone."""

import shutil
from pathlib import Path

import numpy as np
from sqlalchemy import text

from rwkvsearch.indexer import background
from rwkvsearch.indexer.background import Background
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync

from .conftest import FakeEncoder, make_image


def sample(library: Library, most: int) -> Background:
    return Background.read(library, library.models()[0], most)


def test_the_smallest_hashes_of_what_is_there(
    tmp_path: Path, photos: Path, encoder: FakeEncoder
) -> None:
    with Library.create(tmp_path / "library") as library:
        sync(library, [photos], encoder)
        shutil.rmtree(photos / "a")
        sync(library, None, encoder)
        with library.read() as session:
            wanted = session.execute(
                text(
                    "SELECT image_id FROM files JOIN images ON images.id = image_id"
                    " WHERE gone_at IS NULL ORDER BY content_hash"
                )
            ).scalars()
            ids = list(wanted)
        assert len(ids) == 5
        found = sample(library, 3)
        np.testing.assert_array_equal(found.ids, ids[:3])
        np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, rtol=1e-6)
        np.testing.assert_array_equal(sample(library, 1000).ids, ids)


def test_the_same_whatever_the_order(tmp_path: Path, photos: Path, encoder: FakeEncoder) -> None:
    samples = []
    for name, folders in {"one": ["a", "b"], "two": ["b", "a"]}.items():
        with Library.create(tmp_path / name) as library:
            for folder in folders:
                sync(library, [photos / folder], encoder)
            samples.append(sample(library, 4).embeddings)
    np.testing.assert_array_equal(*samples)


def test_only_of_its_model(tmp_path: Path, photos: Path, encoder: FakeEncoder) -> None:
    with Library.create(tmp_path / "library") as library:
        sync(library, [photos / "a"], encoder)
        other = FakeEncoder("other")
        make_image(tmp_path / "more" / "x.png", 77)
        sync(library, [tmp_path / "more"], other)
        names = {m.model_id: m for m in library.models()}
        assert len(Background.read(library, names["fake"]).ids) == 5
        assert len(Background.read(library, names["other"]).ids) == 1


def test_reads_no_more_than_it_takes(tmp_path: Path, photos: Path, encoder: FakeEncoder) -> None:
    with Library.create(tmp_path / "library") as library:
        sync(library, [photos], encoder)
        with library.read() as session:
            plan = session.execute(
                text(f"EXPLAIN QUERY PLAN {background._SAMPLE.text}"), {"model": 1, "most": 5}
            ).all()
    steps = [row[-1] for row in plan]
    assert steps[0].startswith("SCAN i USING") and not any("TEMP B-TREE" in s for s in steps)
