"""When a folder is looked at, and which one, by a clock that the test moves."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.noticed import LONGEST, QUIET, Noticed
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.watch import Watching, _Root, outermost


@dataclass
class Told:
    event_type: str
    src_path: str
    dest_path: str = ""
    is_directory: bool = False


@pytest.fixture
def noticed(tmp_path: Path) -> Noticed:
    return Noticed(tmp_path / "library" / "thumbs")


def touch(path: Path, size: int = 1) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return str(path)


def test_a_burst_is_waited_for(noticed: Noticed, tmp_path: Path) -> None:
    for at in (0.0, 0.6, 1.2):
        noticed.dispatch(Told("created", touch(tmp_path / f"{at}.png")))
        assert noticed.take(at) == (set(), set())
    assert noticed.take(1.2 + QUIET) == ({tmp_path}, set())
    assert not noticed


def test_a_file_still_being_written_is_waited_for(noticed: Noticed, tmp_path: Path) -> None:
    big = tmp_path / "big.png"
    noticed.dispatch(Told("created", touch(big)))
    for at in range(1, 30):  # it grows without a word, as on some network drives
        assert noticed.take(at * QUIET) == (set(), set())
        touch(big, at + 1)
    assert noticed.take(30 * QUIET) == (set(), set())
    assert noticed.take(31 * QUIET) == ({tmp_path}, set())


def test_of_a_long_burst_what_is_whole_is_taken_early(noticed: Noticed, tmp_path: Path) -> None:
    taken: set[Path] = set()
    number = int(2 * LONGEST)
    for at in range(number):
        noticed.dispatch(Told("created", touch(tmp_path / f"{at}.png")))
        folders, pictures = noticed.take(float(at))
        assert not folders and not taken & pictures
        taken |= pictures
    assert number / 4 < len(taken) < number
    assert noticed.take(number + QUIET) == ({tmp_path}, set())


@pytest.mark.parametrize(
    "event",
    [
        Told("opened", "/p/a.png"),
        Told("closed_no_write", "/p/a.png"),
        Told("modified", "/p", is_directory=True),
        Told("created", "/p/a.png.part"),
        Told("created", "/p/a.crdownload"),
        Told("modified", "/p/library.sqlite-wal"),
        Told("created", "/p/.hidden.png"),
        Told("created", "/p/.git", is_directory=True),
    ],
)
def test_what_does_not_matter(event: Told, noticed: Noticed) -> None:
    noticed.dispatch(event)
    assert not noticed and not noticed.wake.is_set()


@pytest.mark.parametrize(
    ("event", "folders"),
    [
        (Told("deleted", "/p/a.png"), {"/p"}),
        (Told("moved", "/p/a.png", "/q/b.png"), {"/p", "/q"}),
        (Told("moved", "/p/a.jpg.part", "/p/a.jpg"), {"/p"}),
        (Told("modified", "/p/a.txt"), {"/p"}),
        (Told("created", "/p/.rwkvsearchignore"), {"/p"}),
        (Told("moved", "/p/a", "/p/b", is_directory=True), {"/p/a", "/p/b"}),
    ],
)
def test_what_matters(event: Told, folders: set[str], noticed: Noticed) -> None:
    noticed.dispatch(event)
    noticed.take(0.0)
    assert noticed.take(2 * QUIET) == ({Path(folder) for folder in folders}, set())


def test_thumbnails_of_the_library_do_not_matter(noticed: Noticed, tmp_path: Path) -> None:
    noticed.dispatch(Told("created", str(tmp_path / "library" / "thumbs" / "1.png")))
    assert not noticed


def test_the_smallest_folder_that_says_what_changed(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "b" / "1.png")
    (tmp_path / "a" / "empty").mkdir()
    watching = Watching([tmp_path], lambda paths: None, print, tmp_path / "none")
    root = _Root(tmp_path, known=True)
    target = watching._target
    assert target(root, tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert target(root, tmp_path / "a" / "empty") == tmp_path / "a"
    assert target(root, tmp_path / "a" / "gone" / "too") == tmp_path / "a"
    assert target(_Root(tmp_path), tmp_path / "a" / "b") == tmp_path
    touch(tmp_path / "a" / ".rwkvsearchignore")
    assert target(root, tmp_path / "a" / "b") == tmp_path / "a"
    touch(tmp_path / ".rwkvsearchignore")
    assert target(root, tmp_path / "a" / "b") == tmp_path


def test_the_look_for_a_limit_is_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    watching = Watching([tmp_path], lambda paths: None, print, tmp_path / "none")
    watching._noticed = Noticed(tmp_path / "none")
    watching._observe(polling=False)
    try:
        watching._observer.schedule(watching._noticed, str(tmp_path), recursive=True)
        watching._check_limit()
        touch(tmp_path / "later" / "1.png")  # events come in order
        assert watching._noticed.wake.wait(30)
    finally:
        watching._observer.stop()
        watching._observer.join()
    watching._noticed.take(0.0)
    folders, _ = watching._noticed.take(2 * LONGEST)
    assert folders == {tmp_path / "later"}


def test_a_deletion_beside_a_picture_that_grows(
    photos: Path, library: Library, encoder: Any
) -> None:
    sync(library, [photos], encoder)

    def syncing(paths: list[Path]) -> None:
        sync(library, paths, encoder)

    watching = Watching([photos], syncing, print, library.path / "thumbs", poll=True)
    watching._noticed = Noticed(library.path / "thumbs")
    watching._states = [_Root(photos, identity=(0, 0), known=True)]
    gone, big = photos / "a" / "0.png", photos / "a" / "big.png"
    gone.unlink()
    watching._noticed.dispatch(Told("deleted", str(gone)))
    for at in range(int(LONGEST) + 1):
        watching._noticed.dispatch(Told("modified", touch(big, at + 1)))
        watching._take(float(at))
    assert watching._due == {gone}
    watching._sync()
    assert (library.stats().files, library.stats().gone) == (9, 1)


def test_outermost() -> None:
    paths = [Path("/a/b"), Path("/a"), Path("/ab"), Path("/c/d"), Path("/c/d")]
    assert outermost(paths) == [Path("/a"), Path("/ab"), Path("/c/d")]
    assert os.fspath(outermost([Path("/x")])[0]) == "/x"
