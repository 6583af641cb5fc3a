"""The map as a server keeps it: read when it is asked for, made in a process of its own."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Literal

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.maps import CollectionMap, map_path, read_map
from rwkvsearch.retrieval.mapping import Standing, compare, live_images
from rwkvsearch.ui.api.children import Child

State = Literal["none", "computing", "outdated", "ready"]
_PATIENCE = 1.0  # seconds until a process that was asked to end is killed


@dataclass(frozen=True)
class MapState:
    """What there is of a map.

    `none` has been made, it is `outdated` by more changes than can be placed on it or by pictures
    that are not on it yet, or it is `ready`; while one is made it is `computing`, and an older one
    can be looked at. `lacking` pictures are not on it. `step` is what is being done, for `seconds`;
    `last_seconds` is how long the last map took of all pictures. `error` is why none was made.
    """

    state: State
    pictures: int
    lacking: int
    step: str | None = None
    seconds: float | None = None
    last_seconds: float | None = None
    made_at: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class _Seen:
    """A map, and how it compares with the library of this `age`."""

    age: object
    made: CollectionMap | None
    standing: Standing | None
    live: int


@dataclass(frozen=True)
class _Work:
    child: Child
    began: float
    step: str = "starting"


class Maps:
    """The maps of one library. Safe among threads; close it."""

    def __init__(self, library: Library) -> None:
        """Nothing is read, and nothing is started."""
        self._library = library
        self._lock = Lock()
        self._seen: _Seen | None = None
        self._work: _Work | None = None
        self._error: str | None = None
        self._done = False
        self._closed = False

    def look(self, model: ModelInfo, age: object) -> tuple[CollectionMap | None, MapState]:
        """The map of `model` without what has gone; `age` differs once the library has changed."""
        seen = self._read(model, age)
        made, standing = seen.made, seen.standing
        lacking = standing.lacking if standing else seen.live
        current = standing is not None and standing.is_current
        with self._lock:
            work, error = self._work, self._error
        if work:
            state: State = "computing"
        else:
            state = "ready" if current else "outdated" if made else "none"
        return made, MapState(
            state,
            len(made.ids) if made else 0,
            lacking,
            work.step if work else None,
            round(time.monotonic() - work.began, 1) if work else None,
            made.seconds if made else None,
            made.made_at if made else None,
            error,
        )

    def start(self, model: ModelInfo, *, anew: bool = False) -> None:
        """Bring the map of `model` up to date in the background, or make it `anew`.

        Raises:
            LibraryBusy: one is being made.
            LibraryError: the library cannot be written, or the server is being stopped.
        """
        asked = {
            "library": self._library.name,
            "model_id": model.model_id,
            "preprocessing_id": model.preprocessing_id,
            "anew": anew,
        }
        with self._lock:
            if self._closed:
                raise LibraryError("the server is being stopped")
            if self._work is not None:
                raise LibraryBusy("a map is being made already; wait until it is done")
            if not os.access(self._library.path, os.W_OK):
                raise LibraryError(f"this server cannot write to {self._library.path}")
            child = Child("rwkvsearch.ui.api.map_child", asked, self._on_line, self._on_end)
            self._error, self._done = None, False
            self._work = _Work(child, time.monotonic())

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until no map is being made; whether that is so."""
        work = self._work
        return work is None or work.child.wait(seconds)

    def close(self) -> None:
        """End a process that makes a map."""
        with self._lock:
            self._closed = True
            work = self._work
        if work is not None:
            work.child.end(_PATIENCE)

    def _read(self, model: ModelInfo, age: object) -> _Seen:
        age = (age, model.model_id, model.preprocessing_id, _stat(self._library, model))
        seen = self._seen
        if seen is None or seen.age != age:
            made, live = read_map(self._library, model), live_images(self._library, model)
            standing = compare(made, live) if made else None
            if made and standing and len(standing.kept) < len(made.ids):
                rows = standing.kept
                made = replace(
                    made, ids=made.ids[rows], points=made.points[rows], how=made.how[rows]
                )
            seen = self._seen = _Seen(age, made, standing, len(live))
        return seen

    def _on_line(self, said: dict[str, Any]) -> None:
        with self._lock:
            self._done = self._done or "done" in said
            self._error = said.get("error", self._error)
            if self._work and "step" in said:
                self._work = replace(self._work, step=said["step"])

    def _on_end(self, why: str) -> None:
        with self._lock:
            if not self._done and self._error is None:
                self._error = f"the process that makes the map {why}; start it again"
            self._work = None


def _stat(library: Library, model: ModelInfo) -> tuple[int, ...] | None:
    with suppress(OSError):
        found = map_path(library, model).stat()
        return found.st_ino, found.st_size, found.st_mtime_ns
    return None
