"""The best texts for a query embedding, out of PostgreSQL: it compares all of them."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from rwkvsearch.indexer.blocks import Floats, Ids
from rwkvsearch.indexer.dialects import among
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.scoring import rescore
from rwkvsearch.indexer.tables import CaptionRow, TextEmbeddingRow
from rwkvsearch.indexer.team.proposals import ROUGH, Proposed, candidates, texts_by_looking
from rwkvsearch.indexer.texts import IS_SAID

_DEEPER, _DEEPEST = 8, 20_000  # as in `search`


def nearest_texts(
    library: Library, model: ModelInfo, query: NDArray[np.float32], k: int
) -> tuple[Floats, Ids] | None:
    """As `text_search.best_texts`; None where too many are alike to be told apart this way."""
    unit = (query / np.linalg.norm(query)).astype(np.float32)
    n = candidates(k)
    while n <= _DEEPEST:
        with library.read() as session:
            found = texts_by_looking(session, model, unit, n)
            rows = _said(session, model, found)
        ids, embeddings = library.unpack(rows, model.dim)
        scores = rescore(query, embeddings)
        best = np.lexsort((ids, -scores))[:k]
        left_out = -np.inf if found.all_seen else float(found.scores[-1]) + ROUGH
        if found.all_seen or len(best) == k and scores[best[-1]] > left_out:
            return scores[best], ids[best]
        n *= _DEEPER
    return None


def _said(session: Session, model: ModelInfo, found: Proposed) -> list[tuple[int, bytes]]:
    """Those of the texts that belong to a file that is there."""
    said = select(CaptionRow.id).where(CaptionRow.text_id == TextEmbeddingRow.text_id, IS_SAID)
    row = select(TextEmbeddingRow.text_id, TextEmbeddingRow.data).where(
        TextEmbeddingRow.model == model.key,
        among(TextEmbeddingRow.text_id, "texts", json.dumps(found.ids.tolist())),
        said.exists(),
    )
    return [(text_id, data) for text_id, data in session.execute(row)]
