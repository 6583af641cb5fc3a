"""The labels of a library's images: given from stored embeddings, without opening a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, exists, func, insert, select
from sqlalchemy.orm import Session

from rwkvsearch.indexer.blocks import blocks, newest_embedding
from rwkvsearch.indexer.library import Library, ModelInfo, chunks
from rwkvsearch.indexer.tables import EmbeddingRow, FileRow, SettingRow, TagRow

Labeller = Callable[[NDArray[np.float32]], Sequence[Sequence[tuple[str, float]]]]
"""Embeddings `[B, D]` to the labels of each image, with their confidence from 0 to 1."""


@dataclass(frozen=True)
class Tagged:
    """What was done: how many images were looked at, and how many of them have how many tags."""

    images: int
    with_tags: int
    tags: int


def count_untagged(library: Library, model: ModelInfo, how: str) -> int:
    """How many images were not tagged by `model` yet, or not as `how` says."""
    with library.read() as session:
        newer = EmbeddingRow.id > _done(session, model, how)
        of_model = EmbeddingRow.model == model.key
        return session.scalar(select(func.count()).where(of_model, newer)) or 0


def tag_images(
    library: Library,
    model: ModelInfo,
    label: Labeller,
    how: str,
    *,
    anew: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Tagged:
    """Tag the images that `model` has embedded, and were not tagged so far; `anew`: all of them.

    Tags of the same model are replaced, in one transaction a block, so that a run that was killed
    goes on where it stopped. `how` stands for the labels and their threshold: once it is another,
    all images are tagged again. `progress` is told how many images were done since the last call.

    Raises:
        LibraryError: another writer, or the library cannot be written.
    """
    done = Tagged(0, 0, 0)
    with library.writer():
        with library.read() as session:
            after = 0 if anew else _done(session, model, how)
            last = newest_embedding(session, model)
        for ids, embeddings in blocks(library, model, after=after, upto=last, live=False):
            found = label(embeddings.astype(np.float32))
            tags = _rows(ids.tolist(), model, found)
            with library.write() as session:
                _replace(session, model, ids.tolist(), tags, how)
            with_tags = sum(map(bool, found))
            done = Tagged(done.images + len(ids), done.with_tags + with_tags, done.tags + len(tags))
            if progress is not None:
                progress(len(ids))
    return done


def count_tags(library: Library) -> list[tuple[str, int]]:
    """The labels and how many images with a live file have each, the most frequent first."""
    number = func.count(TagRow.image_id.distinct())
    live = exists().where(FileRow.image_id == TagRow.image_id, FileRow.gone_at.is_(None))
    rows = select(TagRow.label, number).where(live).group_by(TagRow.label)
    with library.read() as session:
        found = session.execute(rows.order_by(number.desc(), TagRow.label))
        return [(label, count) for label, count in found]


def _rows(
    ids: Sequence[int], model: ModelInfo, found: Sequence[Sequence[tuple[str, float]]]
) -> list[dict[str, object]]:
    return [
        {"image_id": image_id, "model": model.key, "label": label, "confidence": confidence}
        for image_id, labels in zip(ids, found, strict=True)
        for label, confidence in labels
    ]


def _replace(
    session: Session, model: ModelInfo, ids: list[int], tags: list[dict[str, object]], how: str
) -> None:
    for part in chunks(ids):
        own = TagRow.model == model.key
        session.execute(delete(TagRow).where(own, TagRow.image_id.in_(part)))
    if tags:
        session.execute(insert(TagRow), tags)
    newest = select(EmbeddingRow.id).where(
        EmbeddingRow.model == model.key, EmbeddingRow.image_id == ids[-1]
    )
    value = {"how": how, "upto": session.scalar(newest)}
    session.merge(SettingRow(name=_setting(model), value=json.dumps(value)))


def _done(session: Session, model: ModelInfo, how: str) -> int:
    """The embedding id up to which images are tagged as `how` says; ids only grow."""
    row = session.get(SettingRow, _setting(model))
    done = json.loads(row.value) if row is not None else {}
    return int(done["upto"]) if done.get("how") == how else 0


def _setting(model: ModelInfo) -> str:
    return f"tags:{model.key}"
