"""One search engine for many threads, that is never much older than its library."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.ui.api.batching import BatchingEncoder
from rwkvsearch.ui.api.settings import Settings
from rwkvsearch.ui.open_engine import OpenEngine, weights_state

if TYPE_CHECKING:
    from rwkvsearch.indexer.freshness import State
    from rwkvsearch.retrieval.engine import SearchEngine
    from rwkvsearch.retrieval.models import Precision
    from rwkvsearch.retrieval.terms import QueryEncoder

LOOK_EVERY = 1.0
"""Seconds between two looks at the library."""
SHARE = 5
"""An engine is in use for so many times as long as it took to open it, at least."""
BATCH = 32
"""Texts, more than which seldom come at one time."""

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Lent:
    opened: OpenEngine
    users: int = 0
    retired: bool = False


class WarmEngine:
    """Lends its engine; a changed library is opened anew in the background, then put in its place.

    Searches go on with the engine they were lent, which is closed once nobody uses it.
    """

    def __init__(self, settings: Settings) -> None:
        """Open it; the model is loaded in the background.

        Raises:
            LibraryError: there is no library, or the model has no embeddings in it.
            ModelError: the model is unknown, not installed or damaged.
        """
        self.reopened = 0
        self.trouble: str | None = None
        """Why the library cannot be opened as it is now; searches go on in what it was."""
        self._settings = settings
        self._encoders: dict[State, BatchingEncoder] = {}
        self._warmed: QueryEncoder | None = None
        self._lock = Lock()
        self._stopped = Event()
        self._ready = Event()
        self._current = _Lent(self._open())
        self._watcher = Thread(target=self._watch, name="warm engine", daemon=True)
        self._watcher.start()

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded, so that queries are quick."""
        return self._ready.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the model is loaded; whether it is."""
        return self._ready.wait(seconds)

    @contextmanager
    def lend(self) -> Iterator[SearchEngine]:
        """The engine, for the time of a `with` statement."""
        with self._lock:
            lent = self._current
            lent.users += 1
        try:
            yield lent.opened.engine
        finally:
            self._give_back(lent)

    def close(self) -> None:
        """Stop watching, and close the engine once nobody uses it."""
        self._stopped.set()
        self._watcher.join()
        self._retire(self._current)

    def _open(self) -> OpenEngine:
        asked = self._settings
        return OpenEngine.open(
            asked.library, asked.model, asked.device, asked.precision, self._encoder, asked.ann
        )

    def _encoder(self, name: str, device: str | None, precision: Precision) -> BatchingEncoder:
        key = (name, device, precision, weights_state(name))
        known = self._encoders.get(key) or BatchingEncoder.of(name, device, precision)
        self._encoders = {key: known}
        return known

    def _watch(self) -> None:
        self._warm(self._current.opened.engine)
        pause = LOOK_EVERY
        while not self._stopped.wait(pause):
            began = time.monotonic()
            try:
                if not self._current.opened.is_current():
                    self._renew()
                self.trouble = None
            except RwkvSearchError as error:
                if self.trouble != str(error):
                    log.warning("the library could not be opened anew: %s", error)
                self.trouble = str(error)
            except Exception:  # whatever it is, searches go on in what is open
                log.exception("the library could not be opened anew")
                self.trouble = "see the log of the server"
            pause = max(LOOK_EVERY, SHARE * (time.monotonic() - began))

    def _renew(self) -> None:
        opened = self._open()
        self._warm(opened.engine)
        with self._lock:
            before, self._current = self._current, _Lent(opened)
        self.reopened += 1
        self._retire(before)

    def _warm(self, engine: SearchEngine) -> None:
        try:
            engine.warm()
            if self._warmed is not engine.encoder:  # several texts at once are computed otherwise
                engine.encoder.encode_texts(["a picture"] * BATCH)
                self._warmed = engine.encoder
            self._ready.set()
        except Exception as error:  # it is said again to whoever asks
            unforeseen = not isinstance(error, RwkvSearchError)
            log.warning("the model cannot be loaded: %s", error, exc_info=unforeseen)

    def _retire(self, lent: _Lent) -> None:
        with self._lock:
            lent.retired = True
            unused = not lent.users
        if unused:
            lent.opened.close()

    def _give_back(self, lent: _Lent) -> None:
        with self._lock:
            lent.users -= 1
            last = lent.retired and not lent.users
        if last:
            lent.opened.close()
