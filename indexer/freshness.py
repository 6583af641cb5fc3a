"""Whether a library has changed since it was looked at: cheap enough to ask before each query."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rwkvsearch.indexer.address import Address, Place
from rwkvsearch.indexer.catalog import file_at, library_errors
from rwkvsearch.indexer.unwritable import connect_read_only

if TYPE_CHECKING:
    from rwkvsearch.indexer.team.freshness import TeamFreshness

State = tuple[object, ...]


def open_freshness(place: Place) -> Freshness | TeamFreshness:
    """What tells whether the library at a place has changed; `LibraryError` if it is not there."""
    if isinstance(place, Address):
        from rwkvsearch.indexer.team.freshness import TeamFreshness

        return TeamFreshness(place)
    return Freshness(place)


class Freshness:
    """A connection of its own to `library.sqlite`, which counts what others commit. Close it."""

    def __init__(self, library: Path) -> None:
        """Raises `LibraryError` if there is no database that can be read."""
        self._database = library.absolute() / "library.sqlite"
        self._file = file_at(self._database)
        with library_errors(self._database):
            self._connection = connect_read_only(self._database)

    def state(self) -> State | None:
        """What differs after any commit, or once another file is in its place; None if it is gone.

        `data_version` is exact, but blind where the database can only be read as immutable and
        where the file was replaced; the stat of the file sees those.
        """
        with library_errors(self._database):
            if file_at(self._database) not in (None, self._file):
                self._file = file_at(self._database)
                self._connection.close()
                self._connection = connect_read_only(self._database)
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        try:
            found = self._database.stat()
        except OSError:
            return None
        waiting = 0
        with suppress(OSError):
            waiting = os.stat(f"{self._database}-wal").st_size  # noqa: PTH116
        frozen = self._connection.frozen and (found.st_size, found.st_mtime_ns, waiting > 0)
        return found.st_dev, found.st_ino, version, frozen

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
