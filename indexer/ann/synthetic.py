"""Made-up embeddings in clusters, and libraries of them: for measurements, never for search.

Image-like: a cluster's centre plus noise, with axes of falling strength and a common mean, as
embeddings of CLIP models have. Text-like: the same, further from the centres and moved aside (the
modality gap).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sqlalchemy import insert, select

from rwkvsearch.indexer.blocks import BLOCK, Floats
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.tables import (
    EmbeddingRow,
    FileRow,
    ImageRow,
    ModelRow,
    RootRow,
    TextEmbeddingRow,
    TextRow,
)

MODEL, PREPROCESSING = "synthetic", "none"
TEXT_PART = 2**40  # no image part


class Synthetic:
    """Unit embeddings of `dim` numbers in `clusters` clusters, the same ones for the same seed."""

    def __init__(self, dim: int = 640, clusters: int = 2000, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        scale = np.arange(1, dim + 1, dtype=np.float32) ** -0.5
        self.scale = scale / np.linalg.norm(scale)
        self.centres = rng.standard_normal((clusters, dim), np.float32)
        self.mean = 0.7 * rng.standard_normal(dim, np.float32) * self.scale
        self.gap = 0.8 * _unit(rng.standard_normal((1, dim), np.float32))
        self.seed = seed

    def images(self, number: int, part: int = 0) -> Floats:
        """`number` embeddings `[number, D]`, others for each `part`."""
        return _unit(self.mean + self._latent(number, part, 0.8) * self.scale)

    def texts(self, number: int, part: int = 0) -> Floats:
        """`number` queries `[number, D]` on the far side of the modality gap."""
        return _unit(self.mean + self._latent(number, part, 0.95) * self.scale + self.gap)

    def _latent(self, number: int, part: int, noise: float) -> Floats:
        rng = np.random.default_rng((self.seed, part))
        centres = self.centres[rng.integers(0, len(self.centres), number)]
        return centres + noise * rng.standard_normal(centres.shape, np.float32)


def fill(library: Library, source: Synthetic, rows: int, texts: int = 0) -> ModelInfo:
    """Enter `rows` images, each with a file, and the embeddings of `texts` texts."""
    root_id, key = enter_model(library, source.centres.shape[1])
    for first, embeddings in _parts(source, rows):
        enter_images(library, root_id, key, first, embeddings)
    with library.write() as session:
        for number, row in enumerate(source.texts(texts, TEXT_PART).astype("<f2"), 1):
            session.execute(insert(TextRow), {"id": number, "text": f"text {number}"})
            named = {"text_id": number, "model": key, "data": row.tobytes()}
            session.execute(insert(TextEmbeddingRow), named)
    return library.model(MODEL, PREPROCESSING)


def enter_model(library: Library, dim: int) -> tuple[int, int]:
    """Enter a root and a model of `dim` numbers; their keys, for `enter_images`."""
    with library.write() as session:
        root = RootRow(path=library.path / "pictures", synced_at=time.time())
        model = ModelRow(
            model_id=MODEL,
            preprocessing_id=PREPROCESSING,
            dim=dim,
            weights_sha256="0" * 64,
            created_at=time.time(),
        )
        session.add_all([root, model])
        session.flush()
        return root.id, model.id


def enter_images(library: Library, root_id: int, key: int, first: int, embeddings: Floats) -> None:
    """Enter embeddings `[m, D]` of the model `key` as images with the ids from `first` on."""
    halves = embeddings.astype("<f2")
    ids = range(first, first + len(halves))
    size = {"width": 1, "height": 1, "format": "PNG"}
    stat = {"root_id": root_id, "size": 1, "mtime_ns": 0}
    with library.write() as session:
        session.execute(
            insert(ImageRow), [{"id": i, "content_hash": f"{i:064x}", **size} for i in ids]
        )
        session.execute(
            insert(FileRow),
            [{"image_id": i, "path": Path(f"{i}.png"), "inode": i, **stat} for i in ids],
        )
        session.execute(
            insert(EmbeddingRow),
            [
                {"image_id": i, "model": key, "data": row.tobytes()}
                for i, row in zip(ids, halves, strict=True)
            ],
        )


def root_of(library: Library) -> int:
    """The id of the one root of a library that `fill` has made."""
    with library.read() as session:
        return session.scalars(select(RootRow.id)).one()


def _parts(source: Synthetic, rows: int) -> Iterator[tuple[int, Floats]]:
    for start in range(0, rows, BLOCK):
        yield start + 1, source.images(min(BLOCK, rows - start), start)


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
