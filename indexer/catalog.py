"""The tables of `library.sqlite` and the one way to open it.

SQLite runs in WAL mode, so readers never wait for the writer. `synchronous=FULL` costs one fsync a
transaction, which is nothing beside encoding the batch in it, and then not even a power cut takes
back a batch that was reported as done.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Dialect,
    Engine,
    ForeignKey,
    Index,
    LargeBinary,
    QueuePool,
    TypeDecorator,
    UniqueConstraint,
    create_engine,
    event,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from rwkvsearch.data.errors import LibraryError

SCHEMA_VERSION = 1
WRITES = "rwkvsearch_writes"


class OsPath(TypeDecorator[Path]):
    """A path as the bytes the operating system uses, so a name in any encoding comes back as is."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Path | None, dialect: Dialect) -> bytes | None:
        """Path to bytes."""
        return None if value is None else os.fsencode(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Path | None:
        """Bytes to path."""
        return None if value is None else Path(os.fsdecode(value))


class Table(DeclarativeBase):
    """Base of all tables."""


class RootRow(Table):
    """A folder (or single image file) given to `sync`; `path` is absolute and resolved."""

    __tablename__ = "roots"
    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[Path] = mapped_column(OsPath, unique=True)
    synced_at: Mapped[float | None]  # seconds since 1970


class ImageRow(Table):
    """A content: the SHA-256 of the file's bytes, and the upright size in pixels."""

    __tablename__ = "images"
    id: Mapped[int] = mapped_column(primary_key=True)
    content_hash: Mapped[str] = mapped_column(unique=True)
    width: Mapped[int]
    height: Mapped[int]
    format: Mapped[str]


class FileRow(Table):
    """A file at its last sync, `path` relative to the root: good (`image_id`) or bad (`error`)."""

    __tablename__ = "files"
    __table_args__ = (UniqueConstraint("root_id", "path"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    root_id: Mapped[int] = mapped_column(ForeignKey("roots.id"))
    path: Mapped[Path] = mapped_column(OsPath)
    size: Mapped[int]
    mtime_ns: Mapped[int]
    inode: Mapped[int]
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id"), index=True)
    error: Mapped[str | None]


class ModelRow(Table):
    """A model with its preprocessing: what made the embeddings that point here."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("model_id", "preprocessing_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[str]
    preprocessing_id: Mapped[str]
    dim: Mapped[int]
    weights_sha256: Mapped[str]
    created_at: Mapped[float]


class EmbeddingRow(Table):
    """`dim` little-endian fp16 numbers; `id` only grows, so it says what a generation holds."""

    __tablename__ = "embeddings"
    __table_args__ = (
        UniqueConstraint("image_id", "model"),
        Index("embeddings_of_model", "model", "id"),
        {"sqlite_autoincrement": True},
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"))
    model: Mapped[int] = mapped_column(ForeignKey("models.id"))
    data: Mapped[bytes]


class CaptionRow(Table):
    """A text that belongs to an image, and where it came from."""

    __tablename__ = "captions"
    __table_args__ = (UniqueConstraint("image_id", "source", "text"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"))
    text: Mapped[str]
    source: Mapped[str]


class GenerationRow(Table):
    """A published ann file: it holds every embedding of `model` up to `max_embedding_id`.

    `size` in bytes and `head_sha256`, of its first 4 KiB, are checked before faiss reads the file:
    faiss crashes the process on some damaged headers.
    """

    __tablename__ = "generations"
    __table_args__ = ({"sqlite_autoincrement": True},)
    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[int] = mapped_column(ForeignKey("models.id"))
    file_name: Mapped[str]
    size: Mapped[int]
    head_sha256: Mapped[str]
    rows: Mapped[int]
    max_embedding_id: Mapped[int]
    created_at: Mapped[float]


def open_catalog(database: Path, *, create: bool = False, read_only: bool = False) -> Engine:
    """An engine for an existing `library.sqlite`, or a new one with `create`.

    Raises:
        LibraryError: not a library, made by a newer version, or not readable.
    """
    address = f"{database.as_uri()}?mode={'ro' if read_only else 'rwc' if create else 'rw'}"
    if read_only and not _has_wal(database):
        address += "&immutable=1"  # a read-only medium cannot hold the files WAL needs

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            address, uri=True, timeout=30, check_same_thread=False, isolation_level=None
        )

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)
    event.listen(engine, "connect", _set_read_pragmas if read_only else _set_pragmas)
    event.listen(engine, "begin", _begin)
    try:
        with library_errors(database):
            _check_version(engine, database, create)
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


def _begin(connection: Connection) -> None:
    # A writer takes its place in the queue at once: upgrading a read later could only fail.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _has_wal(database: Path) -> bool:
    wal = database.with_name(database.name + "-wal")
    return wal.exists() and wal.stat().st_size > 0


def _check_version(engine: Engine, database: Path, create: bool) -> None:
    with engine.connect().execution_options(**{WRITES: create}) as connection:
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if version > SCHEMA_VERSION:
            raise LibraryError(
                f"{database} was made by a newer rwkvsearch (schema {version}, this one knows "
                f"{SCHEMA_VERSION}); upgrade with `pip install -U rwkvsearch`"
            )
        if version == 0:
            tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema").scalar_one()
            if tables or not create:
                raise LibraryError(f"{database} is not a rwkvsearch library")
            Table.metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.commit()


def _explain(database: Path, error: DBAPIError | sqlite3.Error) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = str(getattr(cause, "sqlite_errorname", ""))
    if name == "SQLITE_FULL" or name.startswith(("SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC")):
        return (
            f"{database}: no space left to write; everything indexed so far is kept: "
            "free some space and run the same command again"
        )
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return (
            f"{database} is damaged or not a rwkvsearch library ({cause}); "
            "move it away and index again"
        )
    if name.startswith("SQLITE_BUSY"):
        return f"{database}: another program has been writing for 30 seconds; try again later"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return f"{database} cannot be opened or written ({cause}); check its permissions"
    return f"{database}: {cause}"
