"""A backup is one committed state, whole or not there, and what is restored is that state."""

import fcntl
import io
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.indexer import edit
from rwkvsearch.indexer.albums import save_album
from rwkvsearch.indexer.backup import restore as restoring
from rwkvsearch.indexer.backup.file import FORMAT, is_backup
from rwkvsearch.indexer.backup.make import back_up
from rwkvsearch.indexer.backup.restore import check_backup, publish_all, restore
from rwkvsearch.indexer.doctor.run import Checkup, diagnose
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.migrations import SCHEMA_VERSION
from rwkvsearch.indexer.results import Result, keep_result
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.tables import AlbumRow, EmbeddingRow, ImageRow, ModelRow, SettingRow


def quiet(what: str, done: int, total: int) -> None:
    """Nobody is told."""


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    """In a folder; `test_between.py` has those of a team."""
    with Library.create(tmp_path / "library") as library:
        yield library


@pytest.fixture
def filled(library: Library, photos: Path, encoder: Any) -> Library:
    (photos / "a" / "0.txt").write_text("a picture of four squares")
    (photos / "b" / "bad.png").write_bytes(b"no picture")
    sync(library, [photos], encoder)
    save_album(library, "squares", "{}")
    with library.write() as session:
        session.add(SettingRow(name="kept", value="1"))
    result = Result("tune", datetime(2026, 11, 28, tzinfo=UTC), None, None, {}, {}, {})
    keep_result(library.path, result)
    (library.path / "benchmarks" / ".half.json.part").write_text("{")
    return library


@pytest.fixture
def file(filled: Library, tmp_path: Path) -> Path:
    back_up(filled, tmp_path / "library.tar", quiet)
    return tmp_path / "library.tar"


def rows_of(home: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(home / "library.sqlite")) as connection:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {
            name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for (name,) in names.fetchall()
            if name not in ("generations", "sqlite_sequence", "sqlite_stat1")
        }


def test_what_is_restored_is_what_was_backed_up(filled: Library, file: Path, encoder: Any) -> None:
    new = filled.path.parent / "elsewhere"
    made = restore(file, new, quiet)
    assert made.library == str(filled.path) and made.schema == SCHEMA_VERSION
    assert made.rows["images"] == 10 and made.rows["files"] == 11 and made.rows["albums"] == 1
    before = rows_of(filled.path)
    assert before["albums"] and before["texts"] and before["settings"]
    after = rows_of(new)
    assert {n: r for n, r in after.items() if n != "settings"} == {
        n: r for n, r in before.items() if n != "settings"
    }
    kept = [path.name for path in (new / "benchmarks").iterdir()]
    assert kept == ["20261128T000000Z-tune-machine.json"]
    with Library.open(new) as library:
        publish_all(library, lambda model: None)
        assert [ann.rows for ann in library.stats().anns] == [10]
        report = diagnose(library, Checkup(full=True))
        assert report.clean, report.findings
        again = sync(library, None, encoder)
        assert (again.unchanged, again.added, len(again.errors)) == (10, 0, 1)
        assert sorted(path.name for path in new.iterdir() if path.is_dir()) == ["ann", "benchmarks"]


