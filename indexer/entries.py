"""What a sync writes into the catalog: models, images, files."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.catalog import EmbeddingRow, FileRow, ImageRow, ModelRow, RootRow
from rwkvsearch.indexer.library import ModelInfo, chunks
from rwkvsearch.indexer.protocols import ImageEncoder
from rwkvsearch.indexer.scan import Changes, Found


@dataclass(frozen=True)
class Prepared:
    """A file after its thread: bad (`error`), known (`image_id`) or to be encoded (`pixels`)."""

    found: Found
    content_hash: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    pixels: NDArray[np.float32] | None = None
    image_id: int | None = None
    error: str | None = None


def enter_model(session: Session, encoder: ImageEncoder) -> ModelInfo:
    """The row of the encoder's model, made if need be.

    Raises:
        LibraryError: the same id stands for other weights or another dim here.
    """
    row = session.scalar(
        select(ModelRow).where(
            ModelRow.model_id == encoder.model_id,
            ModelRow.preprocessing_id == encoder.preprocessing_id,
        )
    )
    if row is None:
        row = ModelRow(
            model_id=encoder.model_id,
            preprocessing_id=encoder.preprocessing_id,
            dim=encoder.dim,
            weights_sha256=encoder.weights_sha256,
            created_at=time.time(),
        )
        session.add(row)
        session.flush()
    if (row.dim, row.weights_sha256) != (encoder.dim, encoder.weights_sha256):
        raise LibraryError(
            f"this library's {row.model_id} has dim {row.dim} and weights "
            f"{row.weights_sha256[:12]}; asked for dim {encoder.dim} and weights "
            f"{encoder.weights_sha256[:12]}: use another library or another model id"
        )
    return ModelInfo(row.id, row.model_id, row.preprocessing_id, row.dim, row.weights_sha256, 0)


def apply_changes(session: Session, changes: Changes) -> None:
    """Drop the files that are gone and rename those that moved; images and embeddings stay."""
    for row_ids in chunks(sorted(changes.gone)):
        session.execute(delete(FileRow).where(FileRow.id.in_(row_ids)))
    if changes.moved:
        session.execute(
            update(FileRow),
            [
                {"id": item.row_id, "root_id": item.root_id, "path": item.relative}
                for item in changes.moved
            ],
        )


def forget_empty_roots(session: Session) -> None:
    """Drop the roots of a first sync that found nothing."""
    has_files = exists().where(FileRow.root_id == RootRow.id)
    session.execute(delete(RootRow).where(RootRow.synced_at.is_(None), ~has_files))


def embedded_images(session: Session, model: ModelInfo, hashes: list[str]) -> dict[str, int]:
    """Image ids, by content hash, of those that have an embedding of `model`."""
    rows = session.execute(
        select(ImageRow.content_hash, ImageRow.id)
        .join(EmbeddingRow, EmbeddingRow.image_id == ImageRow.id)
        .where(EmbeddingRow.model == model.key, ImageRow.content_hash.in_(hashes))
    )
    return {content_hash: image_id for content_hash, image_id in rows}


def enter_images(session: Session, items: Sequence[Prepared]) -> dict[str, int]:
    """The ids, by content hash, of the images with these contents, made if need be."""
    hashes = [item.content_hash for item in items]
    wanted = select(ImageRow.content_hash, ImageRow.id).where(ImageRow.content_hash.in_(hashes))
    present = {content_hash for content_hash, _ in session.execute(wanted)}
    new = [
        {
            "content_hash": item.content_hash,
            "width": item.width,
            "height": item.height,
            "format": item.format,
        }
        for item in items
        if item.content_hash not in present
    ]
    if new:
        session.execute(insert(ImageRow), new)
    return {content_hash: image_id for content_hash, image_id in session.execute(wanted)}


def enter_files(session: Session, items: Sequence[Prepared], image_ids: Mapping[str, int]) -> None:
    """Write files: bad ones with their error, good ones with the image of their content."""
    new, known = [], []
    for item in items:
        size, mtime_ns, inode = item.found.stat
        row = {
            "size": size,
            "mtime_ns": mtime_ns,
            "inode": inode,
            "image_id": None if item.error else image_ids[item.content_hash],
            "error": item.error,
        }
        if item.found.row_id is None:
            new.append(row | {"root_id": item.found.root_id, "path": item.found.relative})
        else:
            known.append(row | {"id": item.found.row_id})
    if new:
        session.execute(insert(FileRow), new)
    if known:
        session.execute(update(FileRow), known)
