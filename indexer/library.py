"""A library: what one person or one team has indexed, opened as one thing.

The truth is `library.sqlite` in a folder, or a PostgreSQL database. What is derived from it lies in
a folder either way: `path`.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import LargeBinary, exists, func, select, type_coerce
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.data.files import open_file
from rwkvsearch.data.members import read_member
from rwkvsearch.data.remote import is_remote, open_binary
from rwkvsearch.indexer.address import Address, Place, folder_of, whole
from rwkvsearch.indexer.databases import Database, create_database, open_database
from rwkvsearch.indexer.stats import LibraryStats, read_stats
from rwkvsearch.indexer.tables import EmbeddingRow, FileRow, ModelRow, RootRow

_CHUNK = 10_000  # values in one IN (...); SQLite's limit is 32,766

_PAUSES = (0.05, 0.2, 1.0, 3.0)  # seconds

T = TypeVar("T")

_PATHS = (
    select(
        FileRow.image_id,
        type_coerce(RootRow.path, LargeBinary),
        type_coerce(FileRow.path, LargeBinary),
    )
    .join(RootRow, RootRow.id == FileRow.root_id)
    .where(FileRow.gone_at.is_(None))
)
IS_LIVE = exists().where(FileRow.image_id == EmbeddingRow.image_id, FileRow.gone_at.is_(None))


@dataclass(frozen=True)
class ModelInfo:
    """A model in a library; `embeddings` counts all of its rows, live or not."""

    key: int
    model_id: str
    preprocessing_id: str
    dim: int
    weights_sha256: str
    embeddings: int


class Library:
    """An open library; close it, or use it in a `with` statement. Safe to share among threads."""

    def __init__(self, place: Place, database: Database) -> None:
        """Use `Library.open` or `Library.create`."""
        self.place = whole(place)
        self.path = folder_of(place)
        self._database = database
        if self.path != self.place:
            with suppress(OSError):  # what is derived is then made anew each time
                self.path.mkdir(parents=True, exist_ok=True)

    @classmethod
    def open(cls, place: Place) -> Self:
        """The library at a place, read-only if it is a folder that cannot be written.

        Raises:
            LibraryError: there is none, it is damaged or not reached, or a newer version made it.
        """
        return cls(place, open_database(whole(place)))

    @classmethod
    def create(cls, place: Place) -> Self:
        """The library at a place, made if there is none yet.

        Raises:
            LibraryError: it cannot be made there, or what is there cannot be opened.
        """
        return cls(place, create_database(whole(place)))

    @property
    def name(self) -> str:
        """What a person is told: the folder, or the address."""
        return str(self.place)

    @property
    def is_shared(self) -> bool:
        """Whether it lies in a database that searches by itself, not in a folder."""
        return isinstance(self.place, Address)

    @property
    def is_writable(self) -> bool:
        """Whether this process may write, as far as can be told without trying."""
        return self._database.is_writable()

    def close(self) -> None:
        """Close every connection."""
        self._database.engine.dispose()

    def __enter__(self) -> Self:
        """The library itself."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the library from its first query on."""
        with self._database.errors(), Session(self._database.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, undone when it raises."""
        with self._database.errors(), Session(self._database.writing) as session:
            with session.begin():
                yield session

    def writing(self, do: Callable[[Session], T]) -> T:
        """What `do` returns for a session of one transaction; it may be called more than once.

        It is, when another writer of the same rows was first, or the two waited for each other.
        """
        for pause in _PAUSES:
            try:
                with self.write() as session:
                    return do(session)
            except LibraryBusy:
                time.sleep(pause)
        with self.write() as session:
            return do(session)

    def writer(self, only: Sequence[Path] | None = None) -> AbstractContextManager[None]:
        """Be the one process that writes, until the block ends or the process dies.

        With `only`, absolute paths, others may write what lies elsewhere, if the database allows
        more than one writer: PostgreSQL does.

        Raises:
            LibraryBusy: another one is writing.
            LibraryError: the library cannot be written.
        """
        return self._database.writer(only)

    def models(self) -> list[ModelInfo]:
        """The models that have made embeddings here, oldest first."""
        with self.read() as session:
            own = EmbeddingRow.model == ModelRow.id
            count = select(func.count()).where(own).correlate(ModelRow).scalar_subquery()
            rows = session.execute(
                select(ModelRow, count).where(exists().where(own)).order_by(ModelRow.id)
            )
            return [
                ModelInfo(m.id, m.model_id, m.preprocessing_id, m.dim, m.weights_sha256, number)
                for m, number in rows
            ]

    def model(self, model_id: str, preprocessing_id: str) -> ModelInfo:
        """The model asked for.

        Raises:
            LibraryError: it has no embeddings here; names those that have.
        """
        present = self.models()
        for model in present:
            if (model.model_id, model.preprocessing_id) == (model_id, preprocessing_id):
                return model
        if not present:
            raise LibraryError(
                f"the library at {self.name} is empty; fill it with `rwkvsearch index PATH`"
            )
        same = any(model.model_id == model_id for model in present)
        names = [f"{m.model_id} ({m.preprocessing_id})" if same else m.model_id for m in present]
        asked = f"{model_id} ({preprocessing_id})" if same else model_id
        raise LibraryError(
            f"this library was indexed with {', '.join(names)}, not with {asked}: "
            f"run `rwkvsearch index` with the model you want, or choose another with --model"
        )

    def embeddings(
        self, model_id: str, preprocessing_id: str
    ) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Image ids `[M]`, ascending, and embeddings `[M, D]` of the images with a live file.

        Raises:
            LibraryError: the model has no embeddings here.
        """
        model = self.model(model_id, preprocessing_id)
        with self.read() as session:
            rows = session.execute(
                select(EmbeddingRow.image_id, EmbeddingRow.data)
                .where(EmbeddingRow.model == model.key, IS_LIVE)
                .order_by(EmbeddingRow.image_id)
            ).all()
        return self.unpack([(row[0], row[1]) for row in rows], model.dim)

    def embeddings_of(
        self, model: ModelInfo, image_ids: Sequence[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Ids `[m]`, ascending, and embeddings `[m, D]` of those of `image_ids` that have one."""
        rows: list[tuple[int, bytes]] = []
        with self.read() as session:
            for ids in chunks(image_ids):
                found = session.execute(
                    select(EmbeddingRow.image_id, EmbeddingRow.data).where(
                        EmbeddingRow.model == model.key, EmbeddingRow.image_id.in_(ids)
                    )
                )
                rows.extend((row[0], row[1]) for row in found)
        return self.unpack(sorted(rows), model.dim)

    def unpack(
        self, rows: list[tuple[int, bytes]], dim: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Rows of (image id, fp16 bytes) as arrays `[m]` and `[m, dim]`."""
        packed = b"".join(data for _, data in rows)
        if len(packed) != 2 * dim * len(rows):
            raise LibraryError(f"{self.name}: an embedding has the wrong length; index again")
        ids = np.array([image_id for image_id, _ in rows], np.int64)
        return ids, np.frombuffer(packed, "<f2").astype(np.float16, copy=False).reshape(-1, dim)

    def paths_of(self, image_ids: Sequence[int]) -> dict[int, list[Path]]:
        """The absolute paths of each image, sorted; an image without a live file is left out."""
        paths: dict[int, list[Path]] = {}
        with self.read() as session:
            for ids in chunks(image_ids):
                rows = session.connection().execute(_PATHS.where(FileRow.image_id.in_(ids)))
                for image_id, root, path in rows:
                    whole = os.fsdecode(root.rstrip(b"/") + b"/" + path)  # parsed once, not thrice
                    if image_id is not None:
                        paths.setdefault(image_id, []).append(Path(whole))
        return {image_id: sorted(found) for image_id, found in sorted(paths.items())}

    def open_image(self, image_id: int) -> BinaryIO:
        """The bytes of an image, out of the first of its files that can be read, or its shard.

        Raises:
            LibraryError: none of them can be read now.
        """
        with self.read() as session:
            rows = session.execute(
                select(RootRow.path, FileRow.path, FileRow.offset, FileRow.size)
                .join(RootRow, RootRow.id == FileRow.root_id)
                .where(FileRow.image_id == image_id, FileRow.gone_at.is_(None))
            ).all()
        for root, path, offset, size in rows:
            with suppress(OSError):
                if offset is None:
                    place = root / path
                    return open_binary(place) if is_remote(place) else open_file(place)
                return io.BytesIO(read_member(root, offset, size))
        names = ", ".join(str(root / path) for root, path, *_ in rows) or f"image {image_id}"
        raise LibraryError(
            f"{names}: cannot be read now; `rwkvsearch index` brings the library up to date"
        )

    def folders(self) -> list[Path]:
        """The folders that were indexed."""
        with self.read() as session:
            of_kind = select(RootRow.path).where(RootRow.kind == "folder")
            return sorted(session.scalars(of_kind))

    def stats(self) -> LibraryStats:
        """Counts, roots, models and bytes on disk."""
        with self.read() as session:
            return read_stats(session, self.path, self.models())


def chunks(numbers: Sequence[int]) -> Iterator[list[int]]:
    """`numbers` as plain ints, in parts that fit into one IN (...)."""
    ids = [int(number) for number in numbers]
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
