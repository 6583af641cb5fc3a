"""The latest pictures against the same by hand."""

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.newest import newest_images
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.tables import FileRow, ImageRow


@pytest.fixture
def dated(library: Library, photos: Path, encoder: Any) -> Library:
    """Half of them say when they were taken, two at the same time; one has gone."""
    sync(library, [photos], encoder)
    with library.write() as session:
        images = session.query(ImageRow).order_by(ImageRow.id).all()
        for at, image in enumerate(images):
            moment = datetime(2020, 1, 1) + timedelta(days=random.randrange(9))
            image.taken_at = moment.isoformat() if at % 2 else None
        images[1].taken_at = images[3].taken_at = "2020-01-05T00:00:00"
        session.query(FileRow).filter_by(image_id=images[5].id).update({"gone_at": 1.0})
    return library


def by_hand(library: Library) -> list[int]:
    with library.read() as session:
        live = {row.image_id for row in session.query(FileRow).filter_by(gone_at=None)}
        images = [(row.taken_at or "", row.id) for row in session.query(ImageRow)]
    return [one for _, one in sorted(images, reverse=True) if one in live]


def test_as_by_hand(dated: Library) -> None:
    expected = by_hand(dated)
    assert len(expected) > 5
    assert newest_images(dated, 1000) == expected
    for k in (0, 1, 3):
        pages = [newest_images(dated, k, offset) for offset in range(len(expected) + 2)]
        assert pages == [expected[at : at + k] for at in range(len(expected) + 2)]


def test_among_some(dated: Library) -> None:
    expected = by_hand(dated)
    for among in ([], expected[1:4], [*range(1, 10_000)], [expected[0], 99_999]):
        wanted = [one for one in expected if one in {*among}]
        assert newest_images(dated, 1000, among=among) == wanted
        assert newest_images(dated, 2, 1, among) == wanted[1:3]


def test_nothing_is_there(library: Library) -> None:
    assert newest_images(library, 10) == []
