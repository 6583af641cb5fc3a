"""Which image of a library a path stands for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from rwkvsearch.data.remote import absolute
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import FileRow, RootRow


def images_at(library: Library, paths: Iterable[Path]) -> dict[Path, int]:
    """Return the image id of each path that is a live file of the library, or a shard's member.

    A relative path is taken from the working directory, else from each root of the library. Each is
    looked for as it is written, and where its links lead.
    """
    with library.read() as session:
        roots = [(row.id, row.path) for row in session.scalars(select(RootRow))]
        found = {path: _image_at(session, roots, path) for path in dict.fromkeys(paths)}
    return {path: image_id for path, image_id in found.items() if image_id is not None}


def _image_at(session: Session, roots: list[tuple[int, Path]], path: Path) -> int | None:
    path = absolute(path)
    written = Path(os.path.normpath(Path.cwd() / path))
    places = [written, written.resolve()]
    if not path.is_absolute():
        places += [Path(os.path.normpath(root / path)) for _, root in roots]
    for place in places:
        for root_id, root in roots:
            if place.is_relative_to(root):
                row = session.scalar(
                    select(FileRow.image_id).where(
                        FileRow.root_id == root_id,
                        FileRow.path == place.relative_to(root),
                        FileRow.gone_at.is_(None),
                    )
                )
                if row is not None:
                    return row
    return None
