"""Which index answers the searches of a library: the one place that chooses."""

from __future__ import annotations

from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.protocols import ImageIndex
from rwkvsearch.indexer.search import SearchIndex


def open_index(
    library: Library, model_id: str, preprocessing_id: str, ann: str | None = None
) -> ImageIndex:
    """The index of a model; `ann` is the address of a cluster that proposes, None for the own one.

    Raises:
        LibraryError: the model has no embeddings here, or what proposes is not there.
    """
    if ann is not None:
        from rwkvsearch.indexer.cluster.index import MilvusIndex

        return MilvusIndex.open(library, model_id, preprocessing_id, ann)
    if library.is_shared:
        from rwkvsearch.indexer.team.search import TeamIndex

        return TeamIndex.open(library, model_id, preprocessing_id)
    return SearchIndex.open(library, model_id, preprocessing_id)
