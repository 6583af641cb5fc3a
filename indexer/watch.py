"""Keep a library current: watch its folders, and sync what has changed.

Nothing is locked between two syncs, so other commands run beside it. A folder that goes away is
waited for. Where the kernel cannot watch so many folders, they are looked at again and again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.data.walk import IGNORE_FILE, find_images, is_image_name
from rwkvsearch.indexer.noticed import Noticed, within

_TICK, _IDLE = 0.25, 1.0  # seconds between two looks at the clock, and at the roots
_POLL = 5.0  # seconds between two looks at every folder where the kernel does not tell
_EVERY = 3600.0  # seconds until everything is looked at, in case something was not told
_BUSY = 2.0  # seconds until the next try

Identity = tuple[int, int]


@dataclass
class _Root:
    """A watched folder; `identity` (device, inode) is None while it is not there."""

    path: Path
    identity: Identity | None = None
    watch: Any = None
    known: bool = False
    """Whether it was synced as a whole, so that a part of it can be synced as such."""


@dataclass
class Watching:
    """What to watch, and whom to tell.

    `sync` brings folders or pictures up to date; it raises `LibraryBusy` while another process
    writes. `tell` is given a line for a person. With `whole`, folders are synced as a whole,
    because what is left out depends on where a walk starts.
    """

    roots: Sequence[Path]
    sync: Callable[[list[Path]], None]
    tell: Callable[[str], None]
    skip: Path
    whole: bool = False
    poll: bool = False
    _noticed: Noticed = field(init=False)
    _states: list[_Root] = field(default_factory=list)
    _due: set[Path] = field(default_factory=set)
    _observer: Any = None
    _said_busy: bool = False

    def run(self) -> None:
        """Watch until the caller's thread is interrupted.

        Raises:
            LibraryError: watchdog is not installed, or the library cannot be written.
        """
        import_watchdog()
        self._noticed = Noticed(self.skip)
        self._states = [_Root(path) for path in outermost(self.roots)]
        self._observe(self.poll)
        try:
            everything = time.monotonic() + _EVERY
            for root in self._states:
                if _identity(root.path) is None:
                    self.tell(f"{root.path} is not there: waiting for it")
            while True:
                now = time.monotonic()
                self._look_after_roots(now)
                if now >= everything:
                    everything = now + _EVERY
                    self._due |= {root.path for root in self._states if root.identity}
                self._take(now)
                pause = self._sync() if self._due else 0.0
                self._noticed.wake.clear()
                self._noticed.wake.wait(pause or (_TICK if self._noticed else _IDLE))
        finally:
            self._observer.stop()
            self._observer.join()

    def _observe(self, polling: bool) -> None:
        """Start an observer, of the kernel's events or by looking."""
        from watchdog.observers import Observer
        from watchdog.observers.polling import PollingObserver

        self.poll = polling
        self._observer = PollingObserver(timeout=_POLL) if polling else Observer()
        self._observer.start()

    def _look_after_roots(self, now: float) -> None:
        for root in self._states:
            identity = _identity(root.path)
            lost = root.watch is not None and not _is_alive(self._observer, root.watch)
            if identity == root.identity and not lost:
                continue
            if root.watch is not None:
                self._observer.unschedule(root.watch)
                root.watch = None
            if identity is None and root.identity is not None:
                self.tell(f"{root.path} is not there any more: waiting for it")
            root.identity = identity
            if identity is not None:
                self._watch(root, now)

    def _watch(self, root: _Root, now: float) -> None:
        try:
            root.watch = self._observer.schedule(self._noticed, str(root.path), recursive=True)
        except FileNotFoundError:  # gone again
            root.identity = None
            return
        except OSError as error:
            if self.poll:
                raise LibraryError(f"{root.path}: cannot be watched: {error.strerror}") from error
            self._fall_back(error)
            return
        self._noticed.add(root.path, now)
        self._check_limit()

    def _check_limit(self) -> None:
        """Fall back if the kernel takes no more watches: of inner folders watchdog says nothing."""
        if self.poll:
            return
        # A hidden name, of which nothing is noticed where this folder itself is watched.
        with TemporaryDirectory(prefix=".rwkvsearch-") as name:
            nobody = Noticed(Path(name))
            try:
                self._observer.unschedule(self._observer.schedule(nobody, name))
            except OSError as error:
                self._fall_back(error)

    def _fall_back(self, error: OSError) -> None:
        self.tell(
            f"the kernel watches no more folders ({error.strerror}): looking at them every "
            f"{_POLL:.0f} s instead; more can be watched with sysctl fs.inotify.max_user_watches"
        )
        self._observer.stop()
        self._observer.join()
        self._observe(polling=True)
        for root in self._states:
            root.identity = root.watch = None

    def _take(self, now: float) -> None:
        folders, pictures = self._noticed.take(now)
        for root in self._states:
            if root.identity is None:
                continue
            for folder in within(folders, root.path):
                self._due.add(self._target(root, folder))
            for picture in within(pictures, root.path):
                target = self._target(root, picture.parent)
                # Named one by one, pictures are taken whatever ignore files say.
                plain = target == picture.parent and not (target / IGNORE_FILE).exists()
                self._due.add(picture if plain else target)

    def _target(self, root: _Root, folder: Path) -> Path:
        """The smallest folder that has to be walked to find out what has changed in `folder`."""
        if self.whole or not root.known:
            return root.path
        while folder != root.path and next(find_images(folder), None) is None:
            folder = folder.parent  # of an empty folder a sync would think it is not mounted
        above = [parent for parent in folder.parents if parent.is_relative_to(root.path)]
        ruled = [parent for parent in above if (parent / IGNORE_FILE).exists()]
        return ruled[-1] if ruled else folder

    def _sync(self) -> float:
        """Sync what is due; how long to wait before the next try, in seconds."""
        targets = outermost([path for path in self._due if _can_sync(path)])
        try:
            if targets:
                self.sync(targets)
        except LibraryBusy:
            if not self._said_busy:
                self.tell("another rwkvsearch is writing to the library: waiting for it")
            self._said_busy = True
            return _BUSY
        self._said_busy = False
        self._due.clear()
        self._check_limit()  # new folders may have been too many
        for root in self._states:
            root.known = root.known or root.path in targets
        return 0.0


def import_watchdog() -> None:
    """Make sure that it can be imported.

    Raises:
        LibraryError: it is not installed.
    """
    try:
        import watchdog.observers  # noqa: F401
    except ImportError as error:
        raise LibraryError("watchdog is not installed: pip install 'rwkvsearch[watch]'") from error


def outermost(paths: Collection[Path]) -> list[Path]:
    """Paths without those that lie inside others, sorted."""
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
        return (status.st_dev, status.st_ino) if path.is_dir() else None
    except OSError:
        return None


def _can_sync(path: Path) -> bool:
    """Whether it is there, or is a picture that has gone from a folder that is there."""
    return path.exists() or is_image_name(path.name) and path.parent.is_dir()


def _is_alive(observer: Any, watch: Any) -> bool:
    """Whether the thread behind a watch still runs: it ends with its folder."""
    return any(emitter.watch == watch and emitter.is_alive() for emitter in observer.emitters)
