"""The roots of a library as a person sees them: what came from each, and whether it is there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import case, exists, func, select

from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sources import LOOSE
from rwkvsearch.indexer.tables import FileRow, RootRow


@dataclass(frozen=True)
class RootState:
    """A folder, a shard, or all files that were named one by one (`loose`, path `/`).

    `files` are good ones that are there, `errors` bad ones, `gone` remembered; `is_there` is
    whether the root can be read now.
    """

    path: Path
    kind: str
    files: int
    errors: int
    gone: int
    synced_at: datetime | None
    is_there: bool


def root_states(library: Library) -> list[RootState]:
    """Every root, by path."""
    there = FileRow.gone_at.is_(None)
    counts = (
        func.count(case((there & FileRow.image_id.is_not(None), 1))),
        func.count(case((there & FileRow.error.is_not(None), 1))),
        func.count(case((~there, 1))),
    )
    rows = (
        select(RootRow.path, RootRow.kind, RootRow.synced_at, *counts)
        .outerjoin(FileRow, FileRow.root_id == RootRow.id)
        .group_by(RootRow.id)
        .order_by(RootRow.path)
    )
    with library.read() as session:
        found = session.execute(rows).all()
    return [
        RootState(
            *(path, kind, files, errors, gone),
            datetime.fromtimestamp(synced_at, UTC) if synced_at is not None else None,
            kind == LOOSE or os.access(path, os.R_OK),
        )
        for path, kind, synced_at, files, errors, gone in found
    ]


def is_known(library: Library, folder: Path) -> bool:
    """Whether any file at or below an absolute path was indexed; the disk is not looked at."""
    with library.read() as session:
        for root_id, root in session.execute(select(RootRow.id, RootRow.path)).all():
            own = FileRow.root_id == root_id
            if folder.is_relative_to(root) and folder != root:
                name = os.fsencode(folder.relative_to(root))
                inside = (FileRow.path > name + b"/") & (FileRow.path < name + b"0")
                own = own & ((FileRow.path == name) | inside)
            elif not root.is_relative_to(folder):
                continue
            if session.scalar(select(exists().where(own))):
                return True
    return False
