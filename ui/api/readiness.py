"""Whether a server can answer searches now."""

from __future__ import annotations

import time
from threading import Lock

from sqlalchemy import select

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import ModelRow
from rwkvsearch.ui.api.warm import WarmEngine

OLDEST = 1.0
"""Seconds for which an answer holds, so that many probes cost no more than one."""


class Readiness:
    """Whether searches can be answered. Safe among threads."""

    def __init__(self, library: Library, warm: WarmEngine) -> None:
        self._library = library
        self._warm = warm
        self._lock = Lock()
        self._looked = -OLDEST
        self._reason: str | None = None

    def why_not(self) -> str | None:
        """None if they can; else why not, in words that tell nothing of the library."""
        with self._lock:
            if (now := time.monotonic()) - self._looked >= OLDEST:
                self._reason, self._looked = self._look(), now
            return self._reason

    def _look(self) -> str | None:
        if not self._warm.is_ready:
            return "the model is not in memory yet"
        try:
            with self._library.read() as session:
                session.execute(select(ModelRow.id).limit(1)).all()
            readable = self._warm.trouble is None
        except RwkvSearchError:
            readable = False
        return None if readable else "the library cannot be read now"
