"""Whether a library in PostgreSQL has changed since it was looked at."""

from __future__ import annotations

from contextlib import suppress

import psycopg

from rwkvsearch.indexer.address import Address
from rwkvsearch.indexer.team.connect import Connector, team_errors

State = tuple[object, ...]


class TeamFreshness:
    """A connection of its own, which asks for the snapshot of the server. Close it.

    A snapshot changes when a transaction that has written ends, in any database of the server.
    """

    def __init__(self, address: Address) -> None:
        """Raises `LibraryError` if it cannot be reached."""
        self._name = str(address)
        self._connect = Connector(address)
        with team_errors(self._name):
            self._connection = self._open()

    def state(self) -> State | None:
        """What differs after any commit; a connection that broke is made anew."""
        with team_errors(self._name):
            try:
                return self._ask()
            except (psycopg.OperationalError, psycopg.InterfaceError):
                self.close()
                self._connection = self._open()
                return self._ask()

    def close(self) -> None:
        """Close the connection."""
        with suppress(psycopg.Error):
            self._connection.close()

    def _open(self) -> psycopg.Connection[tuple[object, ...]]:
        connection = self._connect()
        connection.autocommit = True
        return connection

    def _ask(self) -> State:
        asked = (
            "SELECT pg_current_snapshot()::text, oid::bigint FROM pg_database"
            " WHERE datname = current_database()"
        )
        return self._connection.execute(asked).fetchone() or ()
