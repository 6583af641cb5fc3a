"""The doctor of a library in PostgreSQL: sound, damaged on purpose, put right."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from rwkvsearch.indexer.address import place_of
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.doctor.run import Checkup, diagnose, repair
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.tables import CaptionRow

pytestmark = pytest.mark.server


@pytest.fixture
def indexed(team_address: str, photos: Path, encoder: Any) -> Iterator[Library]:
    (photos / "a/0.txt").write_text("words")
    with Library.create(place_of(team_address)) as library:
        sync(library, [photos], encoder)
        yield library


def faults(library: Library) -> list[str]:
    found = diagnose(library, Checkup(full=True)).findings
    return [f"{one.check}: {one.text}" for one in found if one.state == "fault"]


def test_sound(indexed: Library) -> None:
    found = diagnose(indexed, Checkup(full=True)).findings
    told = {one.check: one.text for one in found if one.state != "fault"}
    assert len(told) == len({one.check for one in found})
    assert told["database"].startswith("PostgreSQL ") and "pgvector" in told["database"]
    assert told["references"] == "every row that is pointed to is there"
    assert told["ann"] == "none of fake, 10 rows are compared"


def test_an_index_is_built_asked_and_built_anew(indexed: Library) -> None:
    publish(indexed, indexed.models()[0], force=True)
    assert any("10 of 10 images asked" in one.text for one in diagnose(indexed, Checkup()).findings)
    with indexed.write() as session:
        session.execute(text("DELETE FROM generations"))
    assert faults(indexed) == ["ann: embeddings_hnsw_1: not measured"]
    assert repair(indexed, Checkup()).clean and faults(indexed) == []


def test_a_row_that_points_nowhere(indexed: Library) -> None:
    with indexed.write() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(text("DELETE FROM texts"))
    assert "references: 1 row of captions point to rows that are not there" in faults(indexed)


def test_a_caption_twice_and_what_nobody_needs(indexed: Library) -> None:
    with indexed.write() as session:
        one = session.scalars(select(CaptionRow)).one()
        again = {"image_id": one.image_id, "file_id": one.file_id, "text_id": one.text_id}
        session.add(CaptionRow(source=one.source, **again))
        session.execute(text("INSERT INTO settings VALUES ('tags:77', '{}')"))
    assert faults(indexed) == [
        "duplicates: 1 caption twice in the catalog",
        "orphans: 1 setting of a model that is not there",
    ]
    assert repair(indexed, Checkup()).clean
    with indexed.read() as session:
        assert session.scalar(select(func.count()).select_from(CaptionRow)) == 1


def test_an_image_twice_is_merged_with_all_that_points_to_it(indexed: Library) -> None:
    with indexed.write() as session:
        session.execute(text("ALTER TABLE images DROP CONSTRAINT images_content_hash_key"))
        session.execute(
            text(
                "INSERT INTO images (content_hash, width, height, format, frames)"
                " SELECT content_hash, width, height, format, frames FROM images WHERE id = 1"
            )
        )
        session.execute(text("INSERT INTO albums (name, query, created_at) VALUES ('a', 'x', 0)"))
        session.execute(
            text("INSERT INTO votes SELECT 1, id, true FROM images WHERE id = 1 OR id > 10")
        )
        session.execute(text("UPDATE files SET image_id = 11 WHERE image_id = 1"))
    assert faults(indexed)[0] == "duplicates: 1 image twice in the catalog"
    assert repair(indexed, Checkup()).clean
    with indexed.read() as session:
        votes = session.execute(text("SELECT image_id FROM votes")).all()
        file = session.execute(text("SELECT count(*) FROM files WHERE image_id = 1")).scalar_one()
    assert votes == [(1,)] and file == 1
