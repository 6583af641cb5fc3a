"""Answers that take long: computed one at a time in the background, and kept until they are old."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Generic, TypeVar

from rwkvsearch.data.errors import RwkvSearchError

MOST_KEPT = 4
SHARE = 5
"""An answer that is not of the library as it is now is given for so many times as it took."""
LEAST = 5.0
"""Seconds that it is given at least."""

log = logging.getLogger(__name__)
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[T]):
    """An answer, or what is known of it: `answer` may be of an older `state` of the library.

    `seconds` and `finished` (seconds since 1970) are those of the answer, `error` is why the last
    attempt gave none.
    """

    running: bool = False
    answer: T | None = None
    state: object = None
    error: str | None = None
    seconds: float = 0.0
    finished: float | None = None


class Jobs(Generic[K, T]):
    """Computes answers by key, and keeps the last few. Safe among threads; close it."""

    def __init__(self, compute: Callable[[K], T], state: Callable[[], object]) -> None:
        """`state` is what differs once the library has changed; it is asked by one at a time."""
        self._compute = compute
        self._state = state
        self._changed = Condition()
        self._jobs: OrderedDict[K, Job[T]] = OrderedDict()
        self._waiting: list[K] = []
        self._busy = False
        self._closed = False

    def ask(self, key: K, seconds: float = 0.0) -> Job[T]:
        """The answer as far as there is one; waited for so long if there is none at all."""
        with self._changed:
            job = self._jobs.pop(key, None) or Job()
            self._jobs[key] = job
            if not job.running and self._is_old(job):
                self._begin(key, job)
            self._changed.wait_for(lambda: self._has_answer(key), seconds)
            return self._jobs.get(key, Job())

    def known(self, key: K) -> Job[T]:
        """The answer as far as there is one; nothing is started."""
        with self._changed:
            return self._jobs.get(key, Job())

    def is_current(self, job: Job[T]) -> bool:
        """Whether an answer is of the library as it is now."""
        with self._changed:
            return self._closed or (job.answer is not None and job.state == self._state())

    def start(self, key: K) -> bool:
        """Compute an answer anew; whether it was not being computed already."""
        with self._changed:
            job = self._jobs.get(key, Job())
            if not job.running:
                self._begin(key, job)
            return not job.running

    def close(self) -> None:
        """Start nothing more; what is being computed is left."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _has_answer(self, key: K) -> bool:
        job = self._jobs.get(key)
        return self._closed or job is None or job.answer is not None or not job.running

    def _is_old(self, job: Job[T]) -> bool:
        if self._closed or job.finished is None:
            return not self._closed
        rest = max(LEAST, SHARE * job.seconds)
        if job.answer is None:
            return time.time() - job.finished > LEAST
        return job.state != self._state() and time.time() - job.finished > rest

    def _begin(self, key: K, job: Job[T]) -> None:
        if self._closed:
            return
        self._jobs[key] = Job(True, job.answer, job.state, None, job.seconds, job.finished)
        self._jobs.move_to_end(key)
        self._waiting.append(key)
        while len(self._jobs) > MOST_KEPT:
            self._jobs.popitem(last=False)
        if not self._busy:
            self._busy = True
            Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._waiting = [key for key in self._waiting if key in self._jobs]
                if not self._waiting:
                    self._busy = False
                    return
                key = self._waiting.pop(0)
            job = self._run(key)
            with self._changed:
                if key in self._jobs:
                    self._jobs[key] = job
                self._changed.notify_all()

    def _run(self, key: K) -> Job[T]:
        began = time.monotonic()
        state, answer, error = None, None, None
        try:
            with self._changed:
                state = self._state()  # first: what is committed from here on is seen later
            answer = self._compute(key)
        except (RwkvSearchError, OSError) as fault:
            error = str(fault)
        except Exception:
            log.exception("a computation in the background failed")
            error = "see the log of the server"
        return Job(False, answer, state, error, time.monotonic() - began, time.time())
