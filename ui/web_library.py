"""A large library to measure a server with: real files, embeddings near those of real pictures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sqlalchemy import insert

from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.blocks import BLOCK
from rwkvsearch.indexer.found import Stat
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.tables import EmbeddingRow, FileRow, ImageRow, ModelRow, RootRow

_A_FOLDER = 1_000
_NOISE = 0.5
"""Length of the noise beside an embedding of length 1."""


def enlarge(source: Path, folder: Path, rows: int, pictures: Sequence[Path]) -> Path:
    """Make a library of `rows` images in `folder`, unless it is there; return where it is.

    Its embeddings are those of the library `source` with noise. Its files are `pictures` over and
    over, as hard links under other names; each counts as a content of its own, so each has a
    thumbnail of its own.
    """
    home = folder / "library"
    if home.exists():
        return home
    (folder / "pictures").mkdir(parents=True)
    with Library.open(source) as known:
        model = known.models()[0]
        _, embeddings = known.embeddings(model.model_id, model.preprocessing_id)
    with Library.create(home) as library:
        with library.write() as session:
            root = RootRow(path=(folder / "pictures").resolve(), synced_at=0.0)
            names = ("model_id", "preprocessing_id", "dim", "weights_sha256")
            same = {name: getattr(model, name) for name in names}
            row = ModelRow(**same, created_at=0.0)
            session.add_all([root, row])
            session.flush()
            keys = root.id, row.id
        known_sizes = [_size(path) for path in pictures]
        random = np.random.default_rng(0)
        for first in range(1, rows + 1, BLOCK):
            ids = range(first, min(first + BLOCK, rows + 1))
            chosen = embeddings[random.integers(0, len(embeddings), len(ids))].astype(np.float32)
            noise = random.standard_normal(chosen.shape, np.float32) / chosen.shape[1] ** 0.5
            vectors = chosen + _NOISE * noise
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            paths = [_linked(folder / "pictures", i, pictures[i % len(pictures)]) for i in ids]
            sizes = [known_sizes[i % len(pictures)] for i in ids]
            _enter(library, keys, ids, paths, sizes, [v.astype("<f2").tobytes() for v in vectors])
        made: ModelInfo = library.models()[0]
        publish(library, made)
    return home


def _enter(
    library: Library,
    keys: tuple[int, int],
    ids: Sequence[int],
    paths: Sequence[Path],
    sizes: Sequence[tuple[int, int]],
    embeddings: Sequence[bytes],
) -> None:
    root, model = keys
    images, files, vectors = [], [], []
    for i, path, (width, height), data in zip(ids, paths, sizes, embeddings, strict=True):
        content = hashlib.sha256(f"{i}".encode()).hexdigest()
        shape = {"width": width, "height": height, "format": "JPEG"}
        images.append({"id": i, "content_hash": content, **shape})
        stat = Stat.of(path.stat())._asdict()
        name = path.relative_to(path.parents[1])
        files.append({"image_id": i, "root_id": root, "path": name, **stat})
        vectors.append({"image_id": i, "model": model, "data": data})
    with library.write() as session:
        session.execute(insert(ImageRow), images)
        session.execute(insert(FileRow), files)
        session.execute(insert(EmbeddingRow), vectors)


def _linked(folder: Path, number: int, picture: Path) -> Path:
    path = folder / f"{number // _A_FOLDER:04}" / f"{number:07}.jpg"
    path.parent.mkdir(exist_ok=True)
    os.link(picture, path)
    return path


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size
