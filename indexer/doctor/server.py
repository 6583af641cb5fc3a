"""Checks of a library in PostgreSQL, which keeps its own keys and references: that it does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, aliased

from rwkvsearch.indexer.ann.kinds import SMALL
from rwkvsearch.indexer.blocks import newest_embedding
from rwkvsearch.indexer.doctor.ann import ASKED, LEAST, Rebuild
from rwkvsearch.indexer.doctor.database import without_indexes
from rwkvsearch.indexer.doctor.findings import Finding, fault, note, ok, some
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.tables import EmbeddingRow, Table
from rwkvsearch.indexer.team.proposals import by_index
from rwkvsearch.indexer.team.publish import index_name
from rwkvsearch.indexer.team.published import is_valid, published

_RESTORE = "`rwkvsearch restore` brings back a backup; what is not damaged can be saved by pg_dump"


def check_server(library: Library, *, full: bool) -> Iterator[Finding]:
    """Which server it is, and whether it would notice damage; `full` reads every row."""
    with library.read() as session:
        version, checksums = session.execute(
            text("SELECT current_setting('server_version'), current_setting('data_checksums')")
        ).one()
        vector = session.scalar(
            text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        )
        if full:
            without_indexes(session)
            for table in Table.metadata.tables:
                session.execute(text(f"SELECT count(t.*) FROM {table} AS t"))
    read = ", every row can be read" if full else ""
    yield ok("database", f"PostgreSQL {version}, pgvector {vector}{read}")
    if checksums != "on":
        yield note(
            "database",
            "the server does not checksum its pages, damage of its disk can go unnoticed",
            "`pg_checksums --enable` while it is stopped",
        )


def check_kept_references(library: Library) -> Iterator[Finding]:
    """Whether every row that a row points to is there, whatever the server says of its keys."""
    broken = False
    for table in Table.metadata.sorted_tables:
        for key in table.foreign_keys:
            target = key.column.table.alias("target")
            lost = ~select(target.c.id).where(target.c.id == key.parent).exists()
            counted = select(func.count()).select_from(table).where(key.parent.is_not(None), lost)
            with library.read() as session:
                number = session.scalar(counted) or 0
            if number:
                broken = True
                what = f"{some(number, 'row')} of {table.name} point to rows that are not there"
                yield fault("references", what, _RESTORE)
    if not broken:
        yield ok("references", "every row that is pointed to is there")


def check_hnsw(library: Library, sample: int) -> Iterator[Finding]:
    """Whether the index of every model is whole: a sample of the embeddings finds itself."""
    for model in library.models():
        name = index_name(model)
        with library.read() as session:
            known, valid = published(session, model), is_valid(session, name)
        if known is None and not valid:
            what = f"none of {model.model_id}, {some(model.embeddings, 'row')} are compared"
            if model.embeddings < SMALL:
                yield ok("ann", what)
            else:
                yield Finding("ann", "note", what, "built; so does `index`", Rebuild(model))
            continue
        if known is None:
            yield fault("ann", f"{name}: not measured", "built anew", Rebuild(model))
            continue
        asked, found = _finding_themselves(library, model, sample, known.ef)
        if found < LEAST * asked:
            what = f"{name}: only {found:,} of {some(asked, 'image')} find themselves"
            yield fault("ann", what, "built anew", Rebuild(model))
        else:
            yield ok("ann", f"{name}: {found:,} of {some(asked, 'image')} asked find themselves")


def _finding_themselves(
    library: Library, model: ModelInfo, sample: int, ef: int
) -> tuple[int, int]:
    """How many were asked, and how many are among the best proposed for their own embedding."""
    with library.read() as session:
        ids = _some_images(session, model, sample)
    images, stored = library.embeddings_of(model, ids)
    found = 0
    for image, embedding in zip(images.tolist(), stored.astype(np.float32), strict=True):
        unit = embedding / np.linalg.norm(embedding)
        with library.read() as session:
            proposed = by_index(session, model, unit, ASKED, ef, None)
        equal = len(proposed.scores) and proposed.scores[-1] >= 1 - 2**-9  # copies take its place
        found += image in proposed.ids or bool(equal)
    return len(images), found


def _some_images(session: Session, model: ModelInfo, sample: int) -> list[int]:
    """Images spread over all embeddings."""
    newest = newest_embedding(session, model)
    steps = np.unique(np.linspace(1, newest, min(sample, newest)).astype(np.int64)).tolist()
    rows = aliased(EmbeddingRow)
    chosen = select(rows.image_id).where(rows.model == model.key, rows.id.in_(steps))
    return [*session.scalars(chosen)]
