"""Connections to a library that this process may not write.

WAL mode needs two files beside the database. Where they are not there and cannot be made, only an
immutable connection can read: it takes no lock and sees no change, so it serves for as long as the
database stays what it was, and another one takes its place then.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import PoolProxiedConnection

from rwkvsearch.data.errors import LibraryError

_State = tuple[int, int, bool]


class _Reader(sqlite3.Connection):
    frozen: _State | None = None
    """Of an immutable connection what the database was when it was opened."""


def connect_read_only(database: Path) -> _Reader:
    """A connection that sees what others write; an immutable one where there is no other way.

    Raises:
        sqlite3.Error: not a database, or not readable.
    """
    state = _state_of(database)
    connection = _connect(f"{database.as_uri()}?mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        connection.close()
        needs_files = error.sqlite_errorname.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))
        if _has_wal(database) or not needs_files:
            raise
    else:
        return connection
    immutable = _connect(f"{database.as_uri()}?mode=ro&immutable=1")
    immutable.frozen = state
    return immutable


def watch_immutable(engine: Engine, database: Path) -> None:
    """Let `engine` drop an immutable connection when the database has changed beneath it."""

    def on_checkout(connection: Any, _record: Any, _proxy: PoolProxiedConnection) -> None:
        if connection.frozen not in (None, _state_of(database)):
            raise DisconnectionError

    def on_error(context: Any) -> None:
        name = str(getattr(context.original_exception, "sqlite_errorname", ""))
        connection = context.connection and context.connection.connection.dbapi_connection
        if (
            isinstance(connection, _Reader)
            and connection.frozen
            and name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
            and not os.statvfs(database).f_flag & os.ST_RDONLY
        ):
            raise LibraryError(
                f"{database} could not be read: it is being written by another process; try again "
                f"(if none is at work, it is damaged: {context.original_exception})"
            )

    event.listen(engine, "checkout", on_checkout)
    event.listen(engine, "handle_error", on_error)


def _connect(address: str) -> _Reader:
    return sqlite3.connect(
        address,
        uri=True,
        timeout=30,
        check_same_thread=False,
        isolation_level=None,
        factory=_Reader,
    )


def _state_of(database: Path) -> _State:
    try:
        status = database.stat()
    except FileNotFoundError:
        return 0, 0, False
    return status.st_size, status.st_mtime_ns, _has_wal(database)


def _has_wal(database: Path) -> bool:
    wal = database.with_name(database.name + "-wal")
    return wal.exists() and wal.stat().st_size > 0
