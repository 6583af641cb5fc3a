"""Checks of the embeddings: each of the right length, finite, a unit vector, and none missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from sqlalchemy import Select, delete, exists, func, select, update
from sqlalchemy.orm import Session

from rwkvsearch.indexer.blocks import BLOCK, MARGIN
from rwkvsearch.indexer.doctor.findings import Finding, fault, note, ok, some
from rwkvsearch.indexer.library import Library, ModelInfo, chunks
from rwkvsearch.indexer.tables import (
    EmbeddingRow,
    FileRow,
    GenerationRow,
    ImageRow,
    ModelRow,
    TextEmbeddingRow,
)

UNREAD = -1
"""The mtime of a file that the next sync reads again."""

_ANEW = "dropped; the next `index` makes them anew"
Kind = type[EmbeddingRow] | type[TextEmbeddingRow]


def check_embeddings(library: Library) -> Iterator[Finding]:
    """Whether every embedding is what an encoder can have given."""
    with library.read() as session:
        models = session.execute(select(ModelRow.id, ModelRow.model_id, ModelRow.dim)).all()
    kinds: tuple[tuple[Kind, str], ...] = (
        (EmbeddingRow, "embedding"),
        (TextEmbeddingRow, "text embedding"),
    )
    for kind, noun in kinds:
        number, faulty = 0, False
        for key, name, dim in models:
            seen, bad = _bad_rows(library, kind, key, dim)
            number += seen
            for reason, ids in bad.items():
                faulty = True
                what = f"{some(len(ids), noun)} of {name} {reason}"
                yield fault("embeddings", what, _ANEW, _dropping(kind, ids))
        if number and not faulty:
            yield ok("embeddings", f"{some(number, noun)}: right length, finite, unit vectors")


def check_coverage(library: Library) -> Iterator[Finding]:
    """Whether every picture that is there has an embedding, and which model lacks some.

    A picture that another model has embedded can be found, so what one model lacks is no fault:
    that is a library in which only a part was indexed with it.
    """
    with library.read() as session:
        live = _count(session)
        missing = session.scalars(_without_any()).all()
        waiting = session.scalar(
            select(func.count()).where(FileRow.gone_at.is_(None), FileRow.mtime_ns == UNREAD)
        )
    if missing:
        yield fault(
            "coverage",
            f"{some(len(missing), 'file')} cannot be found: no picture or no embedding of it",
            "read again by the next `index`",
            _marking(missing),
        )
    if waiting:
        yield note("coverage", f"{some(waiting, 'file')} to be read again by the next `index`")
    lacking = list(_lacking(library, live))
    yield from lacking
    if not missing and not waiting and not lacking:
        yield ok("coverage", f"{some(live, 'image')} with an embedding of every model")


def mark_unread(session: Session, file_ids: Sequence[int]) -> None:
    """Let the next sync read these files again, whatever their stat."""
    for ids in chunks(file_ids):
        session.execute(update(FileRow).where(FileRow.id.in_(ids)).values(mtime_ns=UNREAD))


def drop_embeddings(session: Session, kind: Kind, ids: Sequence[int]) -> None:
    """Drop embeddings by their row ids, and the ann files that may hold them."""
    for part in chunks(ids):
        if kind is EmbeddingRow:
            of_them = select(EmbeddingRow.model).where(EmbeddingRow.id.in_(part))
            session.execute(delete(GenerationRow).where(GenerationRow.model.in_(of_them)))
        session.execute(delete(kind).where(kind.id.in_(part)))
    mark_unread(session, session.scalars(_without_any()).all())


def _bad_rows(
    library: Library, kind: Kind, model: int, dim: int
) -> tuple[int, dict[str, list[int]]]:
    """How many rows there are, and the bad ones by what is wrong with them."""
    number, after = 0, 0
    bad: dict[str, list[int]] = {}
    row = select(kind.id, kind.data).where(kind.model == model).order_by(kind.id).limit(BLOCK)
    while True:
        with library.read() as session:
            rows = session.execute(row.where(kind.id > after)).all()
        if not rows:
            return number, bad
        number, after = number + len(rows), rows[-1][0]
        whole = [(row_id, data) for row_id, data in rows if len(data) == 2 * dim]
        if cut := [row_id for row_id, data in rows if len(data) != 2 * dim]:
            bad.setdefault("with the wrong length", []).extend(cut)
        ids = np.array([row_id for row_id, _ in whole], np.int64)
        halves = np.frombuffer(b"".join(data for _, data in whole), "<f2").reshape(-1, dim)
        norms = np.linalg.norm(halves.astype(np.float32), axis=1)
        finite = np.isfinite(norms)
        off = finite & (np.abs(norms - 1) > MARGIN)
        for reason, which in (("not finite", ~finite), ("of no unit length", off)):
            if which.any():
                bad.setdefault(reason, []).extend(ids[which].tolist())


def _dropping(kind: Kind, ids: Sequence[int]) -> Callable[[Library], None]:
    def fix(library: Library) -> None:
        with library.write() as session:
            drop_embeddings(session, kind, ids)

    return fix


def _marking(file_ids: Sequence[int]) -> Callable[[Library], None]:
    def fix(library: Library) -> None:
        with library.write() as session:
            mark_unread(session, file_ids)

    return fix


def _without_any() -> Select[int]:
    """Files that are there, are not known to be bad, and have no embedding of any model."""
    embedded = exists().where(EmbeddingRow.image_id == FileRow.image_id)
    return select(FileRow.id).where(
        FileRow.gone_at.is_(None),
        FileRow.error.is_(None),
        FileRow.mtime_ns != UNREAD,
        ~embedded,
    )


def _count(session: Session, model: int | None = None) -> int:
    """Images with a live file; with `model`, those that it has embedded."""
    there = exists().where(FileRow.image_id == ImageRow.id, FileRow.gone_at.is_(None))
    counted = select(func.count(ImageRow.id)).where(there)
    if model is not None:
        of_model = EmbeddingRow.model == model
        counted = counted.where(exists().where(EmbeddingRow.image_id == ImageRow.id, of_model))
    return session.scalar(counted) or 0


def _lacking(library: Library, live: int) -> Iterator[Finding]:
    models: list[ModelInfo] = library.models()
    for model in models:
        with library.read() as session:
            lacking = live - _count(session, model.key)
        if lacking:
            yield note(
                "coverage",
                f"{some(lacking, 'image')} without an embedding of {model.model_id}",
                "`rwkvsearch index --model` adds them" if len(models) > 1 else "",
            )
