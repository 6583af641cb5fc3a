"""Save what can be read of a damaged `library.sqlite`.

Tables are read without their indexes, from both ends up to what cannot be read, into a new
database; where a lost index let a row in twice, the first stays. SQLite then puts the new pages
in the place of the old ones in one transaction, so that a kill leaves the one or the other, and
readers go on.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from rwkvsearch.indexer.catalog import library_errors, open_catalog
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import Table

_TEXTS = {"captions", "texts"}


def salvage(library: Library) -> None:
    """Put a sound database in the place of the damaged one; the caller is the library's writer.

    Rows that other rows need may be lost: the checks that follow find those.

    Raises:
        LibraryError: no space, or nothing can be read at all.
    """
    database = library.path / "library.sqlite"
    new = library.path / "library.sqlite.new"
    with library_errors(database):
        try:
            _remove(new)
            open_catalog(new, create=True).dispose()
            with closing(_connect(new)) as target, closing(_connect(database)) as source:
                source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                shutil.copyfile(database, library.path / "library.sqlite.damaged")
                lost = [name for name in _tables() if not _copy(source, target, name)]
                if _TEXTS.intersection(lost):
                    _tell_again(target)
                if lost:  # tags, or the embedding ids up to which there are tags
                    target.execute("DELETE FROM settings WHERE name LIKE 'tags:%'")
                target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                target.backup(source)
        finally:
            _remove(new)


def _tables() -> list[str]:
    return [table.name for table in Table.metadata.sorted_tables]


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> bool:
    """Copy a table; whether all of it could be read."""
    columns = [row[1] for row in target.execute(f"PRAGMA table_info({table})")]
    names = ", ".join(f'"{name}"' for name in columns)
    marks = ", ".join("?" * len(columns))
    target.execute("BEGIN")
    whole = True
    for direction in ("ASC", "DESC"):
        try:
            rows = source.execute(
                f"SELECT {names} FROM {table} NOT INDEXED ORDER BY rowid {direction}"
            )
            for row in rows:
                target.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", row)
            break
        except sqlite3.DatabaseError:
            whole = False
    target.execute("COMMIT")
    return whole


def _tell_again(target: sqlite3.Connection) -> None:
    """Let the next sync read what pictures say and what stands beside them; it embeds nothing."""
    target.execute("UPDATE images SET perceptual_hash = NULL")
    target.execute("UPDATE files SET sidecars = '?' WHERE sidecars IS NOT NULL")


def _connect(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(database, timeout=30, isolation_level=None)


def _remove(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
