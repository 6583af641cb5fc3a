"""A picture by the hash of its content: never the bytes that have taken its place."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sqlalchemy import bindparam, select

from rwkvsearch.data.errors import NotThere
from rwkvsearch.data.files import NamedBytes, open_file
from rwkvsearch.data.members import read_member
from rwkvsearch.data.remote import is_remote, open_binary, stat_of
from rwkvsearch.indexer.found import Stat
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import FileRow, ImageRow, RootRow

_HASH = re.compile(r"[0-9a-f]{64}")

# Tables and no entities: most of so small a query would else be spent in SQLAlchemy.
_IMAGES, _FILES, _ROOTS = (row.__table__.c for row in (ImageRow, FileRow, RootRow))
_LIVE = (
    select(_IMAGES.id, _IMAGES.width, _IMAGES.height)
    .where(_IMAGES.content_hash == bindparam("content_hash"))
    .where(
        select(_FILES.id).where(_FILES.image_id == _IMAGES.id, _FILES.gone_at.is_(None)).exists()
    )
)
_PLACES = (
    select(
        _ROOTS.path,
        _FILES.path,
        _FILES.offset,
        _FILES.size,
        _FILES.mtime_ns,
        _FILES.inode,
        _FILES.device,
    )
    .join_from(FileRow.__table__, RootRow.__table__, _ROOTS.id == _FILES.root_id)
    .where(_FILES.image_id == bindparam("image_id"), _FILES.gone_at.is_(None))
    .order_by(_FILES.id)
)


class LiveImage(NamedTuple):
    """An image with a live file; upright `width` and `height` in pixels."""

    content_hash: str
    image_id: int
    width: int
    height: int


class _Place(NamedTuple):
    """A file that held the content when it was last looked at; `offset` of a shard's member."""

    root: Path
    name: Path
    offset: int | None
    stat: Stat

    @property
    def path(self) -> Path:
        return self.root / self.name

    def open(self) -> tuple[BinaryIO, Stat]:
        if self.offset is None and not is_remote(self.path):
            stream = open_file(self.path)
            return stream, Stat.of(os.fstat(stream.fileno()))
        if self.offset is None:
            with open_binary(self.path) as stream:
                return NamedBytes(stream.read(), str(self.path)), Stat.of(stat_of(self.path))
        data = NamedBytes(read_member(self.root, self.offset, self.stat.size), str(self.path))
        return data, Stat.of(stat_of(self.root))._replace(size=len(data.getbuffer()))


def live_image(library: Library, content_hash: str) -> LiveImage:
    """The image with this content.

    Raises:
        NotThere: no live file has it, or `content_hash` is none: 64 lowercase hex digits.
    """
    if _HASH.fullmatch(content_hash):
        with library.read() as session:
            row = session.connection().execute(_LIVE, {"content_hash": content_hash}).first()
        if row is not None:
            return LiveImage(content_hash, *row)
    raise NotThere(f"no picture of {library.name} has the content {content_hash[:64]!r}")


def open_image(library: Library, image_id: int) -> BinaryIO:
    """The bytes of an image by its id.

    Raises:
        NotThere: there is none, or as `open_content`.
    """
    with library.read() as session:
        content_hash = session.scalar(select(_IMAGES.content_hash).where(_IMAGES.id == image_id))
    if content_hash is None:
        raise NotThere(f"there is no image {image_id} in {library.name}")
    return open_content(library, live_image(library, content_hash))


def open_content(library: Library, image: LiveImage) -> BinaryIO:
    """The bytes of an image, out of the first of its files that still holds them.

    A file whose size, time or inode are not those of the last sync is read and hashed.

    Raises:
        NotThere: none of them does.
    """
    names: list[str] = []
    for place in _places(library, image):
        with suppress(OSError), ExitStack() as stack:
            stream, stat = place.open()
            stack.enter_context(stream)
            if stat.is_same(place.stat) or _holds(stream, image.content_hash):
                stack.pop_all()
                return stream
        names.append(str(place.path))
    raise NotThere(
        f"{', '.join(names) or image.content_hash}: not there or changed since it was indexed; "
        "`rwkvsearch index` brings the library up to date"
    )


def _places(library: Library, image: LiveImage) -> Iterator[_Place]:
    with library.read() as session:
        rows = session.connection().execute(_PLACES, {"image_id": image.image_id}).all()
    for root, name, offset, *stat in rows:
        yield _Place(root, name, offset, Stat(*stat))


def _holds(stream: BinaryIO, content_hash: str) -> bool:
    same = hashlib.file_digest(stream, "sha256").hexdigest() == content_hash  # type: ignore[arg-type]
    stream.seek(0)
    return same
