"""Syncs that a server starts: one at a time, each in a process of its own.

Searches stay quick beside it, as it has the lowest priority and an interpreter of its own; and what
crashes a decoder takes that process down, not the server. It ends with the server: its stdin does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from signal import Signals
from threading import Lock, Thread
from typing import IO

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.indexer.library import Library
from rwkvsearch.ui.api.settings import Settings
from rwkvsearch.ui.api.sync_state import Pace, SyncState, after, now, started

_PATIENCE = 30.0  # seconds until a process that was asked to stop is killed


class Syncs:
    """The syncs of one server. Safe among threads; close it."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is started."""
        folder = settings.library.absolute()
        self._folder = folder
        self._asked = json.dumps(
            {
                "library": str(folder),
                "model": settings.model,
                "device": settings.device,
                "precision": settings.precision,
            }
        )
        self._lock = Lock()
        self._state = SyncState()
        self._began = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: Thread | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the process that syncs now."""
        process = self._process
        return process.pid if process else None

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
            if self._process is not None:
                raise LibraryBusy("a sync runs already; wait until it is done, or stop it")
            if (refusal := self._refusal()) is not None:
                raise LibraryError(refusal)
            with Library.open(self._folder) as library, library.writer():
                pass  # another writer is known at once, not after the process has started
            self._state, self._began = started(), time.monotonic()
            log = tempfile.TemporaryFile()  # noqa: SIM115  closed by the reader
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rwkvsearch.ui.api.sync_child", self._asked],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
            self._reader = Thread(target=self._read, args=(self._process, log), daemon=True)
            self._reader.start()
        return self.state()

    def stop(self) -> bool:
        """Ask a sync to stop; what is done is kept. Whether one runs; it may take a moment."""
        with self._lock:
            process = self._process
            if process is None or process.stdin is None:
                return False
            if self._state.state == "running":
                self._state = replace(self._state, state="stopping")
                with suppress(OSError):
                    process.stdin.close()
        return True

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until no sync runs; whether that is so."""
        reader = self._reader
        if reader is not None:
            reader.join(seconds)
        return reader is None or not reader.is_alive()

    def close(self) -> None:
        """Stop a sync, and wait until its process has ended."""
        with self._lock:
            self._closed = True
        self.stop()
        if not self.wait(_PATIENCE) and self._process is not None:
            self._process.kill()
            self.wait()

    def _refusal(self) -> str | None:
        database = self._folder / "library.sqlite"
        if os.access(self._folder, os.W_OK) and os.access(database, os.W_OK):
            return None
        return (
            f"this server cannot write to {self._folder}; "
            "sync with `rwkvsearch index` as the user who owns it"
        )

    def _read(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        pace = Pace()
        with process, log:
            for line in process.stdout or ():
                with suppress(ValueError):  # cut off by a kill
                    said = json.loads(line)
                    with self._lock:
                        self._state = after(self._state, said, pace, time.monotonic())
            code = process.wait()
            why = _why(code, log)
        with self._lock:
            if self._state.outcome is None:
                self._state = replace(self._state, outcome="failed", message=why)
            seconds = round(time.monotonic() - self._began, 1)
            self._state = replace(
                self._state, state="idle", seconds=seconds, seconds_left=None, finished_at=now()
            )
            self._process = None


def _why(code: int, log: IO[bytes]) -> str:
    """Why a process ended that did not say so itself."""
    kept = "what is done is kept, start it again to go on"
    if code < 0:
        with suppress(ValueError):
            return f"the process that syncs was ended by {Signals(-code).name}; {kept}"
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    last = f" ({lines[-1].strip()[:200]})" if lines else ""
    return f"the process that syncs ended with exit code {code}{last}; {kept}"
