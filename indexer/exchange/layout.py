"""Embeddings as clip-retrieval keeps them: npy files, and parquet of what each row stands for.

img_emb/img_emb_0.npy         [N, D], fp16 or fp32
metadata/metadata_0.parquet   N rows: image_path, caption if there is one, more columns
text_emb/text_emb_0.npy       [N, D], of the captions
rwkvsearch.json               which model made them; of ours only
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import DataError

NOTE = "rwkvsearch.json"
_PART = re.compile(r"img_emb_(\d+)\.npy")

Matrix = NDArray[np.float16] | NDArray[np.float32]


@dataclass(frozen=True)
class Origin:
    """The model that made some embeddings, as a library knows it."""

    model_id: str
    preprocessing_id: str
    weights_sha256: str
    dim: int


@dataclass(frozen=True)
class Part:
    """Rows of one pair of files: `images` `[N, D]`, `texts` `[N, D]` or None, and the columns.

    `paths` are as they were written; `captions` and `hashes` (SHA-256 of the file) are None for a
    row that has none.
    """

    images: Matrix
    texts: Matrix | None
    paths: Sequence[str]
    captions: Sequence[str | None]
    hashes: Sequence[str | None]


def import_parquet() -> Any:
    """The module that reads and writes parquet.

    Raises:
        DataError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError("parquet needs Arrow: pip install 'rwkvsearch[remote]'") from error
    return pyarrow.parquet


def write_part(folder: Path, name: str, part: Part) -> None:
    """Write the files of a part; `name` is its number, with the zeros before it."""
    parquet = import_parquet()
    import pyarrow

    for kind, matrix in (("img_emb", part.images), ("text_emb", part.texts)):
        if matrix is not None:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            np.save(folder / kind / f"{kind}_{name}.npy", matrix)
    columns = {"image_path": part.paths, "caption": part.captions, "sha256": part.hashes}
    table = pyarrow.table({key: pyarrow.array(rows, "string") for key, rows in columns.items()})
    (folder / "metadata").mkdir(exist_ok=True)
    parquet.write_table(table, folder / "metadata" / f"metadata_{name}.parquet")


def read_parts(folder: Path) -> Iterator[Part]:
    """Every part, in order; the matrices are mapped, not read.

    Raises:
        DataError: there is none, or a file of a part is missing, damaged or of another length.
    """
    found = sorted((folder / "img_emb").glob("img_emb_*.npy"), key=_number)
    if not found:
        raise DataError(f"{folder}: no img_emb/img_emb_0.npy, as clip-retrieval writes it")
    for images in found:
        yield _read_part(folder, images)


def write_origin(folder: Path, origin: Origin) -> None:
    """Write down which model made the embeddings."""
    (folder / NOTE).write_text(json.dumps(asdict(origin), indent=1) + "\n", "utf-8")


def read_origin(folder: Path) -> Origin | None:
    """Which model made the embeddings; None where nothing says so.

    Raises:
        DataError: the file that says so is damaged.
    """
    try:
        return Origin(**json.loads((folder / NOTE).read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder / NOTE}: not as `rwkvsearch export` writes it") from error


def _number(path: Path) -> int:
    match = _PART.fullmatch(path.name)
    return int(match[1]) if match else -1


def _read_part(folder: Path, file: Path) -> Part:
    match = _PART.fullmatch(file.name)
    if match is None:
        raise DataError(f"{file}: not a name that clip-retrieval gives")
    columns = _columns(folder / "metadata" / f"metadata_{match[1]}.parquet")
    paths = columns.get("image_path")
    images = _matrix(file)
    texts = folder / "text_emb" / f"text_emb_{match[1]}.npy"
    told = _matrix(texts) if texts.exists() else None
    if paths is None:
        raise DataError(f"{folder}: metadata_{match[1]}.parquet has no column image_path")
    lengths = {len(images), len(paths), len(images if told is None else told)}
    if len(lengths) > 1:
        rows = " and ".join(map(str, sorted(lengths)))
        raise DataError(f"{file}: it, its texts and its metadata have {rows} rows")
    nothing = [None] * len(images)
    return Part(
        images, told, paths, columns.get("caption", nothing), columns.get("sha256", nothing)
    )


def _columns(path: Path) -> dict[str, list[Any]]:
    parquet = import_parquet()
    try:
        with path.open("rb") as stream:
            file = parquet.ParquetFile(stream)
            names = [n for n in ("image_path", "caption", "sha256") if n in file.schema_arrow.names]
            return dict(file.read(columns=names).to_pydict())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as parquet: {error}") from error


def _matrix(path: Path) -> Matrix:
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as npy: {error}") from error
    if matrix.ndim != 2 or matrix.dtype not in (np.float16, np.float32):
        raise DataError(f"{path}: {matrix.dtype} {matrix.shape}, not fp16 or fp32 [N, D]")
    return matrix  # type: ignore[no-any-return]
