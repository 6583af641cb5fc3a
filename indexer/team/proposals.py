"""Candidates out of pgvector: the nearest rows of one model, by its index or by looking at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from rwkvsearch.indexer.blocks import MARGIN, Floats, Ids
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.tables import to_halves

MOST_BY_INDEX = 1_000
"""Candidates, more than which are taken by looking at all rows: pgvector's own limit of `ef`."""
_VISITED = 20_000  # rows at least that a filtered search may visit before it gives up
ROUGH = 2 * MARGIN
"""By so much a score of pgvector may differ from the exact one: the query is in fp16, too."""


@dataclass(frozen=True)
class Proposed:
    """Image ids and rough scores, best first; `all_seen` if there are no more to be had."""

    ids: Ids
    scores: Floats
    all_seen: bool


def by_index(
    session: Session, model: ModelInfo, query: Floats, n: int, ef: int, among: Ids | None
) -> Proposed:
    """The `n` nearest to a unit `query` `[D]` that the HNSW index finds, of `among` if given."""
    n = min(n, MOST_BY_INDEX)
    settings: dict[str, int | str] = {
        "hnsw.ef_search": min(max(ef, n), MOST_BY_INDEX),
        "hnsw.iterative_scan": "relaxed_order",
        "hnsw.max_scan_tuples": max(_VISITED, 20 * n),
        # What would not use the index, in the eyes of a planner that knows little of vectors.
        **dict.fromkeys(("enable_seqscan", "enable_bitmapscan", "enable_sort"), "off"),
    }
    nearest = f"(data::halfvec({model.dim})) <#> %(query)s"
    return _ask(
        session,
        f"SELECT image_id, {nearest} FROM embeddings WHERE model = {model.key} {_of(among)}"
        f" ORDER BY {nearest} LIMIT %(n)s",
        {"query": _half(query), "n": n, "among": _list(among)},
        settings,
    )


def by_looking(
    session: Session, model: ModelInfo, query: Floats, n: int, among: Ids | None
) -> Proposed:
    """The `n` nearest to a unit `query` `[D]` of all rows, of `among` if given."""
    return _ask(
        session,
        f"SELECT image_id, data <#> %(query)s AS far FROM embeddings WHERE model = {model.key}"
        f" {_of(among)} ORDER BY far LIMIT %(n)s",
        {"query": _half(query), "n": n, "among": _list(among)},
        {},
    )


def texts_by_looking(session: Session, model: ModelInfo, query: Floats, n: int) -> Proposed:
    """The `n` texts nearest to a unit `query` `[D]`, whether they belong to a file or not."""
    return _ask(
        session,
        "SELECT text_id, data <#> %(query)s AS far FROM text_embeddings"
        f" WHERE model = {model.key} ORDER BY far LIMIT %(n)s",
        {"query": _half(query), "n": n},
        {},
    )


@dataclass(frozen=True)
class ByIndex:
    """Proposes as `ann.build.ann_recall` asks for it."""

    library: Library
    model: ModelInfo
    ef: int

    def propose(self, queries: Floats, k: int, /) -> tuple[Floats, Ids]:
        """As `ann.build.Proposes`, one query at a time."""
        with self.library.read() as session:
            found = by_index(session, self.model, queries[0], candidates(k), self.ef, None)
        return found.scores[None], found.ids[None]


def candidates(k: int) -> int:
    """How many to ask for, so that the best `k` are among them nearly always."""
    return 2 * k + 30


def _ask(
    session: Session, statement: str, values: dict[str, object], settings: dict[str, int | str]
) -> Proposed:
    connection = session.connection()
    if settings:  # for this transaction
        each = [f"set_config('{name}', '{value}', true)" for name, value in settings.items()]
        connection.exec_driver_sql(f"SELECT {', '.join(each)}")
    rows = connection.exec_driver_sql(statement, values).all()
    ids = np.array([row[0] for row in rows], np.int64)
    scores = np.array([-row[1] for row in rows], np.float32)
    return Proposed(ids, scores, len(rows) < int(str(values["n"])))


def _of(among: Ids | None) -> str:
    return "" if among is None else "AND image_id = ANY (%(among)s::bigint[])"


def _half(query: Floats) -> bytes | None:
    return to_halves(query.astype("<f2").tobytes())


def _list(ids: Ids | None) -> list[int] | None:
    return None if ids is None else ids.tolist()
