"""Memory that threads share: whoever needs much of it waits until there is room."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition

_LEAST, _MOST = 256 << 20, 2 << 30


def default_room() -> int:
    """An eighth of the machine's memory in bytes, 256 MB at least and 2 GB at most."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(max(memory // 8, _LEAST), _MOST)


class Room:
    """A number of bytes that the claims of several threads stay below.

    A thread that still waits for more while it holds some cannot be waited for in turn: when all
    others wait, one goes on all the same. So nobody waits for ever, and a claim beyond the whole
    room is granted on its own.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._running = 0
        self._changed = Condition()

    @contextmanager
    def claim(self) -> Iterator[Callable[[int], None]]:
        """Give a function that takes so many bytes more; all are free again after the block."""
        held: list[int] = []

        def take(number: int) -> None:
            with self._changed:
                if held:
                    self._stop()
                self._changed.wait_for(lambda: self._fits(number))
                self._used += number
                self._running += 1
                held.append(number)

        try:
            yield take
        finally:
            with self._changed:
                self._used -= sum(held)
                if held:
                    self._stop()

    def _fits(self, number: int) -> bool:
        return not self._running or self._used + number <= self._size

    def _stop(self) -> None:
        self._running -= 1
        self._changed.notify_all()
