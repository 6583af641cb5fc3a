"""Writing described pictures: WebDataset shards, a parquet or a JSON-lines file.

Everything is written under a temporary name and put in its place by one rename when it is whole.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from rwkvsearch.data.descriptions.rows import to_row
from rwkvsearch.data.descriptions.store import SHARD_NAME
from rwkvsearch.data.descriptions.texts import KINDS, Described, Item
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.images import read_picture
from rwkvsearch.data.shards import add_member

_AS_THEY_ARE = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
_ROWS_AT_ONCE = 1000


def open_writer(target: Path, *, shard_size: int = 1000, sources: Iterable[Item] = ()) -> Writer:
    """What writes to `target`: a `.parquet`, a `.jsonl`, else a folder of shards.

    Raises:
        DataError: it cannot be written there, pyarrow is missing, or the folder is the one that a
            shard among `sources` lies in.
    """
    if target.suffix == ".jsonl":
        return JsonWriter(target)
    if target.suffix == ".parquet":
        return ParquetWriter(target)
    if target.suffix and not target.is_dir():
        raise DataError(f"{target}: describe writes a folder of shards, a .parquet or a .jsonl")
    shards = {item.image.path for item in sources if item.image.size is not None}
    if target.resolve() in {shard.resolve().parent for shard in shards}:
        raise DataError(f"{target}: the shards to describe lie here; name another folder with --to")
    return ShardWriter(target, shard_size)


class Writer(ABC):
    """Use it in a `with` statement: it publishes at the end, and cleans up after an exception."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self._part = target
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Publish, or clean up."""
        try:
            if kind is None:
                self.finish()
        except OSError as error:
            raise _unwritable(self.target, error) from error
        finally:
            self._discard()

    def add(self, item: Described) -> None:
        """Write one picture.

        Raises:
            DataError: the disk is full or the place cannot be written.
        """
        try:
            self.write(item)
        except OSError as error:
            raise _unwritable(self.target, error) from error

    @abstractmethod
    def write(self, item: Described) -> None:
        """Write one picture to the temporary file."""

    @abstractmethod
    def finish(self) -> None:
        """Put what was written in its place."""

    def _open(self, path: Path) -> BinaryIO:
        """A new temporary file beside `path`."""
        self._part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = self._part.open("ab")
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise DataError(f"{path}: another rwkvsearch is writing here; wait for it") from error
        file.truncate(0)
        self._file = file
        return file

    def _publish(self, path: Path) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(path)
        self._file = None

    def _discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            with suppress(OSError):
                self._part.unlink()


class JsonWriter(Writer):
    """One JSON object a line; `path` is relative to the file's folder."""

    def __init__(self, target: Path) -> None:
        super().__init__(target)
        self._out = self._open(target)

    def write(self, item: Described) -> None:
        """Write one line."""
        self._out.write(json.dumps(to_row(item, self.target.parent)).encode() + b"\n")

    def finish(self) -> None:
        """Put the file in its place."""
        self._publish(self.target)


class ParquetWriter(Writer):
    """One row a picture, texts and tags as lists of structs; `path` as in `JsonWriter`."""

    def __init__(self, target: Path) -> None:
        super().__init__(target)
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise DataError(
                f"{target}: pyarrow is not installed: pip install 'rwkvsearch[describe]', "
                "or write a .jsonl"
            ) from error
        self._table, self._schema = pyarrow.Table, _schema(pyarrow)
        self._rows: list[dict[str, Any]] = []
        self._parquet = parquet.ParquetWriter(self._open(target), self._schema)

    def write(self, item: Described) -> None:
        """Keep a row, and write a group of them now and then."""
        row = to_row(item, self.target.parent)
        if not (row["key"] + row["path"]).isascii():
            row = _in_utf8(row)
        self._rows.append(row)
        if len(self._rows) == _ROWS_AT_ONCE:
            self._write_group()

    def finish(self) -> None:
        """Write what is left and put the file in its place."""
        self._write_group()
        self._parquet.close()
        self._publish(self.target)

    def _discard(self) -> None:
        with suppress(Exception):  # it would write into a closed file when it is collected
            self._parquet.close()
        super()._discard()

    def _write_group(self) -> None:
        self._parquet.write_table(self._table.from_pylist(self._rows, self._schema))
        self._rows.clear()


