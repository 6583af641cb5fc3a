"""How long each stage of a sync keeps its threads busy, and which stage the others wait for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Final, Literal, get_args

Work = Literal[
    "scan", "read", "hash", "decode", "preprocess", "encode", "write", "texts", "publish"
]
Pause = Literal["for pictures", "for the writer"]
Timed = Work | Pause | Literal["pipeline"]

PREPARING: Final[tuple[Work, ...]] = ("read", "hash", "decode", "preprocess")
"""What the decoding threads do, all at the same time as `encode` and `write`."""
_ALONE: Final[tuple[Work, ...]] = ("scan", "texts", "publish")
_PATIENCE = (
    0.2  # share of the time in which the encoder waits, above which it is not the bottleneck
)


@dataclass(frozen=True)
class Profile:
    """What the stages of a run took: `busy` seconds summed over the `threads` of each.

    `waited` is how long the encoder stood still, and what for; `files` were read in `seconds` of
    wall-clock time, of which `pipeline` seconds saw the stages from `read` to `write`. A thread
    that waits for a core counts as busy.
    """

    busy: dict[Work, float]
    threads: dict[Work, int]
    waited: dict[Pause, float]
    files: int
    pipeline: float
    seconds: float

    def share(self, stage: Work) -> float:
        """The part of the wall-clock time in which the threads of a stage were busy, 0 to 1."""
        return self.busy[stage] / (self.threads[stage] * self.seconds) if self.seconds else 0.0

    @property
    def bottleneck(self) -> Work:
        """The stage that the run would gain most from, were it faster."""
        alone = max(_ALONE, key=self.busy.__getitem__)
        if self.busy[alone] >= self.pipeline:
            return alone
        if self.waited["for the writer"] > _PATIENCE * self.pipeline:
            return "write"
        if self.waited["for pictures"] > _PATIENCE * self.pipeline:
            return max(PREPARING, key=self.busy.__getitem__)
        return "encode"


class Clock:
    """Adds up what becomes a `Profile`. Safe among threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._started = time.perf_counter()
        self._spent: dict[Timed, float] = {}
        self._threads: dict[Timed, int] = {}
        self.files = 0

    @contextmanager
    def time(self, what: Timed, threads: int = 1) -> Iterator[None]:
        """Count the time in the block towards `what`, which so many threads do at once."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(what, time.perf_counter() - began, threads)

    def add(self, what: Timed, seconds: float, threads: int = 1) -> None:
        """Count seconds, perhaps of another process, towards `what`."""
        with self._lock:
            self._spent[what] = self._spent.get(what, 0.0) + seconds
            self._threads[what] = threads

    def spent(self) -> dict[Timed, float]:
        """The seconds so far, to be added to another clock."""
        with self._lock:
            return dict(self._spent)

    def profile(self) -> Profile:
        """The figures so far."""
        with self._lock:
            return Profile(
                {stage: self._spent.get(stage, 0.0) for stage in get_args(Work)},
                {stage: self._threads.get(stage, 1) for stage in get_args(Work)},
                {pause: self._spent.get(pause, 0.0) for pause in get_args(Pause)},
                self.files,
                self._spent.get("pipeline", 0.0),
                time.perf_counter() - self._started,
            )
