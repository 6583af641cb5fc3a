"""Search embeddings that are in no library as a library would: for measurements.

They are put into a library of their own that lasts as long as the search, so that storage in fp16,
the ann and the exact scores of its proposals are those that a person gets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.ann.generation import open_generation
from rwkvsearch.indexer.ann.kinds import Kind, Search, choose_kind
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.ann.synthetic import MODEL, PREPROCESSING, enter_images, enter_model
from rwkvsearch.indexer.blocks import BLOCK, Floats, Ids
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.search import SearchIndex

_AT_ONCE = 256  # queries


@dataclass(frozen=True)
class Answers:
    """For each query the scores `[Q, k]` and rows `[Q, k]` of what was found, best first.

    Where there is less than k, scores are -inf and rows -1.
    """

    scores: Floats
    rows: Ids


@dataclass(frozen=True)
class LooseSearch:
    """Answers of an exact search and of an ann, its FAISS string and how it was searched."""

    exact: Answers
    ann: Answers
    factory: str
    search: Search


def check_rows(kind: Kind, rows: int) -> None:
    """Raise `LibraryError` where there are too few rows for a kind."""
    if rows < kind.least:
        raise LibraryError(f"{kind.name} needs at least {kind.least:,} rows, not {rows:,}")


def search_loose(embeddings: Floats, queries: Floats, k: int, kind: Kind) -> LooseSearch:
    """The `k` best of unit `embeddings` `[G, D]` for each of the unit `queries` `[Q, D]`.

    The ann is made and tuned as `rwkvsearch index` does it where there are pictures alone.

    Raises:
        LibraryError: faiss is not installed, there are too few for the kind, or no space is left.
    """
    check_rows(kind, len(embeddings))
    with (
        TemporaryDirectory(prefix="rwkvsearch-") as folder,
        Library.create(Path(folder)) as library,
    ):
        root, key = enter_model(library, embeddings.shape[1])
        for start in range(0, len(embeddings), BLOCK):
            part = embeddings[start : start + BLOCK]
            enter_images(library, root, key, start + 1, part)
        model = library.model(MODEL, PREPROCESSING)
        with library.write() as session:
            choose_kind(session, model, kind)
        with library.writer():
            publish(library, model)
        generation = open_generation(library, model)
        assert generation is not None
        index = SearchIndex(library, model, generation)
        exact = _answers(lambda some: index.search(some, k, exact=True), queries, k)
        ann = _answers(lambda some: index.search(some, k), queries, k)
        return LooseSearch(exact, ann, generation.ann.kind, generation.ann.search)


def _answers(search: Callable[[Floats], tuple[Floats, Ids]], queries: Floats, k: int) -> Answers:
    scores = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    for start in range(0, len(queries), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        found, ids = search(queries[part])
        scores[part, : found.shape[1]], rows[part, : ids.shape[1]] = found, ids - 1
    return Answers(scores, rows)
