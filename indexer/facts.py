"""When, where and by which camera: what a picture says itself, else what stands beside its files.

Both are kept apart, so that a corrected or removed sidecar takes back what it said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from rwkvsearch.data.metadata import Metadata, merge
from rwkvsearch.indexer.library import chunks
from rwkvsearch.indexer.tables import FileRow, ImageRow

_NAMES = ("taken_at", "camera", "lens", "latitude", "longitude")
_COLUMNS = [getattr(ImageRow, name) for name in _NAMES]


def write_facts(said: Metadata) -> str | None:
    """The facts as JSON, without what is not said; None for nothing."""
    facts = {name: value for name in _NAMES if (value := getattr(said, name)) is not None}
    return json.dumps(facts) if facts else None


def images_told_by(session: Session, file_ids: Iterable[int]) -> set[int]:
    """The images of those of these files that have facts beside them."""
    images: set[int] = set()
    for ids in chunks([*file_ids]):
        told = (FileRow.id.in_(ids), FileRow.beside.is_not(None), FileRow.image_id.is_not(None))
        images.update(session.scalars(select(FileRow.image_id).where(*told)))
    return images


def settle_facts(session: Session, image_ids: Iterable[int]) -> None:
    """Of each fact what the image says, else the first of its live files by what is beside it."""
    for ids in chunks(sorted({*image_ids})):
        here = ImageRow.id.in_(ids)
        asked = select(ImageRow.id, ImageRow.own_facts, *_COLUMNS).where(here)
        # Other writers of a shared library wait until these have been settled.
        images = session.execute(asked.order_by(ImageRow.id).with_for_update(key_share=True))
        before = {image_id: (tuple(facts), own) for image_id, own, *facts in images}
        said = {image_id: [_read(own)] for image_id, (_, own) in before.items()}
        live = (FileRow.image_id.in_(ids), FileRow.gone_at.is_(None), FileRow.beside.is_not(None))
        files = select(ImageRow.id, FileRow.beside).join(FileRow, FileRow.image_id == ImageRow.id)
        for image_id, beside in session.execute(files.where(*live).order_by(FileRow.id)):
            said[image_id].append(_read(beside))
        now = {image_id: _values(merge(*found)) for image_id, found in said.items()}
        rows = [
            {"id": image_id, **values}
            for image_id, values in now.items()
            if tuple(values.values()) != before[image_id][0]
        ]
        if rows:
            session.execute(update(ImageRow), rows)


def _read(facts: str | None) -> Metadata:
    return Metadata(**json.loads(facts)) if facts else Metadata()


def _values(said: Metadata) -> dict[str, Any]:
    return {name: getattr(said, name) for name in _NAMES}
