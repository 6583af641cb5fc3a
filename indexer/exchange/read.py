"""Embeddings that others made, into a library."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.errors import DataError, ModelError
from rwkvsearch.data.remote import shown
from rwkvsearch.indexer.clock import Clock
from rwkvsearch.indexer.entries import KnownContent, known_contents
from rwkvsearch.indexer.exchange.layout import Matrix, Origin, Part, read_origin, read_parts
from rwkvsearch.indexer.found import Found
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.pipeline import Stored, usable_cores
from rwkvsearch.indexer.prepare import Preparation, Prepared
from rwkvsearch.indexer.protocols import ImageEncoder, Progress, SyncReport
from rwkvsearch.indexer.room import Room, default_room
from rwkvsearch.indexer.store import store_new
from rwkvsearch.indexer.sync import SyncOptions, sync

_UNKNOWN_WEIGHTS = "0" * 64


@dataclass(frozen=True)
class Imported:
    """What an import did: of `rows` embeddings, those in `found` belong to a picture now."""

    origin: Origin
    rows: int
    found: int
    report: SyncReport


@dataclass
class Given:
    """Embeddings in a folder, by the path, the key or the content of a picture."""

    folder: Path
    origin: Origin
    parts: list[Part]
    by_name: dict[str, tuple[int, int]] = field(default_factory=dict)
    by_hash: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, name: str | None) -> Self:
        """What is in a folder; `name` is the id of the model unless the folder says it.

        Raises:
            DataError: the folder is not as it should be.
            ModelError: no model is named, or another than the folder says.
        """
        parts = list(read_parts(folder))
        return cls(folder, _origin(folder, parts, name), parts)

    def __post_init__(self) -> None:
        """Look up which row is whose."""
        for at, part in enumerate(self.parts):
            for row, (path, key) in enumerate(zip(part.paths, part.hashes, strict=True)):
                if key is None:
                    self.by_name[path] = (at, row)
                else:  # what lies at the path now may be another picture
                    self.by_hash[key] = (at, row)

    def of(self, item: Prepared) -> bytes | None:
        """fp16 bytes of a picture's embedding; None where there is none."""
        at = self.by_hash.get(item.content_hash)
        for name in _names(item.found):
            at = at or self.by_name.get(name)
        return None if at is None else _half(self.parts[at[0]].images, at[1])


class GivenEncoder:
    """Stands for a model that is not here: it has no embedding but those that were given."""

    image_size = 64  # pixels; how far a picture is decoded, which is only for its hash here

    def __init__(self, given: Given) -> None:
        self.model_id = given.origin.model_id
        self.preprocessing_id = given.origin.preprocessing_id
        self.weights_sha256 = given.origin.weights_sha256
        self.dim = given.origin.dim

    def preprocess(self, image: Image.Image) -> NDArray[np.float32]:
        """Nothing is encoded, so nothing is prepared."""
        return np.zeros((3, 1, 1), np.float32)

    def encode_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Not here."""
        raise ModelError(f"{self.model_id} is not installed")

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Not here."""
        raise ModelError(f"{self.model_id} is not installed")


def read_embeddings(
    library: Library,
    given: Given,
    pictures: Sequence[Path],
    options: SyncOptions,
    progress: Progress | None = None,
) -> Imported:
    """Bring pictures into a library with embeddings that were given for them.

    `pictures` are folders, files or shards that hold them, none for the paths that the metadata
    name. A picture is known by its content where the metadata tell it, else by its path, as it is
    or relative to what was named, or by its key in a shard. Pictures without an embedding stay out.

    Raises:
        DataError: none of the pictures are there.
        LibraryError: as `sync`, or other weights under the same id.
    """
    roots = [*pictures] or _named(given)
    found: set[str] = set()

    def embedding(
        library: Library,
        model: ModelInfo,
        encoder: ImageEncoder,
        options: SyncOptions,
        clock: Clock,
    ) -> _Attach:
        return _Attach(library, model, encoder, options, clock, given, found)

    report = sync(
        library,
        roots,
        GivenEncoder(given),
        replace(options, texts=False),
        progress=progress,
        embedding=embedding,
    )
    return Imported(given.origin, sum(len(part.paths) for part in given.parts), len(found), report)


@dataclass(frozen=True)
class _Attach:
    """As `indexer.pipeline.Pipeline`, with embeddings that are there already."""

    library: Library
    model: ModelInfo
    encoder: ImageEncoder
    options: SyncOptions
    clock: Clock
    given: Given
    found: set[str]

    def run(self, pending: Sequence[Found]) -> Generator[Stored, None, None]:
        """Yield each batch once it is committed, without the files that have no embedding."""
        threads = self.options.workers or min(8, usable_cores())
        room, limits = Room(default_room()), self.options.limits
        prepare = Preparation(self._known, self.encoder, limits, self.clock, threads, room)
        size = self.options.batch_size
        with self.clock.time("pipeline"), ThreadPoolExecutor(threads, "decode") as pool:
            for start in range(0, len(pending), size):
                batch = list(pool.map(prepare, pending[start : start + size]))
                yield self._store(batch)

    def _known(self, content_hash: str) -> KnownContent | None:
        with self.library.read() as session:
            known = known_contents(session, self.model, [content_hash]).get(content_hash)
        return known and replace(known, embedded=True)

    def _store(self, batch: list[Prepared]) -> Stored:
        kept, embeddings = [], {}
        for item in batch:
            data = self.given.of(item) if item.error is None else b""
            if data:
                embeddings[item.content_hash] = data
            if data is not None:
                kept.append(replace(item, pixels=None))
        self.found.update(embeddings)
        with self.clock.time("write"):
            new = self.library.writing(
                lambda session: store_new(session, self.model, kept, embeddings)
            )
        self.clock.files += len(kept)
        return Stored(kept, new)


def _origin(folder: Path, parts: Sequence[Part], name: str | None) -> Origin:
    dims = {part.images.shape[1] for part in parts}
    if len(dims) > 1:
        raise DataError(f"{folder}: embeddings of several lengths: {sorted(dims)}")
    said = read_origin(folder)
    if said is not None:
        if name not in (None, said.model_id):
            raise ModelError(f"{folder} holds embeddings of {said.model_id}, not of {name}")
        if dims != {said.dim}:
            raise DataError(f"{folder}: embeddings of length {dims.pop()}, not {said.dim}")
        return said
    if name is None:
        raise ModelError(f"{folder} does not say which model made it: name it with --model")
    return Origin(name, "imported", _UNKNOWN_WEIGHTS, dims.pop())


def _named(given: Given) -> list[Path]:
    """The pictures at the paths that the metadata name, as they are or seen from the folder."""
    found = []
    for part in given.parts:
        for name in part.paths:
            places = (Path(name), given.folder / name)
            found += [place for place in places if place.is_file()][:1]
    if not found:
        raise DataError(
            f"{given.folder}: none of the pictures is where {given.parts[0].paths[:1]} says: "
            "name the folders or shards that hold them"
        )
    return found


def _names(found: Found) -> list[str]:
    """What the metadata may call a file, the surest first."""
    key = found.name.rpartition("/")[2].partition(".")[0]
    below = [found.name.partition(".")[0], key] if found.shard else []
    return [shown(found.path), str(found.path), found.name, *below]


def _half(matrix: Matrix, row: int) -> bytes:
    """A row as it is stored: of unit length, fp16; nothing for one that cannot be."""
    values = np.asarray(matrix[row], np.float32)
    norm = float(np.linalg.norm(values))
    return (values / norm).astype("<f2").tobytes() if 0 < norm < np.inf else b""
