"""The index of a library in PostgreSQL: HNSW of pgvector, built after what it holds was stored."""

from __future__ import annotations

from rwkvsearch.indexer.library import Library, ModelInfo


def publish(library: Library, model: ModelInfo, *, force: bool = False) -> None:
    """As `ann.publish.publish`."""
