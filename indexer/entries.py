"""What a sync writes into the catalog: models, images, embeddings, files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.data.metadata import Metadata
from rwkvsearch.indexer.dialects import enter_new, insert_new
from rwkvsearch.indexer.facts import images_told_by, settle_facts, write_facts
from rwkvsearch.indexer.found import Found
from rwkvsearch.indexer.library import ModelInfo, chunks
from rwkvsearch.indexer.protocols import ImageEncoder
from rwkvsearch.indexer.tables import EmbeddingRow, FileRow, ImageRow, ModelRow, RootRow


@dataclass(frozen=True)
class Content:
    """What a picture says of itself; see `data.images.Picture`."""

    width: int
    height: int
    format: str
    frames: int
    perceptual_hash: int
    metadata: Metadata


@dataclass(frozen=True)
class KnownContent:
    """An image in the catalog, and what is there of it."""

    image_id: int
    described: bool
    embedded: bool


def enter_model(session: Session, encoder: ImageEncoder) -> ModelInfo:
    """The row of the encoder's model, made if need be.

    Raises:
        LibraryError: the same id stands for other weights or another dim here.
    """
    asked = select(ModelRow).where(
        ModelRow.model_id == encoder.model_id,
        ModelRow.preprocessing_id == encoder.preprocessing_id,
    )
    row = session.scalar(asked)
    if row is None:
        new = {
            "model_id": encoder.model_id,
            "preprocessing_id": encoder.preprocessing_id,
            "dim": encoder.dim,
            "weights_sha256": encoder.weights_sha256,
            "created_at": time.time(),
        }
        session.execute(insert_new(session, ModelRow), [new])
        row = session.scalars(asked).one()
    if (row.dim, row.weights_sha256) != (encoder.dim, encoder.weights_sha256):
        raise LibraryError(
            f"this library's {row.model_id} has dim {row.dim} and weights "
            f"{row.weights_sha256[:12]}; asked for dim {encoder.dim} and weights "
            f"{encoder.weights_sha256[:12]}: use another library or another model id"
        )
    return ModelInfo(row.id, row.model_id, row.preprocessing_id, row.dim, row.weights_sha256, 0)


def mark_gone(session: Session, row_ids: Iterable[int]) -> None:
    """Files that are not there any more: their rows stay, in case they come back."""
    now = time.time()
    for ids in chunks(sorted(row_ids)):
        session.execute(update(FileRow).where(FileRow.id.in_(ids)).values(gone_at=now))
        settle_facts(session, images_told_by(session, ids))


def place_files(session: Session, items: Sequence[Found]) -> None:
    """Give known files the place and the stat they have now."""
    if items:
        session.execute(update(FileRow), [_place(item) | {"id": item.row_id} for item in items])
        ids = [item.row_id for item in items if item.row_id is not None]
        settle_facts(session, images_told_by(session, ids))


def forget_empty_roots(session: Session, ids: Sequence[int]) -> None:
    """Drop those of these roots whose first sync has found nothing."""
    here = RootRow.id.in_(ids)
    has_files = exists().where(FileRow.root_id == RootRow.id)
    session.execute(delete(RootRow).where(here, RootRow.synced_at.is_(None), ~has_files))


def known_contents(
    session: Session, model: ModelInfo, hashes: Sequence[str]
) -> dict[str, KnownContent]:
    """The images with these contents that the catalog knows, by content hash."""
    embedded = exists().where(EmbeddingRow.image_id == ImageRow.id, EmbeddingRow.model == model.key)
    rows = session.execute(
        select(
            ImageRow.content_hash, ImageRow.id, ImageRow.perceptual_hash.is_not(None), embedded
        ).where(ImageRow.content_hash.in_(hashes))
    )
    return {
        content_hash: KnownContent(image_id, bool(described), bool(has_embedding))
        for content_hash, image_id, described, has_embedding in rows
    }


def enter_images(session: Session, contents: Mapping[str, Content]) -> dict[str, int]:
    """Write what these contents say of themselves; their image ids, by content hash."""
    wanted = select(ImageRow.content_hash, ImageRow.id).where(ImageRow.content_hash.in_(contents))
    known = {content_hash: image_id for content_hash, image_id in session.execute(wanted)}
    rows = {content_hash: _facts(content) for content_hash, content in contents.items()}
    new = [row | {"content_hash": key} for key, row in rows.items() if key not in known]
    old = [row | {"id": known[key]} for key, row in rows.items() if key in known]
    enter_new(session, ImageRow, "content_hash", new)
    if old:
        session.execute(update(ImageRow), sorted(old, key=lambda row: row["id"]))
    return {content_hash: image_id for content_hash, image_id in session.execute(wanted)}


def enter_embeddings(session: Session, model: ModelInfo, embeddings: Mapping[int, bytes]) -> None:
    """Write embeddings by image id."""
    if embeddings:
        rows = [
            {"image_id": image_id, "model": model.key, "data": data}
            for image_id, data in sorted(embeddings.items())
        ]
        session.execute(insert_new(session, EmbeddingRow), rows)


def enter_files(
    session: Session, items: Sequence[tuple[Found, int | None, str | None]]
) -> dict[tuple[int, str], int]:
    """Write files with their image id or their error; the row ids by (root id, path)."""
    new, known = [], []
    for found, image_id, error in items:
        row = _place(found) | {"image_id": image_id, "error": error}
        if found.row_id is None:
            new.append(row)
        else:
            known.append(row | {"id": found.row_id})
    if known:
        session.execute(update(FileRow), known)
    ids = {(f.root_id, f.name): f.row_id for f, _, _ in items if f.row_id is not None}
    if new:
        entered = insert(FileRow).returning(FileRow.id, FileRow.root_id, FileRow.path)
        for row_id, root_id, path in session.execute(entered, new):
            ids[root_id, os.fspath(path)] = row_id
    return ids


def enter_beside(session: Session, files: Mapping[int, Metadata]) -> None:
    """Write the facts that stand beside files now, by file id; `settle_facts` makes them count."""
    rows = [{"id": file_id, "beside": write_facts(said)} for file_id, said in files.items()]
    if rows:
        session.execute(update(FileRow), rows)


def _place(found: Found) -> dict[str, Any]:
    return {
        "root_id": found.root_id,
        "path": found.name,
        "offset": found.offset,
        "sidecars": found.stamp,
        "gone_at": None,
        **found.stat._asdict(),
    }


def _facts(content: Content) -> dict[str, Any]:
    return {
        "width": content.width,
        "height": content.height,
        "format": content.format,
        "frames": content.frames,
        "perceptual_hash": content.perceptual_hash,
        "own_facts": write_facts(content.metadata),
    }
