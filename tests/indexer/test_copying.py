"""A copy of a library holds what the first one holds, under the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.address import place_of
from rwkvsearch.indexer.albums import save_album
from rwkvsearch.indexer.copying import copy_library
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.tables import SettingRow, Table


def rows(library: Library) -> dict[str, list[Any]]:
    with library.read() as session:
        return {
            table.name: sorted(session.execute(select(table)).all(), key=repr)
            for table in Table.metadata.sorted_tables
            if table.name not in ("generations", SettingRow.__tablename__)
        }


def filled(library: Library, photos: Path, encoder: Any) -> None:
    (photos / "a" / "0.txt").write_text("a text")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    sync(library, [photos], encoder)
    save_album(library, "one", "{}")


def test_to_another_folder(library: Library, photos: Path, encoder: Any, tmp_path: Path) -> None:
    filled(library, photos, encoder)
    told: list[tuple[str, int, int]] = []
    assert copy_library(library, tmp_path / "copy", lambda *step: told.append(step)) == 10
    assert ("images", 10, 10) in told
    with Library.open(tmp_path / "copy") as copy:
        assert rows(copy) == rows(library)
        assert copy.stats().anns[0].rows == 10
    with pytest.raises(LibraryError, match="holds pictures already; name an empty place"):
        copy_library(library, tmp_path / "copy")


@pytest.mark.server
def test_to_postgresql_and_back(
    library: Library, photos: Path, encoder: Any, tmp_path: Path, team_address: str, postgres: Any
) -> None:
    there = place_of(postgres.new_database())
    filled(library, photos, encoder)
    copy_library(library, there)
    with Library.open(there) as team:
        assert rows(team) == rows(library)
        sync(team, None, encoder)
        assert rows(team)["images"] == rows(library)["images"]
        (photos / "new.png").write_bytes((photos / "a" / "1.png").read_bytes())
        (photos / "newer.txt").write_text("another text")
        assert sync(team, None, encoder).reused == 1  # numbered behind what was copied
        copy_library(team, tmp_path / "back")
        with Library.open(tmp_path / "back") as back:
            assert rows(back) == rows(team)
