"""The tables of `library.sqlite`."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Dialect, ForeignKey, Index, LargeBinary, TypeDecorator, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


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
