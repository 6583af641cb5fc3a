"""The texts that belong to images: written once each, tied to images and files, embedded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, insert, or_, select, update
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import ModelError
from rwkvsearch.indexer.dialects import enter_new, insert_new
from rwkvsearch.indexer.encode import to_halves
from rwkvsearch.indexer.library import Library, ModelInfo, chunks
from rwkvsearch.indexer.protocols import ImageEncoder
from rwkvsearch.indexer.tables import CaptionRow, FileRow, TextEmbeddingRow, TextRow

CAPTION_SET = "captions"
_BATCH = 256

Texts = Iterable[tuple[str, str]]

IS_SAID = or_(
    exists().where(FileRow.id == CaptionRow.file_id, FileRow.gone_at.is_(None)),
    CaptionRow.file_id.is_(None)
    & exists().where(FileRow.image_id == CaptionRow.image_id, FileRow.gone_at.is_(None)),
)
"""Whether a caption belongs to a file that is there."""


def tell_images(session: Session, texts: Mapping[int, Texts]) -> None:
    """Replace what the contents themselves say: (source, text) by image id."""
    own = CaptionRow.file_id.is_(None)
    for ids in chunks([*texts]):
        session.execute(delete(CaptionRow).where(own, CaptionRow.image_id.in_(ids)))
    _enter(session, [(image_id, None, said) for image_id, said in texts.items()])


def tell_files(
    session: Session, items: Sequence[tuple[int, int, Texts]], *, caption_set: bool
) -> None:
    """Replace what stands beside files, or what a caption set says: (image id, file id, texts)."""
    is_set = CaptionRow.source == CAPTION_SET
    kind = is_set if caption_set else ~is_set
    for ids in chunks([file_id for _, file_id, _ in items]):
        session.execute(delete(CaptionRow).where(kind, CaptionRow.file_id.in_(ids)))
    _enter(session, items)


def follow_files(session: Session, file_ids: Iterable[int]) -> None:
    """Let what is said beside files go over to the content they have now; of bad ones it goes."""
    image = select(FileRow.image_id).where(FileRow.id == CaptionRow.file_id).scalar_subquery()
    for ids in chunks([*file_ids]):
        here = CaptionRow.file_id.in_(ids)
        session.execute(delete(CaptionRow).where(here, image.is_(None)))
        session.execute(update(CaptionRow).where(here).values(image_id=image))


def embed_texts(
    library: Library,
    model: ModelInfo,
    encoder: ImageEncoder,
    progress: Callable[[int, int], None],
) -> int:
    """Embed every text of a file that is there and has none of `model` yet; how many they were.

    `progress` is told the number done and the number to do, after each batch was stored.

    Raises:
        ModelError: the encoder does not give finite unit embeddings of its `dim`.
    """
    with library.read() as session:
        todo = session.execute(_without_embedding(model)).all()
    for start in range(0, len(todo), _BATCH):
        part = todo[start : start + _BATCH]
        embeddings = encoder.encode_texts([text for _, text in part])
        halves, finite = to_halves(encoder, embeddings, len(part))
        if not finite.all():
            raise ModelError(f"{encoder.model_id} gives no finite embedding for a text")
        rows = [
            {"text_id": text_id, "model": model.key, "data": half.tobytes()}
            for (text_id, _), half in zip(part, halves, strict=True)
        ]
        library.writing(partial(_enter_embeddings, rows=rows))
        progress(start + len(part), len(todo))
    return len(todo)


def _enter_embeddings(session: Session, rows: list[dict[str, Any]]) -> None:
    session.execute(insert_new(session, TextEmbeddingRow), rows)


def _without_embedding(model: ModelInfo) -> Any:
    embedded = exists().where(
        TextEmbeddingRow.text_id == TextRow.id, TextEmbeddingRow.model == model.key
    )
    said: ColumnElement[bool] = exists().where(CaptionRow.text_id == TextRow.id, IS_SAID)
    return select(TextRow.id, TextRow.text).where(~embedded, said).order_by(TextRow.id)


def _enter(session: Session, items: Iterable[tuple[int, int | None, Texts]]) -> None:
    rows = [
        (image_id, file_id, source, text)
        for image_id, file_id, said in items
        for source, text in dict.fromkeys(said)
    ]
    ids = _text_ids(session, [text for *_, text in rows])
    captions = [
        {"image_id": image_id, "file_id": file_id, "source": source, "text_id": ids[text]}
        for image_id, file_id, source, text in rows
    ]
    if captions:
        session.execute(insert(CaptionRow), captions)


def _text_ids(session: Session, texts: Iterable[str]) -> dict[str, int]:
    wanted = list(dict.fromkeys(texts))
    ids: dict[str, int] = {}
    for part in chunks(range(len(wanted))):
        some = [wanted[at] for at in part]
        known = select(TextRow.text, TextRow.id).where(TextRow.text.in_(some))
        ids |= {text: text_id for text, text_id in session.execute(known)}
        new = [{"text": text} for text in some if text not in ids]
        if new:
            enter_new(session, TextRow, "text", new)
            ids |= {text: text_id for text, text_id in session.execute(known)}
    return ids
