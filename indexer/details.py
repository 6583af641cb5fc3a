"""Everything that is known of some images, and what a grid of them needs at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from rwkvsearch.indexer.library import Library, chunks
from rwkvsearch.indexer.tables import (
    CaptionRow,
    EmbeddingRow,
    FileRow,
    ImageRow,
    ModelRow,
    RootRow,
    TagRow,
    TextRow,
)
from rwkvsearch.indexer.texts import IS_SAID

# Tables and no entities, so that no objects are made.
_IMAGES, _FILES, _ROOTS = (row.__table__.c for row in (ImageRow, FileRow, RootRow))
_FACTS = ("width", "height", "format", "frames", "taken_at", "camera", "lens")
_PLACE = ("latitude", "longitude")
_SHAPES = select(_IMAGES.id, _IMAGES.content_hash, _IMAGES.width, _IMAGES.height)
_IMAGE = select(
    _IMAGES.id.label("image_id"),
    _IMAGES.content_hash,
    *(_IMAGES[name] for name in _FACTS + _PLACE),
)
_FILE = (
    select(_FILES.image_id, _ROOTS.path, _FILES.path, _FILES.size, _FILES.mtime_ns)
    .join_from(FileRow.__table__, RootRow.__table__, _ROOTS.id == _FILES.root_id)
    .where(_FILES.gone_at.is_(None))
)
_CAPTION = (
    select(CaptionRow.image_id, TextRow.text, CaptionRow.source)
    .join(TextRow, TextRow.id == CaptionRow.text_id)
    .where(IS_SAID)
    .order_by(CaptionRow.id)
)
_CONFIDENCE = func.max(TagRow.confidence)
_TAG = (
    select(TagRow.image_id, TagRow.label, _CONFIDENCE)
    .group_by(TagRow.image_id, TagRow.label)
    .order_by(_CONFIDENCE.desc(), TagRow.label)
)
_MODEL = (
    select(EmbeddingRow.image_id, ModelRow.model_id)
    .join(ModelRow, ModelRow.id == EmbeddingRow.model)
    .order_by(ModelRow.id)
)


class Shape(NamedTuple):
    """What a grid needs to make room for an image; upright `width` and `height` in pixels."""

    content_hash: str
    width: int
    height: int


class FileDetails(NamedTuple):
    """A live file of an image; of a shard's member `modified` is the time of the shard.

    None: it changed so shortly before it was indexed that the time was not written down.
    """

    path: Path
    bytes: int
    modified: datetime | None


class Caption(NamedTuple):
    """A text that belongs to an image, and where it came from, such as `sidecar`."""

    text: str
    source: str


class Tag(NamedTuple):
    """A label that `rwkvsearch tag` gave; of several models the highest confidence."""

    label: str
    confidence: float


@dataclass(frozen=True)
class Details:
    """An image with a live file: `files` by path, `captions` as they came, `tags` surest first.

    The facts are those of the picture, else of what stands beside it; `taken_at` is local time in
    ISO 8601, `latitude` and `longitude` are degrees. `models` are those that have embedded it.
    """

    image_id: int
    content_hash: str
    width: int
    height: int
    format: str
    frames: int
    taken_at: str | None
    camera: str | None
    lens: str | None
    latitude: float | None
    longitude: float | None
    files: tuple[FileDetails, ...]
    captions: tuple[Caption, ...]
    tags: tuple[Tag, ...]
    models: tuple[str, ...]


def details_of(library: Library, image_ids: Sequence[int]) -> dict[int, Details]:
    """What is known of each image; one without a live file is left out."""
    found: dict[int, Details] = {}
    with library.read() as session:
        files = _grouped(session, _FILE, _FILES.image_id, image_ids)
        live = sorted(files)
        captions = _grouped(session, _CAPTION, CaptionRow.image_id, live)
        tags = _grouped(session, _TAG, TagRow.image_id, live)
        models = _grouped(session, _MODEL, EmbeddingRow.image_id, live)
        for facts in _rows(session, _IMAGE, _IMAGES.id, live):
            image_id = facts.image_id
            found[image_id] = Details(
                **facts._mapping,
                files=tuple(
                    sorted((_file(*row) for row in files[image_id]), key=attrgetter("path"))
                ),
                captions=tuple(dict.fromkeys(Caption(*row) for row in captions[image_id])),
                tags=tuple(Tag(*row) for row in tags[image_id]),
                models=tuple(name for (name,) in models[image_id]),
            )
    return dict(sorted(found.items()))


def shapes_of(library: Library, image_ids: Sequence[int]) -> dict[int, Shape]:
    """The content and the size of each image that is known, live or not, by one statement."""
    with library.read() as session:
        rows = _rows(session, _SHAPES, _IMAGES.id, image_ids)
        return {image_id: Shape(*rest) for image_id, *rest in rows}


def content_hashes(library: Library, image_ids: Sequence[int]) -> dict[int, str]:
    """The hash of the content of each image that is known, as `shapes_of`."""
    return {key: shape.content_hash for key, shape in shapes_of(library, image_ids).items()}


def _rows(
    session: Session, asked: Select[*tuple[Any, ...]], column: Any, image_ids: Sequence[int]
) -> Iterator[Any]:
    for ids in chunks(image_ids):
        yield from session.connection().execute(asked.where(column.in_(ids)))


def _grouped(
    session: Session, asked: Select[*tuple[Any, ...]], column: Any, image_ids: Sequence[int]
) -> dict[int, list[tuple[Any, ...]]]:
    """The rows of each image without its id, which comes first in them."""
    found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for image_id, *rest in _rows(session, asked, column, image_ids):
        found[image_id].append(tuple(rest))
    return found


def _file(root: Path, name: Path, size: int, mtime_ns: int) -> FileDetails:
    modified = datetime.fromtimestamp(mtime_ns / 1e9, UTC) if mtime_ns != -1 else None
    return FileDetails(root / name, size, modified)
