"""Duplicates of a library that is served: looked for in the background, kept until it changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.dupes import MAX_DISTANCE, MIN_SCORE, Duplicates, find_duplicates
from rwkvsearch.indexer.freshness import open_freshness
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.roots import is_known
from rwkvsearch.ui.api.jobs import Job, Jobs


@dataclass(frozen=True)
class AskedDuplicates:
    """What `find_duplicates` takes."""

    under: Path | None = None
    exact_only: bool = False
    min_score: float = MIN_SCORE
    max_distance: int = MAX_DISTANCE


class DuplicateSearches:
    """The duplicates of one library. Safe among threads; close it before the library."""

    def __init__(self, library: Library) -> None:
        """Nothing is started."""
        self._library = library
        self._freshness = open_freshness(library.place)
        self._jobs: Jobs[AskedDuplicates, Duplicates] = Jobs(self._find, self._freshness.state)

    def ask(self, asked: AskedDuplicates, seconds: float) -> Job[Duplicates]:
        """The duplicates, if they are known or found within so many seconds.

        Raises:
            QueryError: nothing below `under` was indexed.
        """
        if asked.under is not None and not is_known(self._library, asked.under):
            raise QueryError(f"{asked.under}: nothing there was indexed; name a folder of a hit")
        return self._jobs.ask(asked, seconds)

    def is_current(self, job: Job[Duplicates]) -> bool:
        """Whether they are those of the library as it is now."""
        return self._jobs.is_current(job)

    def close(self) -> None:
        """Start nothing more."""
        self._jobs.close()
        self._freshness.close()

    def _find(self, asked: AskedDuplicates) -> Duplicates:
        return find_duplicates(
            self._library,
            under=asked.under,
            exact_only=asked.exact_only,
            min_score=asked.min_score,
            max_distance=asked.max_distance,
        )
