"""What a library holds, in numbers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from rwkvsearch.indexer.dialects import is_postgresql
from rwkvsearch.indexer.tables import (
    CaptionRow,
    EmbeddingRow,
    FileRow,
    GenerationRow,
    RootRow,
    Table,
    TagRow,
)

if TYPE_CHECKING:
    from rwkvsearch.indexer.library import ModelInfo


@dataclass(frozen=True)
class AnnInfo:
    """The published ann of a model: its faiss type, rows, bytes, and measured recall if any."""

    model_id: str
    kind: str
    rows: int
    bytes: int
    ann_recall: float | None


@dataclass(frozen=True)
class LibraryStats:
    """What a library holds: `images` are distinct contents with an embedding and a live file.

    `files` are good ones that are there, `gone` those that are not; `captions` counts the texts
    that belong to images, `tags` the labels they have; `roots` are the folders and shards.
    """

    images: int
    files: int
    gone: int
    captions: int
    errors: int
    errors_by_reason: dict[str, int]
    roots: list[Path]
    models: list[ModelInfo]
    anns: list[AnnInfo]
    bytes_on_disk: int
    synced_at: datetime | None
    tags: int = 0


def read_stats(session: Session, home: Path, models: list[ModelInfo]) -> LibraryStats:
    """Count what is in the library that lies in the directory `home`."""
    there = FileRow.gone_at.is_(None)
    embedded = exists().where(EmbeddingRow.image_id == FileRow.image_id)
    images, files = session.execute(
        select(
            func.count(FileRow.image_id.distinct()).filter(embedded), func.count(FileRow.image_id)
        ).where(there)
    ).one()
    number = func.count()
    reasons = session.execute(
        select(FileRow.error, number)
        .where(there, FileRow.error.is_not(None))
        .group_by(FileRow.error)
        .order_by(number.desc(), FileRow.error)
    )
    errors = {reason: count for reason, count in reasons if reason is not None}
    roots = session.execute(select(RootRow.path, RootRow.synced_at, RootRow.kind)).all()
    times = [synced_at for _, synced_at, _ in roots if synced_at is not None]
    return LibraryStats(
        images=images,
        files=files,
        gone=session.scalar(select(number).where(~there)) or 0,
        captions=session.scalar(select(func.count(CaptionRow.id))) or 0,
        errors=sum(errors.values()),
        errors_by_reason=errors,
        roots=sorted(path for path, _, kind in roots if kind != "loose"),
        models=models,
        anns=_anns(session, models),
        bytes_on_disk=_bytes_on_disk(home) + _bytes_in_database(session),
        synced_at=datetime.fromtimestamp(max(times), UTC) if times else None,
        tags=session.scalar(select(func.count(TagRow.id))) or 0,
    )


def _anns(session: Session, models: list[ModelInfo]) -> list[AnnInfo]:
    names = {model.key: model.model_id for model in models}
    rows = session.scalars(select(GenerationRow).order_by(GenerationRow.id))
    newest = {row.model: row for row in rows if row.model in names}
    return [
        AnnInfo(names[key], row.kind, row.rows, row.size, row.ann_recall)
        for key, row in newest.items()
    ]


def _bytes_in_database(session: Session) -> int:
    """What the tables and their indexes take on a server; a file is counted as one."""
    if not is_postgresql(session):
        return 0
    sizes = (func.pg_total_relation_size(table.name) for table in Table.metadata.sorted_tables)
    return session.scalar(select(reduce(add, sizes))) or 0


def _bytes_on_disk(home: Path) -> int:
    # Not everything below the directory: models/ beside it belongs to all libraries.
    total = 0
    patterns = ("library.*", "ann/*", "tune/*", "thumbs/**/*", "maps/*", "benchmarks/*")
    for path in [path for pattern in patterns for path in home.glob(pattern)]:
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total