def test_one_state_while_others_write(library: Library, tmp_path: Path) -> None:
    """Each transaction adds three images with embeddings and one album, or changes nothing."""
    with library.write() as session:
        session.add(
            ModelRow(
                model_id="m", preprocessing_id="p", dim=2, weights_sha256="0" * 64, created_at=0.0
            )
        )
    data = np.zeros(2, "<f2").tobytes()
    written, stop = [0], threading.Event()

    def write() -> None:
        with Library.open(library.path) as own:
            while not stop.is_set():
                step = written[0]
                with own.write() as session:
                    for number in range(3):
                        row = ImageRow(
                            content_hash=f"{step}-{number}" * 50, width=1, height=1, format="PNG"
                        )
                        session.add(row)
                        session.flush()
                        session.add(EmbeddingRow(image_id=row.id, model=1, data=data))
                    session.add(AlbumRow(name=f"{step}", query="{}", created_at=0.0))
                written[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = []
        for number in range(8):
            while written[0] < 5 * number + 1:
                assert writer.is_alive()
            low = written[0]
            made = back_up(library, tmp_path / "busy.tar", quiet)
            high = written[0] + 1
            new = tmp_path / f"restored-{number}"
            restore(tmp_path / "busy.tar", new, quiet)
            rows = {name: len(found) for name, found in rows_of(new).items()}
            assert rows["images"] == rows["embeddings"] == 3 * rows["albums"]
            assert rows["albums"] == made.rows["albums"] and low <= rows["albums"] <= high
            seen.append(rows["albums"])
    finally:
        stop.set()
        writer.join()
    assert seen == sorted(seen) and seen[-1] > seen[0]


def test_what_was_forgotten_is_not_in_it(filled: Library, tmp_path: Path, photos: Path) -> None:
    with closing(sqlite3.connect(filled.path / "library.sqlite")) as connection:
        (gone,) = connection.execute(
            "SELECT content_hash FROM images i JOIN files f ON f.image_id = i.id LIMIT 1"
        ).fetchone()
    back_up(filled, tmp_path / "x.tar", quiet)
    assert gone.encode() in (tmp_path / "x.tar").read_bytes()
    edit.forget(filled, photos)
    back_up(filled, tmp_path / "x.tar", quiet)
    assert gone.encode() not in (tmp_path / "x.tar").read_bytes()


def test_ids_that_only_grow_go_on(filled: Library, tmp_path: Path, photos: Path) -> None:
    edit.forget(filled, photos)
    made = back_up(filled, tmp_path / "x.tar", quiet)
    assert made.rows["embeddings"] == 0 and made.last_ids["embeddings"] == 10


def test_any_damage_is_noticed(file: Path, tmp_path: Path) -> None:
    whole, broken = file.read_bytes(), tmp_path / "broken.tar"
    with tarfile.open(file) as tar:
        spans = [(info.offset, info.offset_data + info.size) for info in tar]
    places = {begin + step for begin, _ in spans for step in range(0, 512, 37)}
    places |= {end - 1 for _, end in spans} | {*range(0, spans[-1][1], 9973)}
    # The sum of a header means the same with other spaces around it.
    spare = {begin + step for begin, _ in spans for step in range(148, 156)}
    covered = {at for at in places if any(begin <= at < end for begin, end in spans)} - spare
    assert len(covered) > 60
    for at in sorted(covered):
        broken.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(LibraryError) as caught:
            check_backup(broken, quiet)
        assert "\n" not in str(caught.value) and str(broken) in str(caught.value)
        if at % 5 == 0:
            with pytest.raises(LibraryError):
                restore(broken, tmp_path / "none", quiet)
            assert not (tmp_path / "none" / "library.sqlite").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.9, 0.99])
def test_a_file_that_breaks_off(file: Path, tmp_path: Path, share: float) -> None:
    with tarfile.open(file) as tar:
        end = max(info.offset_data + info.size for info in tar)
    file.write_bytes(file.read_bytes()[: int(share * end)])
    for act in (lambda: check_backup(file, quiet), lambda: restore(file, tmp_path / "new", quiet)):
        with pytest.raises(LibraryError, match=r"is damaged|is no backup") as caught:
            act()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "new" / "library.sqlite").exists()
    assert not (tmp_path / "new" / "restoring").exists()


def forged(
    file: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], *extra: tarfile.TarInfo
) -> Path:
    """The backup with another manifest and more members, and hashes that fit."""
    target = tmp_path / "forged.tar"
    with tarfile.open(file) as tar:
        members = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    del members["SHA256SUMS"]
    about = json.loads(members["manifest.json"])
    change(about)
    members["manifest.json"] = json.dumps(about).encode()
    for info in extra:
        members[info.name] = b""
    sums = "".join(f"{sha256(data).hexdigest()}  {name}\n" for name, data in members.items())
    special = {info.name: info for info in extra}
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in ({"SHA256SUMS": sums.encode()} | members).items():
            info = special.get(name, tarfile.TarInfo(name))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target


