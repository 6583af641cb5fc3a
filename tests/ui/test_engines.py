from pathlib import Path

import pytest

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import SettingRow
from rwkvsearch.ui.engines import Engines

from .conftest import Run, make_picture


def change(library: Path) -> None:
    with Library.open(library) as opened, opened.write() as session:
        session.merge(SettingRow(name="a test", value="1"))


def test_an_engine_stays_open_until_something_is_committed(indexed: Path, home: Path) -> None:
    engines = Engines()
    with engines.engine(home) as first, engines.engine(home) as again:
        assert first is again
    change(home)
    with engines.engine(home) as second:
        assert second is not first
        assert second.encoder is first.encoder
    assert (engines.number, engines.reopened) == (1, 1)
    engines.close()
    assert engines.number == 0


def test_the_one_not_used_for_longest_is_closed(
    photos: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / f"library {number}" for number in range(3)]
    for number, folder in enumerate(folders):
        make_picture(tmp_path / str(number) / "a.png", number)
        run("index", tmp_path / str(number), "--library", folder)
    engines = Engines(most=2)
    with engines.engine(folders[0]) as zero, engines.engine(folders[1]) as one:
        assert zero.encoder is one.encoder
    monkeypatch.chdir(folders[0])
    with engines.engine(Path()) as again, engines.engine(folders[2]):
        assert again is zero
    with engines.engine(folders[0]) as still, engines.engine(folders[1]) as anew:
        assert still is zero
        assert anew is not one
    assert engines.number == 2


def test_other_settings_are_other_engines(
    indexed: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Engines()
    with engines.engine(home) as plain, engines.engine(home, device="cpu") as named:
        assert plain is not named
    monkeypatch.setenv("RWKVSEARCH_DEVICE", "cpu")
    with engines.engine(home) as by_environment:
        assert by_environment is named


def test_a_library_that_has_gone(indexed: Path, home: Path) -> None:
    engines = Engines()
    with engines.engine(home):
        pass
    (home / "library.sqlite").rename(home / "away")
    with pytest.raises(LibraryError, match="no library at"), engines.engine(home):
        pass
    (home / "away").rename(home / "library.sqlite")
    with engines.engine(home):
        pass
    (home / "library.sqlite").unlink()
    engines.drop_gone()
    assert engines.number == 0


def test_a_model_that_was_trained_anew(
    indexed: Path, home: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engines = Engines()
    with engines.engine(home) as old:
        pass
    copy = tmp_path / "copy"
    (copy / "starter").mkdir(parents=True)
    for file in (weights / "starter").iterdir():
        (copy / "starter" / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr("rwkvsearch.retrieval.models._SHIPPED", copy)
    with engines.engine(home) as new:
        assert new.encoder is not old.encoder
