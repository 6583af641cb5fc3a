"""Make a backup of a library while others write to it: one state of it, as of one moment."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.indexer.backup.file import (
    DATABASE,
    RESULT,
    Manifest,
    Progress,
    is_backup,
    room_error,
    tables,
    write_backup,
)
from rwkvsearch.indexer.backup.last_ids import go_on_from, last_ids
from rwkvsearch.indexer.catalog import error_name, is_damage, is_full
from rwkvsearch.indexer.copying import copy_rows
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.migrations import SCHEMA_VERSION
from rwkvsearch.indexer.results import FOLDER
from rwkvsearch.indexer.tables import Table
from rwkvsearch.indexer.unwritable import connect_read_only

_STEPS = 100_000  # of SQLite's machine between two looks at the time


def back_up(library: Library, file: Path, progress: Progress) -> Manifest:
    """Write a backup of `library` to `file`; one that is there is replaced once the new is whole.

    For the time that it takes, it needs room for the library twice beside `file`.

    Raises:
        LibraryBusy: another process is writing the same backup.
        LibraryError: the file is something else, cannot be written, or the library is damaged.
    """
    file = file.resolve()
    if file.exists() and not is_backup(file):
        raise LibraryError(f"{file} is there and is no backup: name another file")
    try:
        with _working_copy(file) as copy:
            if library.is_shared:
                _gather(library, copy, progress)
            else:
                _snapshot(library.path / DATABASE, copy, progress)
            manifest = _describe(library, copy)
            results = (library.path / FOLDER).glob("*.json")
            names = {f"{FOLDER}/{path.name}": path for path in sorted(results) if path.is_file()}
            kept = {name: path for name, path in names.items() if RESULT.fullmatch(name)}
            write_backup(file, manifest, {DATABASE: copy} | kept, progress)
    except OSError as error:
        raise room_error(file, error) from error
    return manifest


@contextmanager
def _working_copy(file: Path) -> Iterator[Path]:
    """An empty file beside `file` for the database, held by one process; a killed one's is reused.

    The kernel lifts the lock when the process dies.
    """
    copy = file.with_name(f".{file.name}.{DATABASE}.part")
    with copy.open("a+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LibraryBusy(f"another rwkvsearch is writing {file}; try again later") from error
        stream.truncate(0)
        try:
            yield copy
        finally:
            with suppress(OSError):
                copy.unlink()


def _snapshot(database: Path, copy: Path, progress: Progress) -> None:
    """Copy what a library holds, without what was deleted; writers go on meanwhile."""
    with _one_line(database, copy), closing(connect_read_only(database)) as connection:
        pages, free, size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )

        def tell() -> int:
            progress("copying", copy.stat().st_size, (pages - free) * size)
            return 0

        connection.set_progress_handler(tell, _STEPS)
        connection.execute("VACUUM INTO ?", (copy.as_uri(),))


def _gather(library: Library, copy: Path, progress: Progress) -> None:
    """The same of a library in another database, as its rows are at the first look."""
    engine = create_engine("sqlite://", creator=lambda: _connect(copy), poolclass=NullPool)
    with library.read() as source, Session(engine) as target, target.begin():
        Table.metadata.create_all(target.connection())
        target.execute(text(f"PRAGMA user_version = {SCHEMA_VERSION}"))
        copy_rows(source, target, lambda table, *rows: progress(f"copying {table}", *rows))
        go_on_from(target, last_ids(source))


def _describe(library: Library, copy: Path) -> Manifest:
    with _one_line(copy, copy), closing(_connect(copy)) as connection:
        connection.execute("DELETE FROM generations")  # of files that are not part of the backup
        count = "SELECT count(*) FROM"
        rows = {name: connection.execute(f"{count} {name}").fetchone()[0] for name in tables()}
        last = dict(connection.execute("SELECT name, seq FROM sqlite_sequence"))
    return Manifest(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        library=library.name,
        rwkvsearch=version("rwkvsearch"),
        schema=SCHEMA_VERSION,
        rows=rows,
        last_ids={name: int(value) for name, value in last.items()},
    )


def _connect(copy: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{copy.as_uri()}?mode=rw", uri=True, isolation_level=None)
    # Nobody else has it, and after a kill it is made anew.
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    return connection


@contextmanager
def _one_line(database: Path, copy: Path) -> Iterator[None]:
    """Turn what SQLite says into an error of one line, or the Ctrl-C that it was."""
    try:
        yield
    except sqlite3.Error as error:
        name = error_name(error)
        if name == "SQLITE_INTERRUPT":
            raise KeyboardInterrupt from None
        if is_full(name):
            why = "no space left, or larger than a file may be"
            raise LibraryError(f"{copy.parent}: a backup cannot be written: {why}") from error
        if is_damage(name):
            remedy = "`rwkvsearch doctor --fix` saves what can be read"
            raise LibraryError(f"{database} is damaged ({error}): {remedy}") from error
        raise LibraryError(f"{database}: {error}") from error
