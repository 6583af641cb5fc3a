"""Contenders timed in turn, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Json = dict[str, Any]
Run = Callable[[], object]
Tell = Callable[[str], None]
"""Told what is being measured."""


@dataclass(frozen=True)
class Effort:
    """Rounds of a comparison: as many as fit into `seconds`, but at least `least`."""

    seconds: float = 12.0
    least: int = 3
    most: int = 50


@dataclass
class Times:
    """Seconds of each call: on the clock, and of the processor, all threads together."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def add(self, wall: float, processor: float) -> None:
        """Add a call."""
        self.wall.append(wall)
        self.processor.append(processor)


def race(runs: Sequence[Run], effort: Effort, wait: Run = lambda: None) -> list[Times]:
    """Time each of `runs` once a round, every other round in reverse; the first round warms up.

    `wait` returns when all that was asked of the device is done.
    """
    times = [Times() for _ in runs]
    began, turn = time.perf_counter(), 0
    while turn <= effort.least or (
        turn <= effort.most and time.perf_counter() - began < effort.seconds
    ):
        for at in range(len(runs))[:: -1 if turn % 2 else 1]:
            spent = timed(runs[at], wait)
            if turn:
                times[at].add(*spent)
        turn += 1
    return times


def timed(run: Run, wait: Run = lambda: None) -> tuple[float, float]:
    """Return the seconds of a call, on the clock and of the processor."""
    wait()
    wall, processor = time.perf_counter(), time.process_time()
    run()
    wait()
    return time.perf_counter() - wall, time.process_time() - processor


def latencies(runs: Sequence[Run], rounds: int, seconds: float = 15.0) -> Json:
    """Milliseconds of calls one after the other: percentiles of each round, and their spread.

    No round is begun after so many `seconds`; the first calls warm up.
    """
    for run in runs[:3]:
        run()
    until = time.perf_counter() + seconds
    found: list[list[float]] = []
    while not found or (len(found) < rounds and time.perf_counter() < until):
        times = 1e3 * np.array([timed(run) for run in runs])
        found.append([*np.percentile(times[:, 0], [50, 99]), np.median(times[:, 1])])
    names = ("p50_ms", "p99_ms", "processor_ms")
    columns = np.transpose(found).tolist()
    return {"queries": len(runs)} | dict(zip(names, map(spread, columns), strict=True))


def percentiles(times: Times) -> Json:
    """Milliseconds of single calls; fewer than 50 have no 99th percentile."""
    wall = 1e3 * np.array(times.wall)
    return {
        "queries": len(wall),
        "p50_ms": rounded(np.median(wall)),
        "p99_ms": rounded(np.percentile(wall, 99)) if len(wall) >= 50 else None,
        "lowest_ms": rounded(wall.min()),
        "highest_ms": rounded(wall.max()),
        "processor_ms": rounded(1e3 * statistics.median(times.processor)),
    }


def spread(values: Sequence[float]) -> Json:
    """Return the median of repetitions, the lowest, the highest, and how many there are."""
    found = [statistics.median(values), min(values), max(values)]
    median, low, high = (rounded(value) for value in found)
    return {"median": median, "low": low, "high": high, "rounds": len(values)}


def per_second(items: int, seconds: Sequence[float]) -> Json:
    """Return the spread of items a second."""
    return spread([items / each for each in seconds])


def ratio(ours: Sequence[float], others: Sequence[float]) -> Json:
    """Return the spread of how many times faster ours was, round by round."""
    return spread([b / a for a, b in zip(ours, others, strict=True)])


def rounded(value: float) -> float:
    """Return four significant digits of a figure; more were never measured."""
    return float(f"{value:.4g}")
