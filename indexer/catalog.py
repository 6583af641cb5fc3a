"""The one way to open `library.sqlite`.

SQLite runs in WAL mode, so readers never wait for the writer. `synchronous=FULL` costs one fsync a
transaction, which is nothing beside encoding the batch in it, and then not even a power cut takes
back a batch that was reported as done.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    QueuePool,
    create_engine,
    event,
)
from sqlalchemy.exc import DBAPIError, DisconnectionError

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.migrations import MIGRATIONS, SCHEMA_VERSION
from rwkvsearch.indexer.tables import Table
from rwkvsearch.indexer.unwritable import connect_read_only, watch_immutable

WRITES = "rwkvsearch_writes"


def open_catalog(database: Path, *, create: bool = False, read_only: bool = False) -> Engine:
    """An engine for an existing `library.sqlite`, or a new one with `create`.

    A library of an older version is brought up to this one's schema.

    Raises:
        LibraryError: not a library, made by a newer version, or not readable.
    """
    address = f"{database.as_uri()}?mode={'rwc' if create else 'rw'}"

    def connect() -> sqlite3.Connection:
        if read_only:
            return connect_read_only(database)
        return sqlite3.connect(
            address, uri=True, timeout=30, check_same_thread=False, isolation_level=None
        )

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)
    event.listen(engine, "connect", _set_read_pragmas if read_only else _set_pragmas)
    event.listen(engine, "begin", _begin)
    _watch_replaced(engine, database)
    if read_only:
        watch_immutable(engine, database)
    try:
        with library_errors(database):
            _check_version(engine, database, create, read_only)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def library_errors(database: Path) -> Iterator[None]:
    """Turn what SQLite says into a `LibraryError` of one line."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        raise LibraryError(_explain(database, error)) from error


def _set_read_pragmas(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA busy_timeout = 30000")
    connection.execute("PRAGMA foreign_keys = ON")


def _set_pragmas(connection: sqlite3.Connection, record: Any) -> None:
    _set_read_pragmas(connection, record)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _watch_replaced(engine: Engine, database: Path) -> None:
    """Let `engine` drop a connection once another file is in the place of its own."""

    def on_connect(_: sqlite3.Connection, record: Any) -> None:
        record.info["file"] = file_at(database)

    def on_checkout(_: sqlite3.Connection, record: Any, _proxy: Any) -> None:
        if file_at(database) not in (None, record.info["file"]):
            raise DisconnectionError

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "checkout", on_checkout)


def file_at(path: Path) -> tuple[int, int] | None:
    """Tells the file that lies there from another; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _begin(connection: Connection) -> None:
    # A writer takes its place in the queue at once: upgrading a read later could only fail.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _check_version(engine: Engine, database: Path, create: bool, read_only: bool) -> None:
    with engine.connect() as connection:
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        used = (
            version or connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema").scalar_one()
        )
    if version > SCHEMA_VERSION:
        raise LibraryError(
            f"{database} was made by a newer rwkvsearch (schema {version}, this one knows "
            f"{SCHEMA_VERSION}); upgrade with `pip install -U rwkvsearch`"
        )
    if not used and not create:  # no more than begun, on a full disk
        raise LibraryError(
            f"no library at {database.parent}; make one with `rwkvsearch index PATH`"
        )
    if version == 0 and used:
        raise LibraryError(f"{database} is not a rwkvsearch library")
    if version < SCHEMA_VERSION and read_only:
        raise LibraryError(
            f"{database} was made by an older rwkvsearch (schema {version}) and cannot be "
            "written here; open it once where it can be, such as by `rwkvsearch stats`"
        )
    if version < SCHEMA_VERSION:
        _upgrade(engine)


def _upgrade(engine: Engine) -> None:
    """In one transaction, which a second process waits for and then finds done."""
    with engine.connect().execution_options(**{WRITES: True}) as connection:
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        for step in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
            for statement in MIGRATIONS[step]:
                connection.exec_driver_sql(statement)
        Table.metadata.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.commit()


def _explain(database: Path, error: DBAPIError | sqlite3.Error) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = error_name(cause)
    if is_full(name):
        return (
            f"{database}: no space left to write; everything indexed so far is kept: "
            "free some space and run the same command again"
        )
    if is_damage(name):
        return (
            f"{database} is damaged or not a rwkvsearch library ({cause}); "
            "move it away and index again"
        )
    if name.startswith("SQLITE_BUSY"):
        return f"{database}: another program has been writing for 30 seconds; try again later"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return f"{database} cannot be opened or written ({cause}); check its permissions"
    return f"{database}: {cause}"


def error_name(error: BaseException | None) -> str:
    """SQLite's own name of an error, such as `SQLITE_FULL`; empty if it has none."""
    return str(getattr(error, "sqlite_errorname", ""))


def is_full(name: str) -> bool:
    """Whether there was no room to write."""
    return name == "SQLITE_FULL" or name.startswith(("SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC"))


def is_damage(name: str) -> bool:
    """Whether the file is no sound database."""
    return name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT"))
