"""A library in a PostgreSQL database: connections, the schema and its version, who may write."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Engine, QueuePool, create_engine, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.address import Address
from rwkvsearch.indexer.migrations import MIGRATIONS, SCHEMA_VERSION
from rwkvsearch.indexer.tables import SettingRow, Table
from rwkvsearch.indexer.team.connect import Connector, explain, team_errors
from rwkvsearch.indexer.team.locks import hold

_VERSION = "schema"  # the setting that holds the version
_POOL, _MORE = 5, 20  # connections that stay open, and more when they are all in use
_UPGRADING = 0x7277_6B76  # the lock of whoever makes or changes the schema


class TeamDatabase:
    """The tables of `indexer.tables` in the first schema of the search path."""

    def __init__(self, address: Address) -> None:
        """Use `TeamDatabase.open`."""
        self.address = address
        self.connect = Connector(address)
        bare = create_engine(
            "postgresql+psycopg://",
            creator=self.connect,
            poolclass=QueuePool,
            pool_size=_POOL,
            max_overflow=_MORE,
            pool_pre_ping=True,
            use_native_hstore=False,
        )
        self.engine: Engine = bare.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self.writing: Engine = bare.execution_options(isolation_level="READ COMMITTED")

    @classmethod
    def open(cls, address: Address, *, create: bool = False) -> Self:
        """The database at the address, with the tables made where `create` is given.

        Raises:
            LibraryError: it cannot be reached, has no library, or one of a newer version.
        """
        opened = cls(address)
        try:
            with opened.errors():
                opened._check(create)
        except BaseException:
            opened.engine.dispose()
            raise
        return opened

    def errors(self) -> AbstractContextManager[None]:
        """As `Database.errors`."""
        return team_errors(str(self.address))

    def writer(self, only: Sequence[Path] | None) -> AbstractContextManager[None]:
        """As `Library.writer`; the server lifts the locks when the process dies."""
        return hold(self.connect, str(self.address), only)

    def is_writable(self) -> bool:
        """Whether the role may add files."""
        asked = "SELECT has_table_privilege('files', 'INSERT') AND NOT pg_is_in_recovery()"
        with self.errors(), Session(self.engine) as session:
            return bool(session.scalar(text(asked)))

    def _check(self, create: bool) -> None:
        with Session(self.engine) as session:
            version = _version(session)
            others = not version and _has_our_names(session)
        if version > SCHEMA_VERSION:
            raise LibraryError(
                f"{self.address} was made by a newer rwkvsearch (schema {version}, this one knows "
                f"{SCHEMA_VERSION}); upgrade with `pip install -U rwkvsearch`"
            )
        if others:
            raise LibraryError(
                f"{self.address} holds tables of another program; name an empty database"
            )
        if not version and not create:
            raise LibraryError(
                f"no library at {self.address}; make one with "
                f"`rwkvsearch index PATH --library {self.address}`"
            )
        if version < SCHEMA_VERSION:
            self._upgrade()

    def _upgrade(self) -> None:
        """In one transaction, which a second process waits for and then finds done."""
        with Session(self.writing) as session, session.begin():
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADING})
            version = _version(session)
            for step in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
                for statement in MIGRATIONS[step]:
                    session.execute(text(statement))
            if not version:
                self._add_extension(session)
            Table.metadata.create_all(session.connection())
            row = insert(SettingRow).values(name=_VERSION, value=str(SCHEMA_VERSION))
            changed = {"value": row.excluded.value}
            session.execute(row.on_conflict_do_update(index_elements=["name"], set_=changed))
        self.engine.dispose()  # those connections do not know the type yet

    def _add_extension(self, session: Session) -> None:
        there = "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"
        if session.scalar(text(there)):
            return
        try:
            session.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
        except Exception as error:
            raise LibraryError(
                f"{self.address} needs the extension pgvector, which cannot be added "
                f"({explain(error)}): install it on the server (0.8 or later), then let its owner "
                "run `CREATE EXTENSION vector` in this database"
            ) from error


def _version(session: Session) -> int:
    if session.scalar(text("SELECT to_regclass('settings')::text")) is None:
        return 0
    columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('settings')"
    ours = f"{columns} AND attname IN ('name', 'value')"
    if session.scalar(text(ours)) != 2:
        return 0
    value: Any = session.scalar(select(SettingRow.value).where(SettingRow.name == _VERSION))
    return int(value or 0)


def _has_our_names(session: Session) -> bool:
    names = [table.name for table in Table.metadata.sorted_tables]
    asked = text(
        "SELECT count(*) FROM unnest(CAST(:names AS text[])) AS n WHERE to_regclass(n) IS NOT NULL"
    )
    return bool(session.scalar(asked, {"names": names}))
