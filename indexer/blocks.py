"""The embeddings of a library a block at a time, and brute force over them.

Memory holds one block, however large the library is, and no transaction stays open between two: a
writer goes on, and its log does not grow, while a million rows are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, exists, func, select
from sqlalchemy.orm import Session

from rwkvsearch.indexer.dialects import among, gathered
from rwkvsearch.indexer.library import IS_LIVE, Library, ModelInfo
from rwkvsearch.indexer.tables import EmbeddingRow, ModelRow

BLOCK = 16_384
MARGIN = 2**-10  # fp16 moves a component, so also norm and unscaled product, by 2**-11 at most

Ids = NDArray[np.int64]
Halves = NDArray[np.float16]
Floats = NDArray[np.float32]
Block = tuple[Ids, Halves]
Row = tuple[int, bytes]

# Tables and one text for every number of ids: half of a search would else be spent in SQLAlchemy.
_TABLE = EmbeddingRow.__table__
_BY_IMAGE = _TABLE.c.model + 0  # not the index on model: the one on images has all that is needed
_LIVE_ROWS = select(_TABLE.c.image_id, _TABLE.c.data).where(
    _TABLE.c.model == bindparam("model"), among(_TABLE.c.image_id, "images"), IS_LIVE
)


def blocks(
    library: Library, model: ModelInfo, *, after: int = 0, upto: int | None = None, live: bool
) -> Iterator[Block]:
    """Image ids `[m]` and embeddings `[m, D]` in the order of embedding ids, `after < id <= upto`.

    With `live`, only images that have a live file.
    """
    row = select(_TABLE.c.id, _TABLE.c.image_id, _TABLE.c.data)
    row = row.where(_TABLE.c.model == model.key, *([IS_LIVE] if live else []))
    if upto is not None:
        row = row.where(_TABLE.c.id <= upto)
    while True:
        with library.read() as session:
            found = session.connection().execute(
                row.where(_TABLE.c.id > after).order_by(_TABLE.c.id).limit(BLOCK)
            )
            rows = found.all()
        if rows:
            after = rows[-1][0]
            yield library.unpack([(image_id, data) for _, image_id, data in rows], model.dim)
        if len(rows) < BLOCK:
            return


def joined(parts: Sequence[Block]) -> Block:
    """All blocks, at least one, as one."""
    ids, embeddings = zip(*parts, strict=True)
    return np.concatenate(ids), np.concatenate(embeddings)


def distinct(ids: Ids) -> Ids:
    """The distinct ones, ascending; for a million, many times faster than numpy's `unique`."""
    ordered = np.sort(ids)
    first: Ids = ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]
    return first


def is_in(ids: Ids, allowed: Ids) -> NDArray[np.bool_]:
    """Which of `ids` are among the distinct, ascending `allowed`; by a table, like `distinct`."""
    found = np.zeros(len(ids), np.bool_)
    if not len(allowed) or not len(ids):
        return found
    first, last = int(allowed[0]), int(allowed[-1])
    if last - first > 16 * (len(ids) + len(allowed)):
        at = np.minimum(np.searchsorted(allowed, ids), len(allowed) - 1)
        return np.equal(allowed[at], ids, out=found)
    table = np.zeros(last - first + 1, np.bool_)
    table[allowed - first] = True
    inside = (ids >= first) & (ids <= last)
    found[inside] = table[ids[inside] - first]
    return found


def find_model(session: Session, model_id: str, preprocessing_id: str) -> ModelInfo | None:
    """A model with embeddings, without counting them (`embeddings` is 0); None if there is none."""
    asked = (ModelRow.model_id == model_id, ModelRow.preprocessing_id == preprocessing_id)
    used = exists().where(EmbeddingRow.model == ModelRow.id)
    m = session.scalar(select(ModelRow).where(*asked, used))
    sizes = m and (m.id, m.model_id, m.preprocessing_id, m.dim, m.weights_sha256, 0)
    return ModelInfo(*sizes) if sizes else None


def known_model(library: Library, model_id: str, preprocessing_id: str) -> ModelInfo:
    """As `find_model`; `LibraryError` as `Library.model` if there is none."""
    with library.read() as session:
        model = find_model(session, model_id, preprocessing_id)
    return model or library.model(model_id, preprocessing_id)


def newest_embedding(session: Session, model: ModelInfo) -> int:
    """The largest embedding id of `model`, 0 if it has none."""
    of_model = select(func.max(EmbeddingRow.id)).where(EmbeddingRow.model == model.key)
    return session.scalar(of_model) or 0


def image_ids(session: Session, model: ModelInfo, upto: int, *, live: bool = False) -> Ids:
    """The images, ascending, of every embedding with an id up to `upto`; `live`: with a file."""
    together = gathered(_TABLE.c.image_id)
    row = select(together).where(
        _BY_IMAGE == model.key, _TABLE.c.id <= upto, *([IS_LIVE] if live else [])
    )
    return np.sort(np.array(json.loads(session.connection().scalar(row) or "[]"), np.int64))


def count_live(session: Session, model: ModelInfo, after: int) -> tuple[int, int]:
    """How many embeddings have a live file, and how many of those have an id above `after`."""
    newer = func.count().filter(_TABLE.c.id > after)
    counts = select(func.count(), newer).select_from(_TABLE).where(_BY_IMAGE == model.key, IS_LIVE)
    every, new = session.connection().execute(counts).one()
    return every, new


def live_rows(session: Session, model: ModelInfo, images: Ids) -> list[Row]:
    """(image id, fp16 bytes) of those of `images` that have an embedding and a live file."""
    values = {"images": json.dumps(images.tolist()), "model": model.key}
    rows = session.connection().execute(_LIVE_ROWS, values).all()
    return [(image_id, data) for image_id, data in rows]


def best_of(parts: Iterable[Block], queries: Floats, k: int) -> list[tuple[Ids, Floats]]:
    """For each unit query `[D]` every image that can be among its `k` best, ties included.

    Ids and rough scores, best first.
    """
    best = [_Best(k) for _ in queries]
    for ids, embeddings in parts:
        near = queries @ embeddings.astype(np.float32).T
        for one, scores in zip(best, near, strict=True):
            one.add(ids, scores)
    return [one.sorted() for one in best]


class _Best:
    """The images seen so far whose rough score is within the margin of the `k`-th."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.ids = np.empty(0, np.int64)
        self.scores = np.empty(0, np.float32)
        self.least = -np.inf

    def add(self, ids: Ids, scores: Floats) -> None:
        close = scores >= self.least
        self.ids = np.append(self.ids, ids[close])
        self.scores = np.append(self.scores, scores[close])
        if len(self.scores) > self.k:
            self.least = float(np.partition(self.scores, -self.k)[-self.k]) - 2 * MARGIN
            keep = self.scores >= self.least
            self.ids, self.scores = self.ids[keep], self.scores[keep]

    def sorted(self) -> tuple[Ids, Floats]:
        order = np.lexsort((self.ids, -self.scores))
        return self.ids[order], self.scores[order]
