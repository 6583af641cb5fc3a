"""What the page and the API share: one library, one warm engine, thumbnails and uploads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rwkvsearch.indexer.facets import Facets, facets_of
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.stats import LibraryStats
from rwkvsearch.indexer.thumbnails import Thumbnails
from rwkvsearch.ui.api.batching import seconds_encoding
from rwkvsearch.ui.api.checkups import Checkups
from rwkvsearch.ui.api.duplicate_searches import DuplicateSearches
from rwkvsearch.ui.api.mapping import Maps
from rwkvsearch.ui.api.metrics import Metrics
from rwkvsearch.ui.api.readiness import Readiness
from rwkvsearch.ui.api.settings import Settings
from rwkvsearch.ui.api.syncing import Syncs
from rwkvsearch.ui.api.uploads import Uploads
from rwkvsearch.ui.api.warm import WarmEngine
from rwkvsearch.ui.query import doubt

if TYPE_CHECKING:
    from rwkvsearch.retrieval.engine import SearchEngine
    from rwkvsearch.retrieval.query import Hit, Query


@dataclass(frozen=True)
class Answer:
    """The hits of a query, how they were found, and what has to be said about them."""

    query: Query
    hits: list[Hit]
    message: str | None
    """That no hit is a confident one, or why there are none."""
    model_id: str
    how: str
    encode_seconds: float
    """Of the model, or of waiting for it."""
    search_seconds: float
    """Of everything else."""


class Service:
    """One library and what is kept warm for it. Safe among threads; close it."""

    def __init__(self, settings: Settings) -> None:
        """Open everything.

        Raises:
            LibraryError: there is no library, or the model has no embeddings in it.
            ModelError: the model is unknown, not installed or damaged.
        """
        self.settings = settings
        self.warm = WarmEngine(settings)
        self.library = Library.open(settings.library)
        self.thumbs = Thumbnails(self.library)
        self.uploads = Uploads(settings)
        self.metrics = Metrics()
        self.readiness = Readiness(self.library, self.warm)
        self.syncs = Syncs(settings, self.metrics.synced)
        self.maps = Maps(self.library)
        self.duplicates = DuplicateSearches(self.library)
        self.checkups = Checkups(self.library, settings.ann)
        self._facets: tuple[int, Facets] | None = None
        self._stats: tuple[int, LibraryStats] | None = None

    @contextmanager
    def engine(self) -> Iterator[SearchEngine]:
        """The current engine, for the time of a `with` statement."""
        with self.warm.lend() as engine:
            yield engine

    def search(self, query: Query) -> Answer:
        """Answer a query; errors as `SearchEngine.run`."""
        began, encoded = time.perf_counter(), seconds_encoding()
        with self.engine() as engine:
            hits = engine.run(query)
            encoding = seconds_encoding() - encoded
            rest = time.perf_counter() - began - encoding
            model_id, how = engine.encoder.model_id, engine.how
        self.metrics.searched(encoding, rest)
        return Answer(query, hits, doubt(query, hits), model_id, how, encoding, rest)

    def facets(self) -> Facets:
        """What the filters can be set to; counted anew once the library has changed."""
        age = self.warm.reopened
        known = self._facets
        if known is None or known[0] != age:
            known = self._facets = (age, facets_of(self.library))
        return known[1]

    def stats(self) -> LibraryStats:
        """What the library holds; counted anew once it has changed."""
        age = self.warm.reopened
        known = self._stats
        if known is None or known[0] != age:
            known = self._stats = (age, self.library.stats())
        return known[1]

    def close(self) -> None:
        """Stop what runs in the background, close the library and let go of everything."""
        for work in (self.syncs, self.maps, self.duplicates, self.checkups):
            work.close()
        self.warm.close()
        self.library.close()
