"""How long an answer takes: whole commands in new processes, by a daemon, and in one process."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.retrieval.engine import SearchEngine
from rwkvsearch.retrieval.index_speed import SAMPLES
from rwkvsearch.retrieval.models import home_folder
from rwkvsearch.retrieval.speed_times import Json, Tell, Times, latencies, percentiles
from rwkvsearch.ui.daemon_client import start, stop

_PATIENCE, _LEAST = 60.0, 3
"""Seconds after which no further round of new processes is begun, and the rounds there are."""
_SCRIPT = "from rwkvsearch.ui.main import main; main()"


@dataclass(frozen=True)
class Asking:
    """With which model is asked: `rounds` new processes of each kind, and so many `queries`."""

    model: str
    device: str
    rounds: int = 5
    queries: int = 100


def measure_queries(asking: Asking, tell: Tell) -> Json:
    """Index the sample photographs into a home in a temporary folder, and ask; milliseconds.

    `cold` are new processes, with some that do nothing beside them; `daemon` the same
    commands answered by a daemon; `warm` calls in this process. Words are new ones each time, but
    for those in the cache.

    Raises:
        RwkvSearchError: a command fails; with the last line that it wrote.
    """
    with _own_home() as home:
        options = ["--model", asking.model, "--device", asking.device]
        tell("queries: indexing the sample photographs")
        _command(["-c", _SCRIPT, "index", str(SAMPLES), *options])
        ask = ["-c", _SCRIPT, "query", *options]
        _command([*ask, "known"])
        found = {"cold": _cold(ask, asking.rounds, tell)}
        tell("queries to a daemon")
        found["daemon"] = _by_daemon(ask, asking.queries)
        tell("queries in one process")
        return found | {"warm": _warm(home, asking)}


@contextmanager
def _own_home() -> Iterator[Path]:
    """A home and a place for a daemon's socket in a temporary folder, with the user's models."""
    with TemporaryDirectory(prefix="rwkvsearch-") as temporary:
        home, before = Path(temporary) / "home", dict(os.environ)
        home.mkdir()
        for name in ("models", "engines"):
            if (there := home_folder().absolute() / name).is_dir():
                (home / name).symlink_to(there)
        os.environ |= {"RWKVSEARCH_HOME": str(home), "XDG_RUNTIME_DIR": temporary}
        try:
            yield home
        finally:
            os.environ.clear()
            os.environ.update(before)


def _cold(ask: list[str], rounds: int, tell: Tell) -> Json:
    """New processes in turn, so that all meet the same load."""
    commands: dict[str, Callable[[int], list[str]]] = {
        "python_alone": lambda _: ["-c", "pass"],
        "import_torch": lambda _: ["-c", "import torch"],
        "help": lambda _: ["-c", _SCRIPT, "--help"],
        "new_words": lambda number: [*ask, f"new {number}"],
        "words_in_the_cache": lambda _: [*ask, "known"],
    }
    times = {name: Times() for name in commands}
    until = time.perf_counter() + _PATIENCE
    for number in range(rounds):
        if number >= _LEAST and time.perf_counter() > until:
            break
        tell(f"queries in new processes, round {number + 1} of {rounds}")
        for name, command in commands.items():
            times[name].add(*_command(command(number)))
    return {name: percentiles(each) for name, each in times.items()}


def _by_daemon(ask: list[str], queries: int) -> Json:
    found: Json = {}
    start()
    try:
        _command([*ask, "first"])
        for name, words in (("new_words", "warm {}"), ("words_in_the_cache", "known")):
            before, times = start(), Times()
            for number in range(queries):
                times.add(*_command([*ask, words.format(number)]))
            after = start()
            busy = after["processor_seconds"] - before["processor_seconds"]
            found[name] = percentiles(times) | {
                "answered_by_the_daemon": after["answered"] - before["answered"],
                "its_processor_ms": round(1e3 * busy / queries, 1),
            }
    finally:
        stop()
    return found


def _warm(home: Path, asking: Asking) -> Json:
    """Queries by words and by pictures to an engine that is open."""
    pictures = sorted(SAMPLES.glob("*.jpg"))
    with SearchEngine.open(home, model=asking.model, device=asking.device) as engine:
        engine.warm()
        words = [partial(engine.query, f"a red {n} in the snow") for n in range(asking.queries)]
        shown = [partial(engine.query_image, picture) for picture in pictures]
        return {"new_words": latencies(words, 1), "pictures": latencies(shown, asking.rounds)}


def _command(arguments: list[str]) -> tuple[float, float]:
    """Seconds of a process from its start to its end: on the clock, and of the processor."""
    before, began = _children(), time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise RwkvSearchError(f"a command of the measurement failed: {lines[-1] if lines else '?'}")
    return time.perf_counter() - began, _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
