"""What scores are usual in a library: a fixed sample of its images to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, select, text

from rwkvsearch.indexer.dialects import is_postgresql
from rwkvsearch.indexer.library import IS_LIVE, Library, ModelInfo
from rwkvsearch.indexer.tables import EmbeddingRow, ImageRow

SAMPLE = 1_000

# The index on content_hash gives the order, so no more is read than is taken.
_SAMPLE = text("""
    SELECT e.image_id, e.data FROM images AS i INDEXED BY sqlite_autoindex_images_1
    CROSS JOIN embeddings AS e ON e.image_id = i.id AND e.model + 0 = :model
    WHERE EXISTS (SELECT 1 FROM files AS f WHERE f.image_id = i.id AND f.gone_at IS NULL)
    ORDER BY i.content_hash LIMIT :most
""")
_TEAM_SAMPLE = (
    select(EmbeddingRow.image_id, EmbeddingRow.data)
    .join(ImageRow, ImageRow.id == EmbeddingRow.image_id)
    .where(EmbeddingRow.model == bindparam("model"), IS_LIVE)
    .order_by(ImageRow.content_hash)
    .limit(bindparam("most"))
)


@dataclass(frozen=True)
class Background:
    """A sample of a library's live images: those with the smallest content hashes.

    So it is random, but the same for the same pictures in any order, and it changes little when
    pictures come and go.
    """

    ids: NDArray[np.int64]
    """`[n]`."""
    embeddings: NDArray[np.float32]
    """`[n, D]`, of length 1."""

    @classmethod
    def read(cls, library: Library, model: ModelInfo, most: int = SAMPLE) -> Self:
        """The sample of the images that `model` has embedded; fewer if there are fewer."""
        with library.read() as session:
            asked = _TEAM_SAMPLE if is_postgresql(session) else _SAMPLE
            found = session.connection().execute(asked, {"model": model.key, "most": most})
            rows = [(image_id, data) for image_id, data in found]
        ids, halves = library.unpack(rows, model.dim)
        embeddings = halves.astype(np.float32)
        return cls(ids, embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True))
