"""The files of a library that could not be used, by reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import FileRow, RootRow


@dataclass(frozen=True)
class BadFile:
    """A file that is there and cannot be used; `bytes` is its size."""

    path: Path
    reason: str
    bytes: int


def bad_files(
    library: Library, reason: str | None = None, *, offset: int = 0, limit: int | None = None
) -> tuple[list[BadFile], int]:
    """Files that could not be used, for one reason or any, by root and path; and how many in all.

    They are those of `stats().errors_by_reason`, and are looked at again once they have changed.
    """
    bad = FileRow.gone_at.is_(None) & FileRow.error.is_not(None)
    if reason is not None:
        bad = bad & (FileRow.error == reason)
    rows = (
        select(RootRow.path, FileRow.path, FileRow.error, FileRow.size)
        .join(RootRow, RootRow.id == FileRow.root_id)
        .where(bad)
        .order_by(RootRow.path, FileRow.path)
        .offset(offset)
        .limit(limit)
    )
    with library.read() as session:
        total = session.scalar(select(func.count()).where(bad)) or 0
        found = session.execute(rows).all()
    return [BadFile(root / path, error or "", size) for root, path, error, size in found], total
