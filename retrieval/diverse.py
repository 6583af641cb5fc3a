"""Of pictures that look nearly the same, only the first: one frame of a burst, one of the copies.

Two pictures are nearly the same if they are copies (their perceptual hashes agree), the same scene
again (hashes and embeddings are near), or taken within seconds and alike in hash or embedding.
`docs/querying.md` has the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from rwkvsearch.data.perceptual import hamming
from rwkvsearch.indexer.library import Library, ModelInfo, chunks
from rwkvsearch.indexer.tables import EmbeddingRow, ImageRow

COPY_BITS = 8
SCENE_BITS, SCENE_SCORE = 14, 0.9
BURST_SECONDS, BURST_BITS, BURST_SCORE = 10.0, 16, 0.7


class Looks(NamedTuple):
    """What tells pictures apart: `hashes` `[N]`, where `hashed` `[N]`, unit `embeddings` `[N, D]`.

    `seconds` `[N]` is when they were taken, not a number where that is not known.
    """

    hashes: NDArray[np.int64]
    hashed: NDArray[np.bool_]
    embeddings: NDArray[np.float32]
    seconds: NDArray[np.float64]

    def nearly_same(self, one: int) -> NDArray[np.bool_]:
        """Whether each picture `[N]` is nearly the same as `one`, itself among them."""
        far = np.where(self.hashed & self.hashed[one], hamming(self.hashes, self.hashes[one]), 64)
        scores = self.embeddings @ self.embeddings[one]
        apart = np.abs(self.seconds - self.seconds[one])  # not a number is not within any limit
        scene = (far <= SCENE_BITS) & (scores >= SCENE_SCORE)
        burst = (apart <= BURST_SECONDS) & ((far <= BURST_BITS) | (scores >= BURST_SCORE))
        same: NDArray[np.bool_] = (far <= COPY_BITS) | scene | burst
        same[one] = True
        return same


def distinct(looks: Looks) -> list[int]:
    """Return which pictures are nearly the same as none that is kept before them.

    Those that are nearly the same as a kept one do not count: a long burst is one picture as far as
    it is like its first frame.
    """
    free = np.ones(len(looks.hashes), np.bool_)
    found = []
    for one in range(len(free)):
        if free[one]:
            free &= ~looks.nearly_same(one)
            found.append(one)
    return found


def distinct_images(library: Library, model: ModelInfo, ids: Sequence[int]) -> list[int]:
    """Return those of `ids`, in their order, that are nearly the same as none kept before.

    `model` made the embeddings that are compared; an image without one is always kept.
    """
    return [ids[at] for at in distinct(read_looks(library, model, ids))]


def read_looks(library: Library, model: ModelInfo, ids: Sequence[int]) -> Looks:
    """Read the looks of images, in the order of `ids`; no embedding is nowhere near another."""
    place = {image_id: at for at, image_id in enumerate(ids)}
    hashes, hashed = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.bool_)
    embeddings = np.zeros((len(ids), model.dim), np.float32)
    seconds = np.full(len(ids), np.nan)
    for image_id, phash, taken_at, data in _rows(library, model, ids):
        at = place[image_id]
        hashed[at] = phash is not None
        hashes[at] = phash or 0
        seconds[at] = _seconds(taken_at)
        embedding = library.unpack([(image_id, data)], model.dim)[1][0].astype(np.float32)
        embeddings[at] = embedding / np.linalg.norm(embedding)
    return Looks(hashes, hashed, embeddings, seconds)


def _rows(
    library: Library, model: ModelInfo, ids: Sequence[int]
) -> Iterable[tuple[int, int | None, str | None, bytes]]:
    columns = (ImageRow.id, ImageRow.perceptual_hash, ImageRow.taken_at, EmbeddingRow.data)
    with library.read() as session:
        for part in chunks(ids):
            found = session.execute(
                select(*columns)
                .join(EmbeddingRow, EmbeddingRow.image_id == ImageRow.id)
                .where(EmbeddingRow.model == model.key, ImageRow.id.in_(part))
            )
            yield from ((one, phash, taken, data) for one, phash, taken, data in found)


def _seconds(taken_at: str | None) -> float:
    """Seconds since a fixed moment; not a number without a time of day."""
    try:
        moment = datetime.fromisoformat(taken_at or "")
    except ValueError:
        return float("nan")
    naive = moment.replace(tzinfo=None)
    return (naive - datetime(1970, 1, 1)).total_seconds() if len(taken_at or "") > 10 else np.nan
