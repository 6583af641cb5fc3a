"""Search pictures by words and pictures: `from rwkvsearch.retrieval import SearchEngine`.

The names below are imported at their first use, so that importing this package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rwkvsearch.indexer.filters import Box, Filters
    from rwkvsearch.retrieval.encoder import Encoder
    from rwkvsearch.retrieval.engine import SearchEngine
    from rwkvsearch.retrieval.grammar import parse
    from rwkvsearch.retrieval.query import Crop, Hit, Query, Term, TextHit

__all__ = [
    "Box",
    "Crop",
    "Encoder",
    "Filters",
    "Hit",
    "Query",
    "SearchEngine",
    "Term",
    "TextHit",
    "parse",
]

_HOMES = {
    "rwkvsearch.indexer.filters": ("Box", "Filters"),
    "rwkvsearch.retrieval.encoder": ("Encoder",),
    "rwkvsearch.retrieval.engine": ("SearchEngine",),
    "rwkvsearch.retrieval.grammar": ("parse",),
    "rwkvsearch.retrieval.query": ("Crop", "Hit", "Query", "Term", "TextHit"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
