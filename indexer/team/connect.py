"""Connections to PostgreSQL, and what it says as one line a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError, PendingRollbackError, TimeoutError

from rwkvsearch.data.errors import LibraryBusy, LibraryError, ServerGone
from rwkvsearch.indexer.address import Address
from rwkvsearch.indexer.tables import Halves

try:
    import psycopg
    from psycopg.abc import Buffer
    from psycopg.adapt import Dumper
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.pq import Format
except ImportError as error:
    raise LibraryError(
        "a library in PostgreSQL needs psycopg: run `pip install 'rwkvsearch[team]'`"
    ) from error

Connection = psycopg.Connection[Any]

# A server that is gone is noticed within a minute or so, also by a connection that only waits.
_USUAL: dict[str, Any] = {
    "application_name": "rwkvsearch",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
_TRY_AGAIN = "another rwkvsearch has written the same rows at the same time; run the command again"
_KNOWN = {
    "3D000": "{why}; make it with `createdb`, or name another",
    "25006": "the server only reads ({why}); name the one that takes writes",
    "40001": _TRY_AGAIN,
    "40P01": _TRY_AGAIN,
    "23505": _TRY_AGAIN,
    "23503": _TRY_AGAIN,
    "42501": "this role may not do that ({why}); ask the owner of the database to grant it",
    "53100": "no space left on the server; everything indexed so far is kept: free some space and "
    "run the same command again",
    "53300": "the server has no connection left ({why}); try again, or raise max_connections",
}
_PASSWORD = "{why}; put the password into ~/.pgpass or $PGPASSWORD"
_GONE_BEGINS = "the server cannot be reached"
_GONE = f"{_GONE_BEGINS} or has stopped ({{why}}); what was stored is kept, try again when it is up"
_SAID = (
    ("password", _PASSWORD),
    ("authentication failed", _PASSWORD),
    ("does not exist", _KNOWN["3D000"]),
    ("too many clients", _KNOWN["53300"]),
)


class Connector:
    """Makes connections to one address; safe among threads."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._type: int | None = None

    def __call__(self) -> Connection:
        """A new connection, which reads in binary and takes `Halves`."""
        try:
            wanted = _USUAL | conninfo_to_dict(self._address.url)
        except psycopg.ProgrammingError as error:
            raise LibraryError(f"{self._address}: {_first_line(error)}") from error
        # Planned anew each time, for the values that are asked with: a plan that fits all of them
        # could not use the index of one model.
        connection = psycopg.connect(cursor_factory=_BinaryCursor, prepare_threshold=None, **wanted)
        if self._type is None:
            with connection.transaction():
                row = connection.execute("SELECT to_regtype('halfvec')::oid::bigint").fetchone()
            self._type = row[0] if row else None
        if self._type is not None:
            dumper = type("HalvesDumper", (_HalvesDumper,), {"oid": self._type})
            connection.adapters.register_dumper(Halves, dumper)
        return connection


class _BinaryCursor(psycopg.Cursor[Any]):
    """Half the bytes of text for embeddings, and nothing to parse."""

    def __init__(self, connection: Connection, **options: Any) -> None:
        super().__init__(connection, **options)
        self.format = Format.BINARY


class _HalvesDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Halves) -> Buffer:
        return bytes(obj)


@contextmanager
def team_errors(name: str) -> Iterator[None]:
    """Turn what PostgreSQL says into a `LibraryError` of one line; into `LibraryBusy` if another
    writer was in the way, and the same transaction may succeed the next time."""
    try:
        yield
    except (DBAPIError, psycopg.Error, PendingRollbackError, TimeoutError) as error:
        said = explain(error)
        kind = LibraryBusy if _is_passing(error) else LibraryError
        raise (ServerGone if _GONE_BEGINS in said else kind)(f"{name}: {said}") from error


def _is_passing(error: BaseException) -> bool:
    """Whether the same transaction may succeed when it is run again: a deadlock and the like."""
    return getattr(_cause(error), "sqlstate", None) in ("40001", "40P01", "23505", "23503")


def explain(error: BaseException) -> str:
    """What happened and what to do, in one line."""
    cause = _cause(error)
    why, state = _first_line(cause), getattr(cause, "sqlstate", None) or ""
    shape = _KNOWN.get(state)
    if shape is None and isinstance(cause, psycopg.OperationalError):
        shape = next((shape for said, shape in _SAID if said in why), _GONE)
    if isinstance(cause, psycopg.InterfaceError):
        shape = _GONE
    return (shape or "{why}").format(why=why)


def _cause(error: BaseException) -> BaseException:
    found = error.orig if isinstance(error, DBAPIError) else error
    return found or error


def _first_line(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.removeprefix("connection failed: ").removeprefix("FATAL:  ").rstrip(". ")
