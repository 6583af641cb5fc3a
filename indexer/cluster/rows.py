"""What a mirror holds of each image beside its embedding, read from the library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from sqlalchemy import func, select

from rwkvsearch.indexer.blocks import Ids
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.tables import EmbeddingRow, ImageRow

FIELDS: Final[dict[str, type]] = {
    "id": int,
    "generation": int,
    "stamp": int,
    "width": int,
    "height": int,
    "pixels": int,
    "turned": int,
    "format": str,
    "taken_at": str,
    "latitude": float,
    "longitude": float,
}
"""The columns: image id, embedding id, what all that follows comes to, and what filters ask of."""

TEXTS: Final = {"format": 64, "taken_at": 64}
"""The texts, and how many bytes fit."""
INDEXED: Final = ("taken_at",)
"""What Milvus keeps an index of, for filters."""
NOWHERE: Final = 999.0
"""The latitude and longitude of an image that says none."""

_IMAGES, _EMBEDDINGS = ImageRow.__table__.c, EmbeddingRow.__table__.c
_READ = [
    _IMAGES[name]
    for name in (
        *("content_hash", "width", "height", "format"),
        *("taken_at", "latitude", "longitude"),
    )
]


@dataclass(frozen=True)
class Window:
    """The images of a model with `after < id <= upto`: `ids`, `generations`, `stamps` all `[m]`."""

    after: int
    upto: int
    ids: Ids
    generations: Ids
    stamps: Ids
    rows: list[dict[str, Any]]


def windows(
    library: Library, model: ModelInfo, newest: int, dead: Ids, size: int
) -> Iterator[Window]:
    """What a mirror has to hold, by `size` image ids at a time, however many there are.

    That is every embedding with an id up to `newest`, but for the images `dead`.
    """
    of_model = (_EMBEDDINGS.model + 0 == model.key, _EMBEDDINGS.id <= newest)
    with library.read() as session:
        last = session.scalar(select(func.max(_EMBEDDINGS.image_id)).where(*of_model)) or 0
    asked = select(_EMBEDDINGS.image_id, _EMBEDDINGS.id, *_READ).join_from(
        EmbeddingRow, ImageRow, _EMBEDDINGS.image_id == _IMAGES.id
    )
    for after in range(0, last, size):
        inside = (_EMBEDDINGS.image_id > after, _EMBEDDINGS.image_id <= after + size)
        with library.read() as session:
            found = session.connection().execute(
                asked.where(*of_model, *inside).order_by(_EMBEDDINGS.image_id)
            )
            rows = [_row(*values) for values in found]
        first, end = np.searchsorted(dead, [after + 1, after + size + 1])
        gone = set(dead[first:end].tolist())
        rows = [row for row in rows if row["id"] not in gone]
        columns = [[row[name] for row in rows] for name in ("id", "generation", "stamp")]
        ids, generations, stamps = (np.array(column, np.int64) for column in columns)
        yield Window(after, after + size, ids, generations, stamps, rows)


def fitting(text: str, name: str) -> str:
    """As much of a text as fits into its column."""
    return text.encode("utf-8", "replace")[: TEXTS[name]].decode("utf-8", "ignore")


def _row(
    image_id: int,
    generation: int,
    content_hash: str,
    width: int,
    height: int,
    kind: str,
    taken_at: str | None,
    latitude: float | None,
    longitude: float | None,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": image_id,
        "generation": generation,
        "width": width,
        "height": height,
        "pixels": width * height,
        "turned": (width > height) - (width < height),
        "format": fitting(kind, "format"),
        "taken_at": fitting(taken_at or "", "taken_at"),
        "latitude": NOWHERE if latitude is None else latitude,
        "longitude": NOWHERE if longitude is None else longitude,
    }
    return row | {"stamp": number_of(content_hash, *row.values())}


def number_of(*values: object) -> int:
    """63 bits that stand for these values."""
    digest = blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
