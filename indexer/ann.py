"""The ann: one model's embeddings published as a FAISS file, mapped, and asked for candidates.

The file is derived: written under a temporary name, flushed, renamed, and only then entered in the
catalog. Nothing else in the project touches FAISS, which is imported at the first use.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.catalog import EmbeddingRow, GenerationRow
from rwkvsearch.indexer.library import Library, ModelInfo

_BLOCK = 16384  # rows converted at a time
_HEAD = 4096


def publish(library: Library, model: ModelInfo) -> None:
    """Write the ann file of all embeddings of `model`, unless the newest one is complete.

    The caller is the library's writer. Killed at any moment, it leaves the old generation in use.

    Raises:
        LibraryError: faiss is not installed, or the file cannot be written.
    """
    with library.read() as session:
        newest = newest_generation(session, model)
        last = session.scalar(
            select(func.max(EmbeddingRow.id)).where(EmbeddingRow.model == model.key)
        )
        if (
            last is None
            or newest
            and newest.max_embedding_id == last
            and load_index(library, newest)
        ):
            return
        rows = embedding_rows(session, model, last)
        number = (session.scalar(select(func.max(GenerationRow.id))) or 0) + 1
    index = _build(*library.unpack(rows, model.dim))
    name = f"{re.sub(r'[^A-Za-z0-9.-]+', '_', model.model_id)[:80]}-{number}.faiss"
    path = library.path / "ann" / name
    try:
        _write(index, path)
    except OSError as error:
        raise LibraryError(
            f"{path} cannot be written: {error.strerror}; everything indexed so far is kept: "
            "run the same command again when there is space"
        ) from error
    generation = GenerationRow(
        id=number,
        model=model.key,
        file_name=name,
        size=path.stat().st_size,
        head_sha256=_head_sha256(path),
        rows=len(rows),
        max_embedding_id=last,
        created_at=time.time(),
    )
    with library.write() as session:
        session.execute(delete(GenerationRow).where(GenerationRow.model == model.key))
        session.add(generation)
    _remove_unused(library)


def propose(
    index: Any, queries: NDArray[np.float32], count: int, dead: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Candidates for unit `queries` `[Q, D]`: rough scores, best first, and image ids `[Q, count]`.

    Images in `dead` are passed over; an id of -1 fills up.
    """
    params = None
    if len(dead):
        faiss = import_faiss()
        params = faiss.SearchParameters(sel=faiss.IDSelectorNot(faiss.IDSelectorBatch(dead)))
    scores, ids = index.search(queries, count, params=params)
    return scores, ids


def import_faiss() -> ModuleType:
    """The faiss module, imported at the first use.

    Raises:
        LibraryError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise LibraryError(
            "faiss is not installed: pip install 'rwkvsearch[cpu]' or 'rwkvsearch[gpu]'"
        ) from error
    module: ModuleType = faiss
    return module


def choose_index(dim: int) -> Any:
    """An empty FAISS index for embeddings of `dim`: exact, with the stored fp16 as is.

    At 20,000 x 640 it answers one query in 5 ms and is 26 MB; IndexFlatIP takes 17 ms and 51 MB.
    """
    faiss = import_faiss()
    fp16 = faiss.ScalarQuantizer.QT_fp16
    return faiss.IndexScalarQuantizer(dim, fp16, faiss.METRIC_INNER_PRODUCT)


def _build(ids: NDArray[np.int64], embeddings: NDArray[np.float16]) -> Any:
    index = import_faiss().IndexIDMap2(choose_index(embeddings.shape[1]))
    for start in range(0, len(ids), _BLOCK):
        part = slice(start, start + _BLOCK)
        index.add_with_ids(embeddings[part].astype(np.float32), ids[part])
    return index


def _write(index: Any, path: Path) -> None:
    """All or nothing under `path`, also through a power cut."""
    faiss = import_faiss()
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as stream:
            faiss.write_index(index, faiss.PyCallbackIOWriter(stream.write))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_index(library: Library, generation: GenerationRow | None) -> Any | None:
    """The published index, or None if there is no file or it is not what was written."""
    if generation is None:
        return None
    faiss = import_faiss()
    path = library.path / "ann" / generation.file_name
    try:
        if path.stat().st_size != generation.size or _head_sha256(path) != generation.head_sha256:
            return None
        mapped = getattr(faiss, "IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP)  # the first since 1.11
        return faiss.read_index(str(path), mapped)
    # Only a cache: whatever is wrong with it, the truth in the catalog answers.
    except (OSError, RuntimeError, MemoryError, ValueError, TypeError):
        return None


def _head_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.sha256(stream.read(_HEAD)).hexdigest()


def newest_generation(session: Session, model: ModelInfo) -> GenerationRow | None:
    """The last one published for `model`."""
    of_model = select(GenerationRow).where(GenerationRow.model == model.key)
    return session.scalar(of_model.order_by(GenerationRow.id.desc()).limit(1))


def embedding_rows(session: Session, model: ModelInfo, upto: int) -> list[tuple[int, bytes]]:
    """(image id, fp16 bytes) of every embedding of `model` with `id <= upto`, live or not."""
    rows = session.execute(
        select(EmbeddingRow.image_id, EmbeddingRow.data)
        .where(EmbeddingRow.model == model.key, EmbeddingRow.id <= upto)
        .order_by(EmbeddingRow.id)
    )
    return [(image_id, data) for image_id, data in rows]


def _remove_unused(library: Library) -> None:
    with library.read() as session:
        used = set(session.scalars(select(GenerationRow.file_name)))
    for path in (library.path / "ann").iterdir():
        if path.name not in used:
            path.unlink(missing_ok=True)
