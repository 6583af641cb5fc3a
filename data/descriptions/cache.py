"""What was computed once is kept: tags, captions and answers, by the content they depend on.

This is also how a run goes on after a stop: it asks for everything again and is given what there
is.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rwkvsearch.data.errors import DataError

_CHUNK = 10_000  # values in one IN (...); SQLite's limit is 32,766


class Cache:
    """JSON values by key in a SQLite file; several processes may use it at once."""

    def __init__(self, path: Path) -> None:
        """Open the file, made if there is none.

        Raises:
            DataError: it cannot be made there, or is something else.
        """
        self.path = path
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=30, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
                " WITHOUT ROWID"
            )

    def __enter__(self) -> Self:
        """The cache itself."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self._database.close()

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The values that are there, by key."""
        found: dict[str, Any] = {}
        with self._errors():
            for start in range(0, len(keys), _CHUNK):
                some = keys[start : start + _CHUNK]
                marks = ",".join("?" * len(some))
                rows = self._database.execute(
                    f"SELECT key, value FROM results WHERE key IN ({marks})", some
                )
                found |= {key: json.loads(value) for key, value in rows}
        return found

    def put(self, values: Mapping[str, Any]) -> None:
        """Keep some values for good, in one transaction."""
        rows = [(key, json.dumps(value)) for key, value in values.items()]
        with self._errors(), self._transaction():
            self._database.executemany("INSERT OR REPLACE INTO results VALUES (?, ?)", rows)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(
                f"{self.path}: the cache cannot be used: {reason}; name another with --cache"
            ) from error


def remembered(
    cache: Cache, keys: Sequence[str], compute: Callable[[list[int]], Mapping[int, Any]]
) -> list[Any]:
    """The value of each key; `compute` is given the places of those that are missing.

    What it leaves out is None here and is asked for again the next time.
    """
    found = cache.get(keys)
    missing = [place for place, key in enumerate(keys) if key not in found]
    computed = compute(missing) if missing else {}
    cache.put({keys[place]: value for place, value in computed.items()})
    return [computed.get(place, found.get(key)) for place, key in enumerate(keys)]
