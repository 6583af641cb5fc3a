import os
from pathlib import Path

import pytest

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.freshness import Freshness
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import SettingRow


def test_only_a_commit_is_a_change(tmp_path: Path) -> None:
    with Library.create(tmp_path / "library") as library:
        fresh = Freshness(library.place)
        states = [fresh.state()]
        for number in range(20):  # faster than the clock of the file system
            with library.write() as session:
                session.merge(SettingRow(name="number", value=str(number)))
            states.append(fresh.state())
        assert len(set(states)) == 21
        with library.read() as session:
            session.get(SettingRow, "number")
        assert fresh.state() == states[-1]
        fresh.close()


def test_a_file_in_its_place(tmp_path: Path) -> None:
    Library.create(tmp_path / "a").close()
    Library.create(tmp_path / "b").close()
    fresh = Freshness(tmp_path / "a")
    before = fresh.state()
    os.replace(tmp_path / "b" / "library.sqlite", tmp_path / "a" / "library.sqlite")  # noqa: PTH105
    replaced = fresh.state()
    assert replaced not in (before, None)
    with Library.open(tmp_path / "a") as library, library.write() as session:
        session.merge(SettingRow(name="number", value="1"))
    assert fresh.state() not in (replaced, None), "what is committed to the new one is seen"
    (tmp_path / "a" / "library.sqlite").unlink()
    assert fresh.state() is None
    fresh.close()


def test_no_library(tmp_path: Path) -> None:
    with pytest.raises(LibraryError):
        Freshness(tmp_path)
