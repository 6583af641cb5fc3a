"""Saved queries and votes: kept, renamed, deleted, and gone with what they belong to."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer import edit
from rwkvsearch.indexer.albums import (
    delete_album,
    forget_votes,
    read_album,
    read_albums,
    rename_album,
    save_album,
    vote,
)
from rwkvsearch.indexer.catalog import open_catalog
from rwkvsearch.indexer.databases import FolderDatabase
from rwkvsearch.indexer.doctor.run import Checkup, diagnose
from rwkvsearch.indexer.doctor.salvage import salvage
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.places import images_at
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.tables import VoteRow


@pytest.fixture
def indexed(library: Library, photos: Path, encoder: Any) -> Library:
    sync(library, [photos], encoder)
    return library


def test_saved_and_read(library: Library) -> None:
    assert read_albums(library) == []
    save_album(library, "b", "two")
    save_album(library, "a", "one")
    assert [(album.name, album.query) for album in read_albums(library)] == [
        ("a", "one"),
        ("b", "two"),
    ]
    with Library.open(library.place) as again:
        album = read_album(again, "a")
    assert (album.query, album.liked, album.disliked) == ("one", (), ())


def test_a_name_is_taken_once(indexed: Library) -> None:
    save_album(indexed, "a", "one")
    vote(indexed, "a", liked=[1])
    with pytest.raises(LibraryError, match="there is an album 'a' already: use --replace"):
        save_album(indexed, "a", "two")
    assert read_album(indexed, "a").query == "one"
    save_album(indexed, "a", "two", replace=True)
    album = read_album(indexed, "a")
    assert (album.query, album.liked) == ("two", ())
    for empty in ("", "  "):
        with pytest.raises(LibraryError, match="needs a name"):
            save_album(indexed, empty, "x")


def test_a_name_that_is_no_text(library: Library) -> None:
    with pytest.raises(LibraryError, match="is not UTF-8"):
        save_album(library, "caf\udce9", "x")
    save_album(library, "a", "x")
    with pytest.raises(LibraryError, match="is not UTF-8"):
        rename_album(library, "a", "caf\udce9")
    with pytest.raises(LibraryError, match=r"no album 'caf\\udce9': there are 'a'"):
        read_album(library, "caf\udce9")


def test_an_unknown_name_lists_those_there_are(library: Library) -> None:
    with pytest.raises(LibraryError, match="no album 'x': make one with `rwkvsearch album save`"):
        read_album(library, "x")
    for number in range(12):
        save_album(library, f"n{number:02}", "q")
    with pytest.raises(LibraryError) as error:
        read_album(library, "x")
    assert "'n00', 'n01'" in str(error.value) and str(error.value).endswith("'n09' and 2 more")
    for change in (
        lambda: delete_album(library, "x"),
        lambda: rename_album(library, "x", "y"),
        lambda: vote(library, "x", [1]),
        lambda: forget_votes(library, "x"),
    ):
        with pytest.raises(LibraryError, match="no album 'x'"):
            change()


def test_renamed_and_deleted(indexed: Library) -> None:
    save_album(indexed, "a", "one")
    save_album(indexed, "b", "two")
    vote(indexed, "a", liked=[1], disliked=[2])
    with pytest.raises(LibraryError, match="there is an album 'b' already"):
        rename_album(indexed, "a", "b")
    rename_album(indexed, "a", "a")
    rename_album(indexed, "a", "c")
    album = read_album(indexed, "c")
    assert (album.query, album.liked, album.disliked) == ("one", (1,), (2,))
    delete_album(indexed, "c")
    assert [album.name for album in read_albums(indexed)] == ["b"]
    with indexed.read() as session:
        assert session.scalar(select(func.count()).select_from(VoteRow)) == 0


def test_the_last_vote_counts(indexed: Library) -> None:
    save_album(indexed, "a", "one")
    vote(indexed, "a", liked=[3, 1], disliked=[2])
    vote(indexed, "a", liked=[2], disliked=[3, 4])
    assert read_album(indexed, "a").liked == (1, 2)
    assert read_album(indexed, "a").disliked == (3, 4)
    with pytest.raises(LibraryError, match="image 5 cannot be liked and disliked at once"):
        vote(indexed, "a", liked=[5, 6], disliked=[5])
    with pytest.raises(LibraryError, match="there is no image 99 in"):
        vote(indexed, "a", liked=[6, 99])
    assert read_album(indexed, "a").liked == (1, 2)
    forget_votes(indexed, "a")
    assert (read_album(indexed, "a").liked, read_album(indexed, "a").disliked) == ((), ())


def test_votes_go_with_their_image(indexed: Library, photos: Path) -> None:
    save_album(indexed, "a", "one")
    there = images_at(indexed, [photos / "a" / "0.png", photos / "b" / "7.png"])
    vote(indexed, "a", liked=there.values())
    edit.forget(indexed, photos / "a" / "0.png")
    assert read_album(indexed, "a").liked == (there[photos / "b" / "7.png"],)
    (photos / "b" / "7.png").unlink()
    edit.forget(indexed, photos / "b")
    assert read_album(indexed, "a").liked == ()


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_library_that_cannot_be_written_says_so(indexed: Library) -> None:
    save_album(indexed, "a", "one")
    database = indexed.path / "library.sqlite"
    opened = FolderDatabase(indexed.path, open_catalog(database, read_only=True))
    with Library(indexed.path, opened) as library:
        assert read_album(library, "a").query == "one"
        with pytest.raises(LibraryError, match="cannot be .*written .*check its permissions"):
            save_album(library, "b", "two")


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_doctor_finds_no_fault_in_albums_and_salvages_them(indexed: Library) -> None:
    save_album(indexed, "a", "one")
    vote(indexed, "a", liked=[1], disliked=[2])
    assert diagnose(indexed, Checkup(full=True)).clean
    before = read_albums(indexed)
    with indexed.writer():
        salvage(indexed)
    assert read_albums(indexed) == before
    assert diagnose(indexed, Checkup(full=True)).clean


def test_paths_of_images(
    indexed: Library, photos: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = images_at(indexed, [photos / "a" / "1.png"])[photos / "a" / "1.png"]
    monkeypatch.chdir(photos / "a")
    link = photos.parent / "link"
    link.symlink_to(photos)
    for path in ("1.png", "./1.png", "../a/1.png", photos / "b" / ".." / "a" / "1.png"):
        assert images_at(indexed, [Path(path)]) == {Path(path): one}
    assert images_at(indexed, [link / "a" / "1.png"]) == {link / "a" / "1.png": one}
    monkeypatch.chdir("/")
    assert images_at(indexed, [Path("a/1.png")]) == {Path("a/1.png"): one}
    assert images_at(indexed, [Path("1.png"), photos, Path("/nowhere/1.png")]) == {}
    shutil.copy(photos / "a" / "1.png", photos / "copy.png")
    sync(indexed, [photos], encoder)
    assert images_at(indexed, [photos / "copy.png"]) == {photos / "copy.png": one}
    (photos / "copy.png").unlink()
    sync(indexed, [photos], encoder)
    assert images_at(indexed, [photos / "copy.png"]) == {}
