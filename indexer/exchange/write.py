"""The embeddings of a library as files that others read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from rwkvsearch.data.errors import DataError, LibraryError
from rwkvsearch.data.remote import shown
from rwkvsearch.indexer.exchange.layout import (
    Origin,
    Part,
    import_parquet,
    write_origin,
    write_part,
)
from rwkvsearch.indexer.library import IS_LIVE, Library, ModelInfo, chunks
from rwkvsearch.indexer.tables import (
    CaptionRow,
    EmbeddingRow,
    ImageRow,
    TextEmbeddingRow,
    TextRow,
)
from rwkvsearch.indexer.texts import IS_SAID

_ROWS = 100_000  # of one part
_UNFINISHED = ".rwkvsearch-export"


def model_named(library: Library, name: str | None, precision: str | None = None) -> ModelInfo:
    """The model of a library by its id, or the name and precision in it; None takes the only one.

    Raises:
        LibraryError: none or several are meant.
    """
    present = library.models()
    fitting = [
        model
        for model in present
        if (name is None or model.model_id == name or model.model_id.startswith(f"{name}-"))
        and (precision is None or model.model_id.endswith(f"-{precision}"))
    ]
    exact = [m for m in fitting if m.model_id == name] or fitting
    if len(exact) == 1:
        return exact[0]
    names = ", ".join(m.model_id for m in present) or "no model"
    raise LibraryError(f"{library.name} has embeddings of {names}: choose one with --model")


def write_embeddings(
    library: Library,
    model: ModelInfo,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the embeddings of every image with a live file into a new or empty folder.

    Texts are written only if every image has one: a row there is an image with its text. Returns
    the number of images; `progress` is told it, and how many there will be.

    Raises:
        DataError: the folder holds something, cannot be written, or Arrow is not installed.
    """
    import_parquet()
    with library.read() as session:
        wanted = select(EmbeddingRow.image_id).where(EmbeddingRow.model == model.key, IS_LIVE)
        ids = sorted(session.scalars(wanted))
        told = select(func.count(CaptionRow.image_id.distinct())).where(IS_SAID)
        with_texts = bool(ids) and session.scalar(told) == len(ids)
    unfinished = folder / _UNFINISHED
    try:
        _refuse_filled(folder)
        unfinished.mkdir(parents=True)
        try:
            width = len(str(max(0, len(ids) - 1) // _ROWS))
            for number, start in enumerate(range(0, len(ids), _ROWS)):
                part = _part(library, model, ids[start : start + _ROWS], with_texts=with_texts)
                write_part(unfinished, f"{number:0{width}}", part)
                progress(start + len(part.paths), len(ids))
            ids_of_model = (model.model_id, model.preprocessing_id, model.weights_sha256)
            write_origin(unfinished, Origin(*ids_of_model, model.dim))
            for file in unfinished.iterdir():
                file.rename(folder / file.name)
        finally:
            shutil.rmtree(unfinished)
            with suppress(OSError):
                folder.rmdir()  # it is empty after an error
    except OSError as error:
        raise DataError(f"cannot export to {folder}: {error.strerror}") from error
    return len(ids)


def _refuse_filled(folder: Path) -> None:
    if folder.exists() and any(path.name != _UNFINISHED for path in folder.iterdir()):
        raise DataError(f"{folder} is not empty: name a new folder, nothing is ever overwritten")
    if (folder / _UNFINISHED).exists():  # of an export that was killed
        shutil.rmtree(folder / _UNFINISHED)


def _part(library: Library, model: ModelInfo, ids: Sequence[int], *, with_texts: bool) -> Part:
    found, embeddings = library.embeddings_of(model, ids)
    paths = library.paths_of(ids)
    said: dict[int, tuple[str, bytes | None]] = {}
    hashes: dict[int, str] = {}
    own = (TextEmbeddingRow.text_id == TextRow.id) & (TextEmbeddingRow.model == model.key)
    with library.read() as session:
        for some in chunks(ids):
            rows = session.execute(
                select(CaptionRow.image_id, TextRow.text, TextEmbeddingRow.data)
                .join(TextRow, TextRow.id == CaptionRow.text_id)
                .outerjoin(TextEmbeddingRow, own)
                .where(CaptionRow.image_id.in_(some), IS_SAID)
                .order_by(CaptionRow.id.desc())  # the first text of an image stays
            )
            said |= {image_id: (text, data) for image_id, text, data in rows}
            of_images = select(ImageRow.id, ImageRow.content_hash).where(ImageRow.id.in_(some))
            hashes |= {image_id: key for image_id, key in session.execute(of_images)}
    keep = [at for at, image_id in enumerate(found.tolist()) if image_id in paths]
    chosen = [int(found[at]) for at in keep]
    texts = None
    if with_texts and all(said.get(one, ("", None))[1] is not None for one in chosen):
        packed = b"".join(said[one][1] or b"" for one in chosen)
        texts = np.frombuffer(packed, "<f2").reshape(-1, model.dim)
    return Part(
        embeddings[keep],
        texts,
        [shown(paths[one][0]) for one in chosen],
        [said[one][0] if one in said else None for one in chosen],
        [hashes[one] for one in chosen],
    )
