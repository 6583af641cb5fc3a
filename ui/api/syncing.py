"""Syncs that a server starts: one at a time, each in a process of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import Any

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.indexer.address import Address, whole
from rwkvsearch.indexer.cluster.address import is_of_one_process
from rwkvsearch.indexer.library import Library
from rwkvsearch.ui.api.children import Child
from rwkvsearch.ui.api.settings import Settings
from rwkvsearch.ui.api.sync_state import STOPPED, Pace, SyncState, after, now, started

_PATIENCE = 5.0  # seconds until a process is killed that still syncs when the server ends


class Syncs:
    """The syncs of one server. Safe among threads; close it."""

    def __init__(
        self, settings: Settings, on_outcome: Callable[[str], None] = lambda outcome: None
    ) -> None:
        """Nothing is started; `on_outcome` is told how each sync has ended."""
        self._on_outcome = on_outcome
        self._place = whole(settings.library)
        self._asked = {
            "library": str(self._place),
            "model": settings.model,
            "device": settings.device,
            "precision": settings.precision,
            "ann": None if is_of_one_process(settings.ann) else settings.ann,
        }
        self._lock = Lock()
        self._state = SyncState()
        self._began = 0.0
        self._pace = Pace()
        self._child: Child | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the process that syncs now."""
        child = self._child
        return child.pid if child and self._state.state != "idle" else None

    def state(self) -> SyncState:
        """How far it is, or how the last one ended."""
        with self._lock:
            state = self._state
            if state.state != "idle":
                state = replace(state, seconds=round(time.monotonic() - self._began, 1))
        return replace(state, refused=self._refusal())

    def start(self) -> SyncState:
        """Sync all that was indexed before, in the background.

        Raises:
            LibraryBusy: a sync runs, of this server or of another process.
            LibraryError: the library cannot be written.
        """
        with self._lock:
            if self._closed:
                raise LibraryError("the server is being stopped")
            if self._state.state != "idle":
                raise LibraryBusy("a sync runs already; wait until it is done, or stop it")
            if (refusal := self._refusal()) is not None:
                raise LibraryError(refusal)
            with Library.open(self._place) as library, library.writer():
                # Another writer is known at once, not after the process has started.
                if not library.is_writable:
                    raise LibraryError(f"this server may not write to {library.name}")
            self._child = Child(
                "rwkvsearch.ui.api.sync_child", self._asked, self._on_line, self._on_end
            )
            self._state, self._began, self._pace = started(), time.monotonic(), Pace()
        return self.state()

    def stop(self) -> bool:
        """Ask a sync to stop; what is done is kept. Whether one runs; it may take a moment."""
        with self._lock:
            if self._child is None or self._state.state == "idle":
                return False
            if self._state.state == "running":
                self._state = replace(self._state, state="stopping")
                self._child.stop()
        return True

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until no sync runs; whether that is so."""
        child = self._child
        return child is None or child.wait(seconds)

    def close(self) -> None:
        """Stop a sync, and wait until its process has ended."""
        with self._lock:
            self._closed = True
        if self.stop() and self._child is not None:
            self._child.end(_PATIENCE)

    def _refusal(self) -> str | None:
        place = self._place
        if isinstance(place, Address):
            return None  # the database says so when the sync begins
        if os.access(place, os.W_OK) and os.access(place / "library.sqlite", os.W_OK):
            return None
        return (
            f"this server cannot write to {place}; "
            "sync with `rwkvsearch index` as the user who owns it"
        )

    def _on_line(self, said: dict[str, Any]) -> None:
        with self._lock:
            self._state = after(self._state, said, self._pace, time.monotonic())

    def _on_end(self, why: str) -> None:
        with self._lock:
            if self._state.outcome is None and self._state.state == "stopping":
                self._state = replace(self._state, outcome="stopped", message=STOPPED)
            elif self._state.outcome is None:
                why = f"the process that syncs {why}; what is done is kept, start it again to go on"
                self._state = replace(self._state, outcome="failed", message=why)
            seconds = round(time.monotonic() - self._began, 1)
            self._state = replace(
                self._state, state="idle", seconds=seconds, seconds_left=None, finished_at=now()
            )
            outcome = self._state.outcome
        self._on_outcome(outcome or "failed")