class ShardWriter(Writer):
    """Tars of `key.jpg`, `key.json` (everything) and `key.txt` (one text, for other readers).

    Keys are numbers, because WebDataset keys hold no dots; the name within the set stands in the
    `.json`. Pictures are stored byte for byte, formats that WebDataset readers lack as JPEG. A
    picture that cannot be used has no member; its row stands in `errors.jsonl`.
    """

    def __init__(self, target: Path, shard_size: int) -> None:
        super().__init__(target)
        self._size, self._count, self._shards = shard_size, 0, 0
        self._tar: tarfile.TarFile | None = None
        self._errors: list[dict[str, Any]] = []

    def write(self, item: Described) -> None:
        """Add a sample; a shard that is full is put in its place at once."""
        if item.error is not None:
            self._errors.append(to_row(item, self.target))
        if not item.sayings:
            return
        if self._tar is None:
            self._tar = tarfile.open(
                fileobj=self._open(self.target / SHARD_NAME.format(self._shards)), mode="w"
            )
        key = f"{self._count:09}"
        content, suffix = _for_shard(item.read())
        self._member(key + suffix, content)
        self._member(f"{key}.json", json.dumps(to_row(item, None)).encode())
        best = next(kind for kind in reversed(KINDS) if kind in item.texts)
        self._member(f"{key}.txt", item.texts[best][0].encode("utf-8", "replace"))
        self._count += 1
        if self._count % self._size == 0:
            self._close_shard()

    def finish(self) -> None:
        """Close the last shard; shards of an earlier, longer run go."""
        self._close_shard()
        if not self._shards:
            raise DataError(f"{self.target}: nothing was described, so no shard was written")
        for path in self.target.glob("descriptions-*.tar"):
            if path.name >= SHARD_NAME.format(self._shards):
                path.unlink()
        errors = self.target / "errors.jsonl"
        if self._errors:
            self._open(errors).writelines(json.dumps(r).encode() + b"\n" for r in self._errors)
            self._publish(errors)
        else:
            errors.unlink(missing_ok=True)

    def _member(self, name: str, content: bytes) -> None:
        assert self._tar is not None
        add_member(self._tar, name, content)

    def _close_shard(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None
            self._publish(self.target / SHARD_NAME.format(self._shards))
            self._shards += 1


def _for_shard(content: bytes) -> tuple[bytes, str]:
    picture = read_picture(io.BytesIO(content))
    if picture.format in _AS_THEY_ARE:
        return content, _AS_THEY_ARE[picture.format]
    out = io.BytesIO()
    picture.image.save(out, "JPEG", quality=95)
    return out.getvalue(), ".jpg"


def _in_utf8(row: dict[str, Any]) -> dict[str, Any]:
    """The row, or where its names are not UTF-8, which parquet needs, one that says so."""
    try:
        (row["key"] + row["path"]).encode()
    except UnicodeEncodeError:
        names = {name: ascii(row[name])[1:-1] for name in ("key", "path")}
        return row | names | {"texts": [], "error": "file name is not UTF-8: write a .jsonl"}
    return row


def _schema(pyarrow: Any) -> Any:
    text, number = pyarrow.string(), pyarrow.float64()
    names = ("kind", "text", "provider", "model")
    saying = [*((name, text) for name in names), ("confidence", number), ("prompt", text)]
    tag = [("name", text), ("confidence", number), ("count", pyarrow.int32())]
    return pyarrow.schema(
        [
            ("key", text),
            ("path", text),
            ("offset", pyarrow.int64()),
            ("size", pyarrow.int64()),
            ("sha256", text),
            ("texts", pyarrow.list_(pyarrow.struct(saying))),
            ("tags", pyarrow.list_(pyarrow.struct(tag))),
            ("colours", pyarrow.list_(text)),
            ("light", text),
            ("error", text),
        ]
    )


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be written: {error.strerror or error}")
