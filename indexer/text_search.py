"""The best texts of a library for a query embedding: all of them are compared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exists, select

from rwkvsearch.indexer.blocks import Block, best_of
from rwkvsearch.indexer.library import Library, ModelInfo, chunks
from rwkvsearch.indexer.scoring import rescore
from rwkvsearch.indexer.tables import CaptionRow, TextEmbeddingRow, TextRow
from rwkvsearch.indexer.texts import IS_SAID

_BLOCK = 16_384


def best_texts(
    library: Library, model: ModelInfo, query: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The `k` texts nearest to a `query` `[D]`: scores and text ids, fewer if there are fewer.

    Of texts that belong to a file that is there; best first, equal scores by text id.
    """
    if library.is_shared:
        from rwkvsearch.indexer.team.texts import nearest_texts

        if (nearest := nearest_texts(library, model, query, k)) is not None:
            return nearest
    unit = (query / np.linalg.norm(query)).astype(np.float32)
    ids, _ = best_of(_blocks(library, model), unit[None], k)[0]
    with library.read() as session:
        rows = [
            (row[0], row[1])
            for part in chunks(ids.tolist())
            for row in session.execute(
                select(TextEmbeddingRow.text_id, TextEmbeddingRow.data).where(
                    TextEmbeddingRow.model == model.key, TextEmbeddingRow.text_id.in_(part)
                )
            )
        ]
    found, embeddings = library.unpack(rows, model.dim)
    scores = rescore(query, embeddings)
    best = np.lexsort((found, -scores))[:k]
    return scores[best], found[best]


def texts_of(library: Library, text_ids: list[int]) -> dict[int, tuple[str, tuple[int, ...]]]:
    """Each text by its id, with the ids of the live images that it belongs to."""
    texts: dict[int, str] = {}
    images: dict[int, list[int]] = {}
    of_texts = select(CaptionRow.text_id, CaptionRow.image_id).distinct()
    with library.read() as session:
        for part in chunks(text_ids):
            rows = session.execute(select(TextRow.id, TextRow.text).where(TextRow.id.in_(part)))
            texts |= {text_id: text for text_id, text in rows}
            owners = session.execute(of_texts.where(CaptionRow.text_id.in_(part), IS_SAID))
            for text_id, image_id in owners:
                images.setdefault(text_id, []).append(image_id)
    return {n: (text, tuple(sorted(images.get(n, ())))) for n, text in texts.items()}


def _blocks(library: Library, model: ModelInfo) -> Iterator[Block]:
    said = exists().where(CaptionRow.text_id == TextEmbeddingRow.text_id, IS_SAID)
    row = select(TextEmbeddingRow.id, TextEmbeddingRow.text_id, TextEmbeddingRow.data).where(
        TextEmbeddingRow.model == model.key, said
    )
    after = 0
    while True:
        with library.read() as session:
            part = row.where(TextEmbeddingRow.id > after).order_by(TextEmbeddingRow.id)
            rows = session.connection().execute(part.limit(_BLOCK)).all()
        if rows:
            after = rows[-1][0]
            yield library.unpack([(text_id, data) for _, text_id, data in rows], model.dim)
        if len(rows) < _BLOCK:
            return
