"""A real `rwkvsearch serve` as a process of its own, and what it uses while it is measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import numpy as np

from rwkvsearch.ui.web_load import get

_PATIENCE = 180.0  # seconds, until the model is loaded
_PAGES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """A running server. Memory and processor time are read from `/proc`."""

    address: str
    process: subprocess.Popen[str]
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start of `watched`, megabytes that are resident."""

    def megabytes(self) -> float:
        """Resident memory now."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * _PAGES / 1e6

    def processor(self) -> float:
        """Seconds of processors so far."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / _TICKS

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note its memory each second."""
        self.memory, stop, began = [], Event(), time.monotonic()

        def watch() -> None:
            while not stop.wait(1):
                self.memory.append((time.monotonic() - began, self.megabytes()))

        thread = Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@contextmanager
def served(library: Path) -> Iterator[Server]:
    """A server of a library at a free port, ready to answer.

    Raises:
        RuntimeError: it has ended, or is not ready in time.
    """
    script = "from rwkvsearch.ui.main import main; main()"
    command = [sys.executable, "-c", script, "serve", "--library", str(library), "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        said = re.search(r"http://[^/]+", process.stdout.readline())
        if said is None:
            raise RuntimeError(f"the server of {library} did not start: {' '.join(command)}")
        _await(said[0])
        yield Server(said[0], process)
    finally:
        process.terminate()
        process.wait()


def slope(memory: list[tuple[float, float]]) -> float:
    """Megabytes a minute by which memory grows, once the first quarter of the time is over."""
    times, megabytes = np.array(memory).T
    late = times >= times[-1] / 4
    return float(60 * np.polyfit(times[late], megabytes[late], 1)[0])


def _await(address: str) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with suppress(OSError):
            if get(address, "/api/v1/health")["status"] == "ready":
                return
        time.sleep(0.2)
    raise RuntimeError(f"{address} was not ready after {_PATIENCE:g} seconds")
