"""What a sync writes of a batch, in one transaction: images, embeddings, files, texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from rwkvsearch.data.metadata import Metadata
from rwkvsearch.indexer.entries import (
    enter_beside,
    enter_embeddings,
    enter_files,
    enter_images,
    known_contents,
    place_files,
)
from rwkvsearch.indexer.facts import images_told_by, settle_facts
from rwkvsearch.indexer.found import Found
from rwkvsearch.indexer.library import ModelInfo, chunks
from rwkvsearch.indexer.prepare import Prepared
from rwkvsearch.indexer.tables import FileRow
from rwkvsearch.indexer.texts import CAPTION_SET, follow_files, tell_files, tell_images


def store_batch(
    session: Session,
    model: ModelInfo,
    batch: Sequence[Prepared],
    embeddings: Mapping[str, bytes],
) -> None:
    """Write a batch; `embeddings` are those of its new contents, by content hash."""
    contents = {
        item.content_hash: item.content
        for item in batch
        if item.content is not None and item.error is None
    }
    images = enter_images(session, contents)
    tell_images(session, {images[key]: c.metadata.texts for key, c in contents.items()})
    others = {item.content_hash for item in batch if item.error is None} - images.keys()
    known = known_contents(session, model, [*others])
    images |= {key: content.image_id for key, content in known.items()}
    enter_embeddings(session, model, {images[key]: data for key, data in embeddings.items()})
    rows = [
        (item.found, None if item.error else images[item.content_hash], item.error)
        for item in batch
    ]
    known_files = [item.found.row_id for item in batch if item.found.row_id is not None]
    before = images_told_by(session, known_files)
    files = enter_files(session, rows)
    follow_files(session, files.values())
    told = [
        (images[item.content_hash], files[item.found.root_id, item.found.name], item)
        for item in batch
        if item.error is None
    ]
    _tell(session, [(image, file, item.found, item.beside) for image, file, item in told])
    settle_facts(session, before)


def store_new(
    session: Session,
    model: ModelInfo,
    batch: Sequence[Prepared],
    embeddings: Mapping[str, bytes],
) -> int:
    """As `store_batch`, without the embeddings that are there already; how many were new."""
    known = known_contents(session, model, [*embeddings])
    done = {key for key, content in known.items() if content.embedded}
    new = {key: data for key, data in embeddings.items() if key not in done}
    store_batch(session, model, batch, new)
    return len(new)


def store_texts(session: Session, items: Sequence[tuple[Found, Metadata]]) -> None:
    """Write what stands beside known pictures now."""
    place_files(session, [found for found, _ in items])
    images: dict[int, int] = {}
    for ids in chunks([found.row_id for found, _ in items if found.row_id is not None]):
        rows = session.execute(select(FileRow.id, FileRow.image_id).where(FileRow.id.in_(ids)))
        images |= {row_id: image_id for row_id, image_id in rows if image_id is not None}
    known = [(found.row_id, found, said) for found, said in items if found.row_id in images]
    _tell(session, [(images[row], row, found, said) for row, found, said in known if row])


def _tell(session: Session, items: Sequence[tuple[int, int, Found, Metadata]]) -> None:
    beside = [(image, file, said.texts) for image, file, _, said in items]
    tell_files(session, beside, caption_set=False)
    in_set = [
        (image, file, [(CAPTION_SET, text) for text in found.captions])
        for image, file, found, _ in items
        if found.captions is not None
    ]
    tell_files(session, in_set, caption_set=True)
    enter_beside(session, {file: said for _, file, _, said in items})
    settle_facts(session, (image for image, *_ in items))