def link(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    "extra",
    [
        tarfile.TarInfo("../outside.json"),
        tarfile.TarInfo("/tmp/outside.json"),
        tarfile.TarInfo("benchmarks/../../outside.json"),
        tarfile.TarInfo("library.lock"),
        link("benchmarks/link.json"),
    ],
    ids=lambda info: info.name,
)
def test_nothing_else_is_unpacked(file: Path, tmp_path: Path, extra: tarfile.TarInfo) -> None:
    wrong = forged(file, tmp_path, lambda about: None, extra)
    with pytest.raises(LibraryError, match="there should be no"):
        restore(wrong, tmp_path / "new", quiet)
    assert not [*tmp_path.rglob("outside*"), *(tmp_path / "new").rglob("library*")]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"format": FORMAT + 1, "rwkvsearch": "9.9"}, "newer rwkvsearch (9.9)"),
        ({"schema": SCHEMA_VERSION + 1}, "newer rwkvsearch"),
        ({"format": "x"}, "manifest.json cannot be read"),
        ({"unknown": 1}, "manifest.json cannot be read"),
        ({"rows": {"images": 11}}, "10 rows of images, not 11"),
        ({"rows": {"nothing": 11}}, "its database cannot be read"),
    ],
)
def test_manifests_that_cannot_be_true(
    file: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    wrong = forged(file, tmp_path, lambda about: about.update(changes))
    with pytest.raises(LibraryError) as caught:
        restore(wrong, tmp_path / "new", quiet)
    assert said in str(caught.value)
    assert not (tmp_path / "new" / "library.sqlite").exists()


def test_nothing_is_overwritten(file: Path, filled: Library, tmp_path: Path) -> None:
    before = rows_of(filled.path)
    with pytest.raises(LibraryError, match="library.sqlite is there: move all of that library"):
        restore(file, filled.path, quiet)
    assert rows_of(filled.path) == before
    left = tmp_path / "left"  # as when only library.sqlite was moved away
    left.mkdir()
    (left / "library.sqlite-wal").write_bytes(b"x")
    with pytest.raises(LibraryError, match="library.sqlite-wal is there"):
        restore(file, left, quiet)


def test_only_a_backup_is_replaced(filled: Library, tmp_path: Path) -> None:
    photo, pipe, folder = tmp_path / "p.jpg", tmp_path / "pipe", tmp_path / "folder"
    photo.write_bytes(b"a photograph")
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (photo, pipe, folder):
        with pytest.raises(LibraryError, match="is there and is no backup"):
            back_up(filled, path, quiet)
    assert photo.read_bytes() == b"a photograph" and pipe.is_fifo()
    latest = tmp_path / "latest.tar"
    back_up(filled, tmp_path / "monday.tar", quiet)
    latest.symlink_to("monday.tar")
    back_up(filled, latest, quiet)
    assert latest.is_symlink() and is_backup(tmp_path / "monday.tar")


def test_two_at_once(filled: Library, tmp_path: Path) -> None:
    back_up(filled, tmp_path / "x.tar", quiet)
    before = (tmp_path / "x.tar").read_bytes()
    with (tmp_path / ".x.tar.library.sqlite.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LibraryBusy, match="another rwkvsearch is writing"):
            back_up(filled, tmp_path / "x.tar", quiet)
    assert (tmp_path / "x.tar").read_bytes() == before
    back_up(filled, tmp_path / "x.tar", quiet)
    assert not [*tmp_path.glob(".x.tar*")]


def test_of_a_library_that_cannot_be_written(filled: Library, tmp_path: Path) -> None:
    from rwkvsearch.indexer.catalog import open_catalog

    read_only = Library(filled.path, open_catalog(filled.path / "library.sqlite", read_only=True))
    with closing(read_only):
        assert back_up(read_only, tmp_path / "x.tar", quiet).rows["images"] == 10


def test_a_damaged_library_is_named(filled: Library, tmp_path: Path) -> None:
    database = filled.path / "library.sqlite"
    with filled.read():
        pass
    filled.close()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(database.read_bytes())
    content[4096 * 2 :] = os.urandom(len(content) - 4096 * 2)
    database.write_bytes(content)
    with pytest.raises(LibraryError, match="is damaged .* `rwkvsearch doctor --fix`"):
        back_up(filled, tmp_path / "x.tar", quiet)
    assert not (tmp_path / "x.tar").exists() and not [*tmp_path.glob(".x.tar*")]


CHILD = """
import sys, time
from pathlib import Path
from rwkvsearch.indexer.backup.make import back_up
from rwkvsearch.indexer.backup.restore import restore
from rwkvsearch.indexer.library import Library

def tell(what, done, total):
    print(what, flush=True)
    if what == sys.argv[4]:
        time.sleep(60)

if sys.argv[1] == "backup":
    with Library.open(Path(sys.argv[2])) as library:
        back_up(library, Path(sys.argv[3]), tell)
else:
    restore(Path(sys.argv[3]), Path(sys.argv[2]), tell)
"""


@pytest.fixture
def large(filled: Library) -> Library:
    """So that SQLite is long enough at it to be interrupted."""
    with filled.write() as session:
        values = [{"name": f"setting {number}", "value": "x" * 100} for number in range(40_000)]
        session.execute(insert(SettingRow), values)
    return filled


@pytest.mark.parametrize("step", ["copying", "writing"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_while_it_is_made(large: Library, tmp_path: Path, step: str, how: int) -> None:
    file = tmp_path / "x.tar"
    stopped(["backup", large.path, file, step], step, how)
    assert not file.exists()
    if how == signal.SIGINT:
        assert not [*tmp_path.glob(".x.tar*")]
    assert back_up(large, file, quiet).rows["settings"] > 40_000
    check_backup(file, quiet)
    assert not [*tmp_path.glob(".x.tar*")]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_while_it_is_restored(file: Path, tmp_path: Path, how: int) -> None:
    new = tmp_path / "new"
    stopped(["restore", new, file, "unpacking"], "unpacking", how)
    assert not (new / "library.sqlite").exists()
    with pytest.raises(LibraryError, match="no library at"):
        Library.open(new)
    restore(file, new, quiet)
    assert sorted(path.name for path in new.iterdir()) == ["benchmarks", "library.sqlite"]


def stopped(words: list[Any], step: str, how: int) -> None:
    """Run the program above until it does `step`, then send it a signal."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line.strip() == step:
                break
        else:
            pytest.fail(process.stderr.read() if process.stderr else "")
        process.send_signal(how)
        process.communicate(timeout=30)
    assert process.returncode in (-how, 130)


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Let no file of this process grow beyond some bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("share", [0.3, 1.01])  # in SQLite's copy, and in the tar
def test_no_space_for_a_backup(
    filled: Library, file: Path, small_files: Callable[[int], None], share: float
) -> None:
    before = file.read_bytes()
    with tarfile.open(file) as tar:
        size = tar.getmember("library.sqlite").size
    small_files(int(share * size))
    with pytest.raises(LibraryError, match="cannot be written: ") as caught:
        back_up(filled, file, quiet)
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == before and not [*file.parent.glob(f".{file.name}*")]


def test_no_space_for_a_library(
    file: Path, tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    small_files(10_000)
    with pytest.raises(LibraryError, match="cannot be written: "):
        restore(file, tmp_path / "new", quiet)
    assert not [*(tmp_path / "new").rglob("library*")]


def test_a_library_that_appears_meanwhile_stays(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(backup: Any, database: Path) -> None:
        Library.create(tmp_path / "new").close()

    monkeypatch.setattr(restoring, "_check_rows", slow)
    with pytest.raises(LibraryError, match="is there: move"):
        restore(file, tmp_path / "new", quiet)
    with Library.open(tmp_path / "new") as library:
        assert library.stats().images == 0
