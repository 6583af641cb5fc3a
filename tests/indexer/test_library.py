"""Opening, locking and damage: each a clear line, never a traceback of SQLite."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync


def test_no_library(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="no library at .*; make one with `rwkvsearch index"):
        Library.open(tmp_path / "none")
    (tmp_path / "library.sqlite").touch()  # as a kill during the very first run leaves it
    with pytest.raises(LibraryError, match="no library at "):
        Library.open(tmp_path)
    Library.create(tmp_path).close()
    Library.open(tmp_path).close()


def test_create_again_keeps_everything(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos], encoder)
    with Library.create(library.place) as again:
        assert again.stats().images == 10


def test_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LibraryError, match="cannot make a library at .*file"):
        Library.create(tmp_path / "file")


def test_empty_library(library: Library) -> None:
    with pytest.raises(LibraryError, match="is empty; fill it with `rwkvsearch index PATH`"):
        library.embeddings("fake", "fake-8")
    stats = library.stats()
    assert (stats.images, stats.files, stats.synced_at) == (0, 0, None)
    assert library.paths_of([1, 2]) == {}


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_newer_schema(library: Library) -> None:
    with sqlite3.connect(library.path / "library.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for way in (Library.open, Library.create):
        with pytest.raises(LibraryError, match="made by a newer rwkvsearch"):
            way(library.place)


def test_another_programs_database(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "library.sqlite")
    connection.execute("CREATE TABLE recipes (name)")
    connection.close()
    for way in (Library.open, Library.create):
        with pytest.raises(LibraryError, match="is not a rwkvsearch library"):
            way(tmp_path)


def test_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "library.sqlite").write_text("words " * 1000)
    for way in (Library.open, Library.create):
        with pytest.raises(LibraryError, match="damaged or not a rwkvsearch library") as caught:
            way(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_damaged_pages(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos], encoder)
    library.close()
    database = library.path / "library.sqlite"
    data = bytearray(database.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    database.write_bytes(data)
    with pytest.raises(LibraryError, match="damaged") as caught:
        with Library.open(library.place) as damaged:
            damaged.stats()
    assert "\n" not in str(caught.value)


def test_stats_and_paths(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos], encoder)
    stats = library.stats()
    assert (stats.images, stats.files, stats.errors, stats.roots) == (10, 10, 0, [photos])
    assert stats.bytes_on_disk > 10_000
    assert stats.synced_at is not None and stats.synced_at.tzinfo is not None
    (photos / "a/0.png").unlink()
    sync(library, [photos], encoder)
    assert library.stats().images == 9
    ids, embeddings = library.embeddings("fake", "fake-8")
    assert ids.shape == (9,) and embeddings.shape == (9, 12)
    assert embeddings.dtype == np.float16
    assert len(library.paths_of(range(1000))) == 9


def test_second_writer_is_told_and_readers_are_not_disturbed(
    library: Library, photos: Path, encoder: Any
) -> None:
    sync(library, [photos], encoder)
    with library.writer(), Library.open(library.place) as other:
        with pytest.raises(LibraryError, match="another rwkvsearch is indexing into"):
            sync(other, [photos], encoder)
        with library.write():
            assert other.stats().images == 10
    assert sync(library, [photos], encoder).unchanged == 10


def test_the_lock_of_a_killed_writer_is_gone(library: Library) -> None:
    code = (
        "import os, signal, sys; from rwkvsearch.indexer.address import place_of\n"
        "from rwkvsearch.indexer.library import Library\n"
        "with Library.open(place_of(sys.argv[1])).writer(): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(library.place)]).returncode == -9
    with library.writer():
        pass


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_read_only_folder(library: Library, photos: Path, encoder: Any, open_path: Path) -> None:
    sync(library, [photos], encoder)
    library.close()
    home = library.path.rename(open_path / "library")
    code = (
        "import os, sys; from pathlib import Path\n"
        "from rwkvsearch.indexer.library import Library\n"
        "from rwkvsearch.indexer.search import SearchIndex\n"
        "from rwkvsearch.data.errors import LibraryError\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "with Library.open(Path(sys.argv[1])) as library:\n"
        "    ids, embeddings = library.embeddings('fake', 'fake-8')\n"
        "    index = SearchIndex.open(library, 'fake', 'fake-8')\n"
        "    print(library.stats().images, index.search(embeddings[:1].astype('f4'), 1)[1])\n"
        "    try:\n"
        "        with library.writer(): pass\n"
        "    except LibraryError as error: print(error)\n"
    )
    home.chmod(0o555)
    try:
        done = subprocess.run([sys.executable, "-c", code, home], capture_output=True, text=True)
    finally:
        home.chmod(0o755)
    assert done.stderr == ""
    assert done.stdout == f"10 [[1]]\ncannot write to {home}: Permission denied\n"


OTHER_USER = """
import os, sys
from pathlib import Path
from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.library import Library
if os.geteuid() == 0: os.setuid(65534)
"""


def as_other_user(code: str, home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OTHER_USER + code, home],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_reader_without_permission_sees_what_another_writes(
    library: Library, photos: Path, encoder: Any, open_path: Path
) -> None:
    sync(library, [photos / "a"], encoder)
    library.close()
    home = library.path.rename(open_path / "library")
    home.chmod(0o555)
    code = (
        "with Library.open(Path(sys.argv[1])) as library:\n"
        "    for _ in range(3): print(library.stats().images, flush=True); sys.stdin.readline()\n"
    )
    with as_other_user(code, home) as reader:
        assert reader.stdin is not None and reader.stdout is not None
        assert reader.stdout.readline() == "5\n"
        home.chmod(0o755)
        with Library.open(home) as writer:
            sync(writer, [photos], encoder)
            print(file=reader.stdin, flush=True)
            assert reader.stdout.readline() == "10\n"
            (photos / "a/0.png").unlink()
            sync(writer, [photos], encoder)
        said, _ = reader.communicate("\n\n")
    assert (said, reader.returncode) == ("9\n", 0)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_pages_that_change_beneath_a_reader_are_not_called_damage(
    library: Library, photos: Path, encoder: Any, open_path: Path
) -> None:
    sync(library, [photos], encoder)
    library.close()
    home = library.path.rename(open_path / "library")
    home.chmod(0o555)
    code = (
        "from sqlalchemy import text\n"
        "try:\n"
        "    with Library.open(Path(sys.argv[1])) as library, library.read() as session:\n"
        "        print(session.scalar(text('SELECT 1 FROM sqlite_schema')), flush=True)\n"
        "        sys.stdin.readline()\n"
        "        session.execute(text('SELECT * FROM files')).all()\n"
        "except LibraryError as error: print(error)\n"
    )
    with as_other_user(code, home) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == "1\n"
        home.chmod(0o755)
        with (home / "library.sqlite").open("r+b") as pages:
            pages.seek(4096)
            pages.write(b"\xff" * ((home / "library.sqlite").stat().st_size - 4096))
        said, _ = reader.communicate("\n")
    assert "is being written by another process; try again" in said


def test_undecodable_library_path(tmp_path: Path, photos: Path, encoder: Any) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 100%?#"))
    with Library.create(path) as library:
        sync(library, [photos], encoder)
    with Library.open(path) as library:
        assert library.stats().images == 10


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_another_library_in_its_place_is_read(
    library: Library, photos: Path, encoder: Any, tmp_path: Path
) -> None:
    sync(library, [photos], encoder)
    assert library.stats().images == 10
    with Library.open(library.place) as reader:
        assert reader.stats().images == 10
        library.close()
        shutil.move(library.path, tmp_path / "old")
        assert reader.stats().images == 10, "what is open can be read"
        with Library.create(reader.path) as another:
            sync(another, [photos / "a"], encoder)
            assert reader.stats().images == another.stats().images == 5
