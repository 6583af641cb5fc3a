"""What a watched folder has told of, until it is time for a sync.

A folder is ready when nothing has happened in it for a moment. While much goes on for long, the
pictures that are whole are taken out from time to time; a picture is whole when its size and time
have not changed for that moment.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rwkvsearch.data.walk import IGNORE_FILE, is_image_name

QUIET, LONGEST = 1.0, 10.0  # seconds
_TEXT_SUFFIXES = (".txt", ".json", ".xmp")
_READING = frozenset({"opened", "closed_no_write", "attrib"})

_Shape = tuple[int, int] | None  # size and mtime_ns; None: not there


class Event(Protocol):
    """What watchdog tells."""

    event_type: str
    is_directory: bool
    src_path: str | bytes
    dest_path: str | bytes


@dataclass
class _Folder:
    """Times are those of the clock that `Noticed` is given."""

    first: float
    last: float
    pictures: dict[Path, tuple[_Shape, float]] = field(default_factory=dict)


class Noticed:
    """Collects events from any thread; `wake` is set by each that matters."""

    def __init__(self, skip: Path) -> None:
        """`skip` is a folder of which nothing matters."""
        self.wake = threading.Event()
        self._skip = skip
        self._lock = threading.Lock()
        self._folders: dict[Path, _Folder] = {}
        self._events: list[tuple[Path, bool]] = []

    def dispatch(self, event: Event) -> None:
        """Take an event; called by watchdog."""
        if event.event_type in _READING or event.is_directory and event.event_type == "modified":
            return
        for name in (event.src_path, event.dest_path):
            if (
                name
                and _matters(path := Path(os.fsdecode(name)), event)
                and not self._is_skipped(path)
            ):
                with self._lock:
                    self._events.append((path, event.is_directory))
                self.wake.set()

    def __bool__(self) -> bool:
        """Whether anything waits."""
        with self._lock:
            return bool(self._folders or self._events)

    def add(self, folder: Path, now: float) -> None:
        """Let a whole folder be looked at."""
        with self._lock:
            self._folders.setdefault(folder, _Folder(now, now))

    def take(self, now: float) -> tuple[set[Path], set[Path]]:
        """Folders that are ready, and whole pictures of folders that are not, to be synced now."""
        with self._lock:
            events, self._events = self._events, []
            for path, is_folder in events:
                self._enter(path, is_folder, now)
            folders, pictures = set(), set()
            for folder, state in [*self._folders.items()]:
                whole = {path for path in state.pictures if _is_whole(state, path, now)}
                if len(whole) == len(state.pictures) and _is_time(state, now):
                    folders.add(folder)
                    del self._folders[folder]
                elif now - state.first >= LONGEST:
                    pictures |= whole
                    state.first = now
                    for path in whole:
                        del state.pictures[path]
        return folders, pictures

    def _enter(self, path: Path, is_folder: bool, now: float) -> None:
        folder = path if is_folder else path.parent
        state = self._folders.setdefault(folder, _Folder(now, now))
        state.last = now
        if not is_folder and is_image_name(path.name):
            state.pictures[path] = (_shape(path), now)

    def _is_skipped(self, path: Path) -> bool:
        return path.is_relative_to(self._skip)


def within(folders: set[Path], root: Path) -> Iterator[Path]:
    """Those at or below `root` that a walk from there would come to."""
    for folder in folders:
        if folder.is_relative_to(root):
            if not any(part.startswith(".") for part in folder.relative_to(root).parts):
                yield folder


def _matters(path: Path, event: Event) -> bool:
    name = path.name
    if name == IGNORE_FILE:
        return True
    if name.startswith("."):
        return False
    return event.is_directory or is_image_name(name) or name.lower().endswith(_TEXT_SUFFIXES)


def _is_whole(state: _Folder, path: Path, now: float) -> bool:
    """Whether a picture has been as it is for a moment."""
    before, since = state.pictures[path]
    shape = _shape(path)
    if shape != before:
        state.pictures[path] = (shape, now)
        return False
    return now - since >= QUIET


def _is_time(state: _Folder, now: float) -> bool:
    return now - state.last >= QUIET or now - state.first >= LONGEST


def _shape(path: Path) -> _Shape:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
