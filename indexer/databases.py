"""What SQLite in a folder and PostgreSQL at an address do each in their own way."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.indexer.address import Address, Place
from rwkvsearch.indexer.catalog import WRITES, library_errors, open_catalog


class Database(Protocol):
    """The truth of an open library."""

    @property
    def engine(self) -> Engine:
        """Gives sessions that read."""

    @property
    def writing(self) -> Engine:
        """Gives sessions that write."""

    def errors(self) -> AbstractContextManager[None]:
        """Turn what the database says into a `LibraryError` of one line."""

    def writer(self, only: Sequence[Path] | None) -> AbstractContextManager[None]:
        """As `Library.writer`."""

    def is_writable(self) -> bool:
        """Whether this process may write, as far as can be told without trying."""


class FolderDatabase:
    """`library.sqlite` in a folder, with `library.lock` beside it, which lets one writer in."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._folder = folder
        self.engine = engine
        self.writing = engine.execution_options(**{WRITES: True})

    def errors(self) -> AbstractContextManager[None]:
        """As `Database.errors`."""
        return library_errors(self._folder / "library.sqlite")

    @contextmanager
    def writer(self, only: Sequence[Path] | None) -> Iterator[None]:
        """The kernel lifts the lock when a process dies; SQLite has one writer, whatever `only`."""
        try:
            stream = (self._folder / "library.lock").open("a+")
        except OSError as error:
            raise LibraryError(f"cannot write to {self._folder}: {error.strerror}") from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LibraryBusy(
                    f"another rwkvsearch is indexing into {self._folder}; "
                    "wait until it is done, or stop it"
                ) from error
            yield

    def is_writable(self) -> bool:
        """Whether the permissions let this process write."""
        database = self._folder / "library.sqlite"
        return os.access(self._folder, os.W_OK) and os.access(database, os.W_OK)


def open_database(place: Place) -> Database:
    """The database of an existing library; see `Library.open`."""
    if isinstance(place, Address):
        from rwkvsearch.indexer.team.database import TeamDatabase

        return TeamDatabase.open(place)
    database = place / "library.sqlite"
    if not database.is_file() or database.stat().st_size == 0:
        raise LibraryError(f"no library at {place}; make one with `rwkvsearch index PATH`")
    writable = os.access(place, os.W_OK) and os.access(database, os.W_OK)
    return FolderDatabase(place, open_catalog(database, read_only=not writable))


def create_database(place: Place) -> Database:
    """The database of a library, made if there is none; see `Library.create`."""
    if isinstance(place, Address):
        from rwkvsearch.indexer.team.database import TeamDatabase

        return TeamDatabase.open(place, create=True)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryError(
            f"cannot make a library at {place}: {error.strerror}; name another folder with "
            "--library or RWKVSEARCH_HOME"
        ) from error
    return FolderDatabase(place, open_catalog(place / "library.sqlite", create=True))
