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
from rwkvsearch.indexer.migrations import MIGRATIONS, SCHEMA_VERSION
from rwkvsearch.indexer.unwritable import connect_read_only, watch_immutable

WRITES = "rwkvsearch_writes"


class OsPath(TypeDecorator[Path]):
    """A path as the bytes the operating system uses, so a name in any encoding comes back as is."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Path | str | None, dialect: Dialect) -> bytes | None:
        """Path to bytes."""
        return None if value is None else os.fsencode(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Path | None:
        """Bytes to path."""
        return None if value is None else Path(os.fsdecode(value))


class Table(DeclarativeBase):
    """Base of all tables."""


class RootRow(Table):
    """Where files come from; `path` is absolute and resolved.

    `folder`: walked. `shard`: a tar whose members are the files. `loose`: the one row, with the
    path `/`, of files that were named one by one. `stamp` is the stat of a shard when all of its
    members had been looked at.
    """

    __tablename__ = "roots"
    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[Path] = mapped_column(OsPath, unique=True)
    kind: Mapped[str] = mapped_column(server_default="folder")
    stamp: Mapped[str | None]
    synced_at: Mapped[float | None]  # seconds since 1970


class ImageRow(Table):
    """A content: the SHA-256 of the file's bytes, and what the picture says of itself.

    `width` and `height` are upright, in pixels. `perceptual_hash` is None until the picture was
    read by a version that knows it; the columns after it are as in `data.metadata.Metadata`, set by
    `facts.settle_facts`. `own_facts` is the JSON of those that the picture itself says.
    """

    __tablename__ = "images"
    id: Mapped[int] = mapped_column(primary_key=True)
    content_hash: Mapped[str] = mapped_column(unique=True)
    width: Mapped[int]
    height: Mapped[int]
    format: Mapped[str]
    frames: Mapped[int] = mapped_column(server_default="1")
    perceptual_hash: Mapped[int | None]
    taken_at: Mapped[str | None] = mapped_column(index=True)
    camera: Mapped[str | None]
    lens: Mapped[str | None]
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    own_facts: Mapped[str | None]


class FileRow(Table):
    """A file at its last sync, `path` relative to the root: good (`image_id`) or bad (`error`).

    `offset` is where a member of a shard begins, in bytes; its other numbers are `size` of the
    member, `mtime_ns`, `inode` and `device` of the shard. `gone_at` (seconds since 1970) marks a
    tombstone: the file was not there any more. `sidecars` stands for the texts beside the file,
    `beside` is the JSON of the facts that they say.
    """

    __tablename__ = "files"
    __table_args__ = (UniqueConstraint("root_id", "path"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    root_id: Mapped[int] = mapped_column(ForeignKey("roots.id"))
    path: Mapped[Path] = mapped_column(OsPath)
    size: Mapped[int]
    mtime_ns: Mapped[int]
    inode: Mapped[int]
    device: Mapped[int] = mapped_column(server_default="0")
    offset: Mapped[int | None]
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id"), index=True)
    error: Mapped[str | None]
    gone_at: Mapped[float | None]
    sidecars: Mapped[str | None]
    beside: Mapped[str | None]


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


class TextRow(Table):
    """A text, once, however many images it belongs to."""

    __tablename__ = "texts"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


class TextEmbeddingRow(Table):
    """`dim` little-endian fp16 numbers of a text, as `EmbeddingRow`."""

    __tablename__ = "text_embeddings"
    __table_args__ = (UniqueConstraint("text_id", "model"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    text_id: Mapped[int] = mapped_column(ForeignKey("texts.id"))
    model: Mapped[int] = mapped_column(ForeignKey("models.id"))
    data: Mapped[bytes]


class CaptionRow(Table):
    """A text that belongs to an image, and where it came from.

    With `file_id` it stands beside that file and goes with it; without, it is part of the content
    or of a caption set.
    """

    __tablename__ = "captions"
    id: Mapped[int] = mapped_column(primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"), index=True)
    file_id: Mapped[int | None] = mapped_column(ForeignKey("files.id"), index=True)
    text_id: Mapped[int] = mapped_column(ForeignKey("texts.id"), index=True)
    source: Mapped[str]


class GenerationRow(Table):
    """A published ann file: it holds every embedding of `model` up to `max_embedding_id`.

    `size` in bytes and `head_sha256`, of its first 4 KiB, are checked before faiss reads the file:
    faiss crashes the process on some damaged headers. `kind` is the faiss factory string, `search`
    the JSON of its search parameters, `ann_recall` what was measured for both, from 0 to 1.
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
    kind: Mapped[str] = mapped_column(server_default="SQfp16")
    search: Mapped[str] = mapped_column(server_default="{}")
    ann_recall: Mapped[float | None]


class TagRow(Table):
    """A label that a model gave to an image, with its confidence from 0 to 1."""

    __tablename__ = "tags"
    __table_args__ = (UniqueConstraint("image_id", "model", "label"), Index("tags_of", "label"))
    id: Mapped[int] = mapped_column(primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    model: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    label: Mapped[str]
    confidence: Mapped[float]


class AlbumRow(Table):
    """A saved query, as JSON, that is asked anew each time the album is shown."""

    __tablename__ = "albums"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    query: Mapped[str]
    created_at: Mapped[float]


class VoteRow(Table):
    """Whether an image belongs in an album, as its owner said."""

    __tablename__ = "votes"
    album_id: Mapped[int] = mapped_column(
        ForeignKey("albums.id", ondelete="CASCADE"), primary_key=True
    )
    image_id: Mapped[int] = mapped_column(
        ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    liked: Mapped[bool]


class SettingRow(Table):
    """What was chosen for this library, such as the kind of its ann, as JSON."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


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
    if version == 0 and (used or not create):
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
