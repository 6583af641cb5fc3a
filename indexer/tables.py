"""The tables of a library, in `library.sqlite` or in a PostgreSQL database."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import (
    DDL,
    BigInteger,
    ColumnElement,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    TypeDecorator,
    UniqueConstraint,
    event,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine, UserDefinedType

POSTGRESQL = "postgresql"


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


class Halves(bytes):
    """Big-endian fp16 numbers behind their count, as pgvector sends and receives a `halfvec`."""


class _PostgresHalves(UserDefinedType[bytes]):
    """A `halfvec` of any length, as little-endian fp16 bytes in Python."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "halfvec"

    def column_expression(self, colexpr: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.halfvec_send(colexpr, type_=self)

    def bind_processor(self, dialect: Dialect) -> Callable[[bytes | None], Halves | None]:
        return to_halves

    def result_processor(
        self, dialect: Dialect, coltype: object
    ) -> Callable[[bytes | None], bytes | None]:
        return from_halves


class HalfVector(TypeDecorator[bytes]):
    """Little-endian fp16 numbers as bytes: a BLOB in SQLite, a `halfvec` in PostgreSQL."""

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The type for this database."""
        return _PostgresHalves() if dialect.name == POSTGRESQL else LargeBinary()


def to_halves(data: bytes | None) -> Halves | None:
    """Little-endian fp16 bytes as pgvector receives them."""
    if data is None:
        return None
    count = len(data) // 2
    return Halves(count.to_bytes(2) + b"\0\0" + np.frombuffer(data, "<f2").byteswap().tobytes())


def from_halves(sent: bytes | None) -> bytes | None:
    """What pgvector sends as little-endian fp16 bytes."""
    return None if sent is None else np.frombuffer(sent, "<f2", offset=4).byteswap().tobytes()


class Table(DeclarativeBase):
    """Base of all tables. Texts are compared byte by byte everywhere, whatever the locale."""

    type_annotation_map = {
        int: BigInteger().with_variant(Integer(), "sqlite"),
        str: String().with_variant(String(collation="C"), POSTGRESQL),
    }


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
    __table_args__ = (Index("images_at", "latitude", "longitude"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    content_hash: Mapped[str] = mapped_column(unique=True)
    width: Mapped[int]
    height: Mapped[int]
    format: Mapped[str]
    frames: Mapped[int] = mapped_column(server_default="1")
    perceptual_hash: Mapped[int | None]
    taken_at: Mapped[str | None] = mapped_column(index=True)
    camera: Mapped[str | None] = mapped_column(index=True)
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
    __table_args__ = (
        UniqueConstraint("root_id", "path"),
        Index("files_of_image", "image_id", "gone_at"),  # so that no row is read to know what lives
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    root_id: Mapped[int] = mapped_column(ForeignKey("roots.id"))
    path: Mapped[Path] = mapped_column(OsPath)
    size: Mapped[int]
    mtime_ns: Mapped[int]
    inode: Mapped[int]
    device: Mapped[int] = mapped_column(server_default="0")
    offset: Mapped[int | None]
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id"))
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
    data: Mapped[bytes] = mapped_column(HalfVector)


class TextRow(Table):
    """A text, once, however many images it belongs to."""

    __tablename__ = "texts"
    __table_args__ = (UniqueConstraint("text").ddl_if(dialect="sqlite"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


# An index of PostgreSQL over the texts themselves could not hold a long one.
_EACH_ONCE = DDL(  # type: ignore[no-untyped-call]
    "ALTER TABLE texts ADD CONSTRAINT texts_once EXCLUDE USING hash (text WITH =)"
)
event.listen(TextRow.__table__, "after_create", _EACH_ONCE.execute_if(dialect=POSTGRESQL))


class TextEmbeddingRow(Table):
    """`dim` little-endian fp16 numbers of a text, as `EmbeddingRow`."""

    __tablename__ = "text_embeddings"
    __table_args__ = (UniqueConstraint("text_id", "model"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    text_id: Mapped[int] = mapped_column(ForeignKey("texts.id"))
    model: Mapped[int] = mapped_column(ForeignKey("models.id"))
    data: Mapped[bytes] = mapped_column(HalfVector)


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
    __table_args__ = (
        UniqueConstraint("image_id", "model", "label"),
        Index("tags_of", "label", "image_id"),
    )
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
