"""What is written in two ways: that SQLite still plans it as if it were its own."""

from pathlib import Path

from sqlalchemy import not_, select, text
from sqlalchemy.dialects import sqlite

from rwkvsearch.indexer import blocks
from rwkvsearch.indexer.dialects import among
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import FileRow


def test_a_search_reads_what_it_was_proposed(tmp_path: Path) -> None:
    statement = blocks._LIVE_ROWS.compile(dialect=sqlite.dialect(paramstyle="named"))
    with Library.create(tmp_path / "library") as library, library.read() as session:
        asked = text(f"EXPLAIN QUERY PLAN {statement}")
        plan = session.execute(asked, {"images": "[1]", "model": 1}).scalars("detail").all()
    assert "USING INDEX sqlite_autoindex_embeddings_1 (image_id=? AND model=?)" in plan[0]


def test_among_is_a_condition_like_others(tmp_path: Path) -> None:
    with Library.create(tmp_path / "library") as library, library.read() as session:
        for condition in (among(FileRow.id, "ids", "[1, 2]"), not_(among(FileRow.id, "ids", "[]"))):
            assert session.scalars(select(FileRow.id).where(condition, FileRow.id > 0)).all() == []
