"""How long an answer takes, all measured in one run: `python -m rwkvsearch.ui.latency`.

Whole commands against `python -c "import torch"`, queries to a daemon, and the engine alone over
made-up embeddings. Beside the clock on the wall the time of the processors is shown, which other
work on the machine changes less; what can be compared are the ratios of one run.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import update

from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.ann.synthetic import MODEL, PREPROCESSING, TEXT_PART, Synthetic, fill
from rwkvsearch.indexer.filters import Filters
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import ImageRow
from rwkvsearch.retrieval.engine import SearchEngine
from rwkvsearch.retrieval.models import ModelCard
from rwkvsearch.retrieval.query import Query, Term
from rwkvsearch.ui.daemon_client import start, stop

SAMPLES = Path(__file__).parents[1] / "data" / "samples" / "photos"
FILTERS = {
    "none": Filters(),
    "1 % by date": Filters(after="2019", before="2019"),
    "1 % by name": Filters(globs=("*00.png",)),
}
_SCRIPT = "from rwkvsearch.ui.main import main; main()"
_WIDTH = 38

Row = tuple[str, str]
Times = NDArray[np.float64]
"""`[n, 2]`: seconds on the wall and seconds of the processors."""


@dataclass(frozen=True)
class MadeUp:
    """In the place of a model: texts become made-up embeddings, and there are no pictures."""

    source: Synthetic
    model_id: str = MODEL
    preprocessing_id: str = PREPROCESSING
    image_size: int = 1
    card: ModelCard = ModelCard(MODEL, "0" * 64, "", {}, "made up", "none")

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """`[B, D]`."""
        return self.source.texts(len(texts), TEXT_PART + 1)

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """There are none."""
        raise NotImplementedError

    encode_patches = encode_images


def main() -> None:
    """Print what is measured, one fact a line, as it is measured."""
    asked = argparse.ArgumentParser(prog="python -m rwkvsearch.ui.latency", description=__doc__)
    asked.add_argument("--pictures", type=Path, default=SAMPLES, help="folder to index and ask for")
    asked.add_argument("--rounds", type=int, default=5, help="runs of each whole command")
    asked.add_argument("--queries", type=int, default=100, help="to the daemon and to the engine")
    asked.add_argument("--rows", type=int, nargs="*", default=[1_000, 100_000])
    asked.add_argument("--full", action="store_true", help="with 1,000,000 embeddings as well")
    asked.add_argument("--folder", type=Path, help="keep the libraries here, or use those there")
    options = asked.parse_args()
    sizes = [*options.rows, *([1_000_000] if options.full else [])]
    with TemporaryDirectory(prefix="rwkvsearch-") as temporary:
        folder = options.folder or Path(temporary)
        os.environ["RWKVSEARCH_HOME"] = str(Path(temporary) / "home")
        os.environ["XDG_RUNTIME_DIR"] = temporary  # not the user's daemon
        _tell(("cores, load", f"{os.cpu_count()}, {' '.join(f'{n:.1f}' for n in os.getloadavg())}"))
        if options.rounds:
            for row in commands(options.pictures, options.rounds, options.queries):
                _tell(row)
        for rows in sizes:
            with Library.create(folder / str(rows)) as library:
                for row in engine(library, rows, options.queries):
                    _tell(row)


def commands(pictures: Path, rounds: int, queries: int) -> Iterator[Row]:
    """Whole commands, without a daemon and with one."""
    _seconds_of(["-c", _SCRIPT, "index", str(pictures)])
    ask = ["-c", _SCRIPT, "query"]
    _seconds_of([*ask, "known"])
    cold: dict[str, Callable[[int], list[str]]] = {
        "import torch": lambda _: ["-c", "import torch"],
        "python": lambda _: ["-c", "pass"],
        "--help": lambda _: ["-c", _SCRIPT, "--help"],
        "cold query, new words": lambda number: [*ask, f"new {number}"],
        "cold query, words in the cache": lambda _: [*ask, "known"],
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in cold}
    for number in range(rounds):  # in turns, so that all meet the same load
        for name, command in cold.items():
            times[name].append(_seconds_of(command(number)))
    torch = np.median(times["import torch"], axis=0)
    for name, found in times.items():
        yield name, f"{_both(np.array(found))}, {_ratio(np.median(found, axis=0), torch)} torch"
    yield from warm(ask, queries, torch)


def warm(ask: list[str], queries: int, torch: Times) -> Iterator[Row]:
    """The same commands, answered by a daemon."""
    start()
    try:
        _seconds_of([*ask, "first"])
        for name, words in (("words in the cache", "known"), ("new words", "warm {}")):
            before = start()
            found = np.array([_seconds_of([*ask, words.format(n)]) for n in range(queries)])
            after = start()
            yield (
                f"warm query, {name}",
                f"{_both(found)}, {_ratio(np.median(found, axis=0), torch)} torch",
            )
            answered = after["answered"] - before["answered"]
            each = 1e3 * (after["processor_seconds"] - before["processor_seconds"]) / queries
            yield "", f"{answered} of {queries} by the daemon, its processor {each:.1f} ms each"
    finally:
        stop()


def engine(library: Library, rows: int, queries: int) -> Iterator[Row]:
    """`SearchEngine.run` over so many made-up embeddings, with and without a filter."""
    source = Synthetic()
    if not library.models():
        fill(library, source, rows)
        with library.write() as session:
            dated = update(ImageRow).where(ImageRow.id % 100 == 0)
            session.execute(dated.values(taken_at="2019-06-30T12:00:00"))
        publish(library, library.models()[0])
    began = time.perf_counter()
    opened = SearchEngine(library, MadeUp(source))
    yield f"{rows:,}: open", f"{1e3 * (time.perf_counter() - began):.0f} ms"
    terms = [(Term(embedding=row),) for row in source.texts(queries, TEXT_PART)]
    plain: Times | None = None
    for name, filters in FILTERS.items():
        opened.run(Query(terms[0], filters=filters))
        asked = [Query(term, filters=filters) for term in terms]
        found = np.array([_timed(partial(opened.run, query)) for query in asked])
        plain = found if plain is None else plain
        ratio = _ratio(np.median(found, axis=0), np.median(plain, axis=0))
        yield f"{rows:,}: query, filter {name}", f"{_both(found)}, {ratio} without"


def _timed(function: Callable[[], object]) -> tuple[float, float]:
    began, busy = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - began, time.process_time() - busy


def _seconds_of(arguments: list[str]) -> tuple[float, float]:
    """Of a process of its own, from its start to its end."""
    before, began = _children(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    return time.perf_counter() - began, _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _both(times: Times) -> str:
    p50, p99 = 1e3 * np.percentile(times[:, 0], [50, 99])
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, processor {1e3 * np.median(times[:, 1]):.1f} ms"


def _ratio(times: Times, to: Times) -> str:
    wall, processor = times / to
    return f"{wall:.2f} (processor {processor:.2f}) x"


def _tell(row: Row) -> None:
    name, value = row
    sys.stdout.write(f"{name:<{_WIDTH}}{value}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch and faiss are imported
    main()
