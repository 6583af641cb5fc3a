"""Token buckets: how often a client may do something, in bounded memory."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_MOST_CLIENTS = 10_000


@dataclass
class _Bucket:
    left: float
    at: float


class Buckets:
    """`size` times at once, then `per_second`, for each client; all in the event loop's thread.

    When there are too many clients the one that was not seen for the longest time is forgotten.
    """

    def __init__(
        self, size: float, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._size = size
        self._per_second = per_second
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        """Clients that are remembered."""
        return len(self._buckets)

    def wait(self, client: str) -> int:
        """Whole seconds until `client` may again; 0: now."""
        bucket = self._filled(client)
        return 0 if bucket.left >= 1 else math.ceil((1 - bucket.left) / self._per_second)

    def take(self, client: str) -> int:
        """As `wait`, and if it may, count it."""
        seconds = self.wait(client)
        if not seconds:
            self._buckets[client].left -= 1
        return seconds

    def _filled(self, client: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.setdefault(client, _Bucket(self._size, now))
        bucket.left = min(self._size, bucket.left + (now - bucket.at) * self._per_second)
        bucket.at = now
        self._buckets.move_to_end(client)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return bucket
