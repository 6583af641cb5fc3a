"""Work spread over the cores: one thread a core, each running torch on that core alone.

Two threads that each take half of the items finish sooner than one call that splits every small
operation in two: measured 1.2 to 1.4 times for the towers and for a training step on two cores.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier, Lock
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
_one_at_a_time = Lock()


def map_on_cores(function: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """Return `[function(part) for part in parts]`, computed with one part a core at a time.

    A single part is computed here, by as many threads as torch uses.
    """
    with _one_at_a_time:  # while a pool starts, torch gives every new thread one core
        cores = torch.get_num_threads()
        pool = _pool(cores) if len(parts) > 1 and cores > 1 else None
    return list(pool.map(function, parts) if pool else map(function, parts))


@cache
def _pool(cores: int) -> ThreadPoolExecutor:
    pool, started = ThreadPoolExecutor(cores, "core"), Barrier(cores)

    def start() -> None:
        torch.get_num_threads()  # a new thread takes over the number of all at its first question
        torch.set_num_threads(1)
        started.wait()

    try:
        for job in [pool.submit(start) for _ in range(cores)]:
            job.result()
    finally:
        torch.set_num_threads(cores)  # what they have set holds for later threads too
    return pool
