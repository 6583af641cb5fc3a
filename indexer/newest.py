"""The images of a library from the latest on, for whoever only wants to look."""

from __future__ import annotations

import json
from collections.abc import Iterable

from sqlalchemy import exists, select

from rwkvsearch.indexer.dialects import among as is_among
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import FileRow, ImageRow


def newest_images(
    library: Library, k: int, offset: int = 0, among: Iterable[int] | None = None
) -> list[int]:
    """The ids of the `k` images with a live file behind the first `offset`, of `among` if given.

    Those taken last come first, then those that do not say when, the last added first.
    """
    there = exists().where(FileRow.image_id == ImageRow.id, FileRow.gone_at.is_(None))
    query = select(ImageRow.id).where(there)
    if among is not None:
        query = query.where(is_among(ImageRow.id, "among", json.dumps([*map(int, among)])))
    query = query.order_by(ImageRow.taken_at.desc().nulls_last(), ImageRow.id.desc())
    with library.read() as session:
        return list(session.scalars(query.limit(k).offset(offset)))
