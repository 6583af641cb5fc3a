"""The generations of a model's ann: which file is in use, what it holds, and how it is replaced."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.ann.file import AnnFile, head_sha256, map_file, move_file
from rwkvsearch.indexer.blocks import Ids, image_ids
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.tables import GenerationRow, SettingRow


@dataclass(frozen=True)
class Built:
    """A finished file at `path` that is not in use yet: of the embeddings with ids up to `upto`."""

    path: Path
    ann: AnnFile
    upto: int


@dataclass(frozen=True)
class Generation:
    """The file in use: of the embeddings up to `upto`, but for those of the images `left_out`."""

    ann: AnnFile
    path: Path
    upto: int
    left_out: Ids


def open_generation(library: Library, model: ModelInfo) -> Generation | None:
    """The newest one, or None if there is no file or it is not what was written."""
    seen: int | None = None
    while True:
        with library.read() as session:
            row = newest_generation(session, model)
            # None in its second reading: not just replaced by the next one, so it is damaged.
            if row is None or (found := _load(library, session, model, row)) or row.id == seen:
                return found if row else None
            seen = row.id


def _load(
    library: Library, session: Session, model: ModelInfo, row: GenerationRow
) -> Generation | None:
    path = library.path / "ann" / row.file_name
    try:
        if path.stat().st_size != row.size or head_sha256(path) != row.head_sha256:
            return None
    except OSError:
        return None
    index = map_file(path)
    if index is None:
        return None
    ann = AnnFile(index, row.kind, json.loads(row.search), row.ann_recall)
    return Generation(ann, path, row.max_embedding_id, _left_out(session, model))


def newest_generation(session: Session, model: ModelInfo) -> GenerationRow | None:
    """The last one published for `model`."""
    of_model = select(GenerationRow).where(GenerationRow.model == model.key)
    return session.scalar(of_model.order_by(GenerationRow.id.desc()).limit(1))


def enter(library: Library, model: ModelInfo, built: Built) -> None:
    """Put a finished file in the place of the newest. The caller is the library's writer."""
    with library.read() as session:
        number = (session.scalar(select(func.max(GenerationRow.id))) or 0) + 1
        left_out = np.setdiff1d(image_ids(session, model, built.upto), built.ann.ids)
    name = f"{re.sub(r'[^A-Za-z0-9.-]+', '_', model.model_id)[:80]}-{number}.faiss"
    path = library.path / "ann" / name
    try:
        move_file(built.path, path)
    except OSError as error:
        raise not_written(path, error) from error
    generation = GenerationRow(
        id=number,
        model=model.key,
        file_name=name,
        size=path.stat().st_size,
        head_sha256=head_sha256(path),
        rows=built.ann.index.ntotal,
        max_embedding_id=built.upto,
        created_at=time.time(),
        kind=built.ann.kind,
        search=json.dumps(built.ann.search),
        ann_recall=built.ann.ann_recall,
    )
    with library.write() as session:
        session.execute(delete(GenerationRow).where(GenerationRow.model == model.key))
        session.add(generation)
        name = _left_out_setting(model)
        session.merge(SettingRow(name=name, value=json.dumps(left_out.tolist())))
    remove_unused(library)


def remove_unused(library: Library) -> None:
    """Remove old files, and what a killed run has left."""
    folder = library.path / "ann"
    with library.read() as session:
        used = set(session.scalars(select(GenerationRow.file_name)))
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in used:
            path.unlink(missing_ok=True)


def not_written(path: Path, error: OSError) -> LibraryError:
    """What to say of a file that cannot be written."""
    return LibraryError(
        f"{path} cannot be written: {error.strerror}; everything indexed so far is kept: "
        "run the same command again when there is space"
    )


def _left_out(session: Session, model: ModelInfo) -> Ids:
    row = session.get(SettingRow, _left_out_setting(model))
    return np.array(json.loads(row.value) if row else [], np.int64)


def _left_out_setting(model: ModelInfo) -> str:
    return f"ann-left-out:{model.key}"
