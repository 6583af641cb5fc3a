"""The index of a library in PostgreSQL: HNSW of pgvector, built after what it holds was stored.

Rows that come later go into it by themselves, some hundred a second.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from threading import Event, Thread

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.address import Address
from rwkvsearch.indexer.ann.build import fastest, make_trial
from rwkvsearch.indexer.ann.kinds import SMALL, TARGET
from rwkvsearch.indexer.blocks import newest_embedding
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.tables import EmbeddingRow, GenerationRow
from rwkvsearch.indexer.team.connect import Connection, Connector, team_errors
from rwkvsearch.indexer.team.proposals import ByIndex
from rwkvsearch.indexer.team.published import is_valid, published

M, EF_CONSTRUCTION = 16, 80
KIND = f"HNSW{M}"
_SEARCHES = (40, 100, 200, 400, 800)  # values of ef, the fastest first
_QUESTIONS, _MEASURED_K = 100, 10
_GROWTH = 1.6  # times the rows, after which it is measured anew
_LARGEST = 4_000  # numbers of an embedding that an index of halves takes
_BUILDING = 0x7277_6B62  # the lock of whoever builds an index
_LOOK_EVERY = 1.0  # seconds between two looks at how far a build is
_SHARE_BUILT = (
    "SELECT CAST(blocks_done AS float) / nullif(blocks_total, 0) FROM pg_stat_progress_create_index"
    " WHERE relid = to_regclass('embeddings') AND phase = 'building index: loading tuples'"
)
_MOST_MEMORY = 2 << 30  # bytes that a build may ask the server for


def publish(
    library: Library,
    model: ModelInfo,
    *,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Build the index of `model` where it is due and there is none, and measure how to search it.

    Others go on writing and searching meanwhile. Killed at any moment, it leaves a part of an index
    that nobody uses, which the next run replaces. `force` builds it anew, however small. `progress`
    is told, by another thread, about how many embeddings are in it, and how many there are.

    Raises:
        LibraryError: the server has stopped, or has no room.
    """
    with library.read() as session:
        rows = count_rows(session, model)
        known = published(session, model)
        name = index_name(model)
        valid = is_valid(session, name)
    refresh_statistics(library, rows)
    if rows == 0 or model.dim > _LARGEST or rows < SMALL and not force and not valid:
        return
    if valid and known and not force and rows <= _GROWTH * known.rows:
        return
    with _alone(library) as connection:
        if connection is None:  # somebody else builds: what we have stored will be in it
            return
        if force or not valid:
            with _watched(library, rows, progress):
                _build(connection, model, name, rows)
    _measure(library, model, name, rows)


def index_name(model: ModelInfo) -> str:
    """Of the index of a model."""
    return f"embeddings_hnsw_{model.key}"


def refresh_statistics(library: Library, rows: int) -> None:
    """Let the planner know of many new rows now, not in a minute."""
    asked = "SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = 'embeddings'::regclass"
    with library.read() as session:
        known = session.scalar(text(asked)) or 0
    if abs(rows - known) > 0.1 * rows + 100:
        with library.write() as session:
            session.execute(text("ANALYZE roots, files, images, embeddings, texts, captions"))


@contextmanager
def _alone(library: Library) -> Iterator[Connection | None]:
    """A connection of its own that holds the lock of a build; None: somebody else holds it."""
    assert isinstance(library.place, Address)
    with team_errors(library.name), closing(Connector(library.place)()) as connection:
        connection.autocommit = True
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", [_BUILDING]).fetchone()
        yield connection if row and row[0] else None


@contextmanager
def _watched(
    library: Library, rows: int, progress: Callable[[int, int], None] | None
) -> Iterator[None]:
    """Tell how far the server is, until the block ends."""

    def look(tell: Callable[[int, int], None]) -> None:
        while not ended.wait(_LOOK_EVERY):
            with suppress(LibraryError), library.read() as session:
                share = session.scalar(text(_SHARE_BUILT))
                if share is not None and share < 1:  # 1 can be of the phase before
                    tell(round(share * rows), rows)

    ended = Event()
    thread = Thread(target=look, args=(progress,), daemon=True)
    if progress is not None:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if progress is not None:
            thread.join()


def _build(connection: Connection, model: ModelInfo, name: str, rows: int) -> None:
    needed = rows * (2 * model.dim + 8 * M * 3)
    memory = "SELECT pg_size_bytes(current_setting('maintenance_work_mem')) < %s"
    row = connection.execute(memory, [needed]).fetchone()
    if row and row[0]:
        connection.execute(f"SET maintenance_work_mem = {min(needed, _MOST_MEMORY) >> 10}")
    connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    connection.execute(
        f"CREATE INDEX CONCURRENTLY {name} ON embeddings"
        f" USING hnsw ((data::halfvec({model.dim})) halfvec_ip_ops)"
        f" WITH (m = {M}, ef_construction = {EF_CONSTRUCTION}) WHERE model = {model.key}"
    )


def _measure(library: Library, model: ModelInfo, name: str, rows: int) -> None:
    with library.read() as session:
        upto = newest_embedding(session, model)
    trial = make_trial(library, model, upto, _QUESTIONS, _MEASURED_K)
    ef, recall = fastest(_SEARCHES, lambda ef: ByIndex(library, model, ef), trial, TARGET)
    with library.write() as session:
        session.execute(delete(GenerationRow).where(GenerationRow.model == model.key))
        session.add(
            GenerationRow(
                model=model.key,
                file_name=name,
                size=_size(session, name),
                head_sha256="",
                rows=rows,
                max_embedding_id=upto,
                created_at=time.time(),
                kind=KIND,
                search=json.dumps({"ef": ef}),
                ann_recall=recall,
            )
        )


def count_rows(session: Session, model: ModelInfo) -> int:
    """How many embeddings of a model there are, of live images or not."""
    return session.scalar(select(func.count()).where(EmbeddingRow.model == model.key)) or 0


def _size(session: Session, name: str) -> int:
    return session.scalar(text("SELECT pg_relation_size(to_regclass(:name))"), {"name": name}) or 0
