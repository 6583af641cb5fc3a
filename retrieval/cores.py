"""Work spread over the cores: one thread a core, each running torch on that core alone.

Two threads that each take half of the items finish sooner than one call that splits every small
operation in two: measured 1.2 to 1.4 times for the towers and for a training step on two cores.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def map_on_cores(function: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """Return `[function(part) for part in parts]`, computed with one part a core at a time.

    A single part is computed here, by as many threads as torch uses.
    """
    cores = torch.get_num_threads()
    if len(parts) < 2 or cores < 2:
        return [function(part) for part in parts]
    return list(_pool(cores).map(function, parts))


@cache
def _pool(cores: int) -> ThreadPoolExecutor:
    pool, started = ThreadPoolExecutor(cores, "core"), Barrier(cores)

    def start() -> None:
        torch.get_num_threads()  # a new thread takes over the number of all at its first question
        torch.set_num_threads(1)
        started.wait()

    for job in [pool.submit(start) for _ in range(cores)]:
        job.result()
    torch.set_num_threads(cores)  # what they have set holds for later threads too
    return pool
