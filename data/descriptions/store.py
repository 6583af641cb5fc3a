"""Reading what `rwkvsearch describe` wrote.

for item in load_descriptions(Path("described/")):
    item.read()              # the undecoded bytes of the picture
    item.texts["generated"]  # a tuple of texts; kinds that are missing are not there
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rwkvsearch.data.descriptions.rows import from_row
from rwkvsearch.data.descriptions.tars import read_samples
from rwkvsearch.data.descriptions.texts import Described
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.shards import find_shards

SHARD_NAME = "descriptions-{:05}.tar"
"""How `describe` calls its shards."""


def load_descriptions(path: Path | str) -> list[Described]:
    """Every picture that has a text, from a folder of shards, a `.tar`, a `.parquet` or a `.jsonl`.

    Pictures are not read before `read()` is called; a picture that could not be described at all
    is left out. `texts` maps `raw`, `synthetic` and `generated` to at least one text each.

    Raises:
        DataError: nothing there, not written by `describe`, damaged, or pyarrow is missing.
    """
    return [item for item in iterate_descriptions(path) if item.sayings]


def iterate_descriptions(path: Path | str) -> Iterator[Described]:
    """Every row, also those of pictures that could not be used; see `load_descriptions`."""
    path = Path(path)
    if path.suffix == ".parquet":
        rows = _parquet_rows(path)
    elif path.suffix == ".jsonl":
        rows = _json_rows(path)
    else:
        yield from _from_shards(path)
        return
    for number, row in enumerate(rows, 1):
        yield from_row(row, f"{path}: row {number}", home=path.parent)


def _from_shards(path: Path) -> Iterator[Described]:
    ours = sorted(path.glob("descriptions-*.tar")) if path.is_dir() else []
    for shard in ours or find_shards(path):
        for key, sample in read_samples(shard).items():
            where = f"{shard}: {key}.json"
            yield from_row(sample.read_notes(), where, home=shard.parent, image=sample.image)


def _json_rows(path: Path) -> Iterator[Any]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield _parsed(line, f"{path}: line {number}")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8") from error


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}") from error


def _parquet_rows(path: Path) -> Iterator[Any]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError(
            f"{path}: pyarrow is not installed: pip install 'rwkvsearch[describe]', or use .jsonl"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read: {reason}") from error
