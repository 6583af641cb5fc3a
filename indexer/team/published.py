"""What is known of the HNSW index of a model: a row of `generations`, as of an ann file."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from rwkvsearch.indexer.ann.generation import newest_generation
from rwkvsearch.indexer.library import ModelInfo


@dataclass(frozen=True)
class Published:
    """An index that was measured: `rows` it held then, of embeddings with ids up to `upto`.

    It holds what came later as well. `ef`: how many candidates it keeps while it searches.
    """

    kind: str
    rows: int
    upto: int
    ef: int
    ann_recall: float | None


def published(session: Session, model: ModelInfo) -> Published | None:
    """The index of a model, None if there is none that can be used."""
    row = newest_generation(session, model)
    if row is None or not is_valid(session, row.file_name):
        return None
    ef = int(json.loads(row.search)["ef"])
    return Published(row.kind, row.rows, row.max_embedding_id, ef, row.ann_recall)


def is_valid(session: Session, name: str) -> bool:
    """Whether an index of this name is there as a whole."""
    asked = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
    return bool(session.scalar(asked, {"name": name}))
