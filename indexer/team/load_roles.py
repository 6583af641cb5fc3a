"""One writer or one reader of `load`, in a process of its own, which prints what it has met."""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import RwkvSearchError, ServerGone
from rwkvsearch.indexer.address import place_of
from rwkvsearch.indexer.benchmark import Free, tiny_png
from rwkvsearch.indexer.filters import Filters, images_passing
from rwkvsearch.indexer.freshness import open_freshness
from rwkvsearch.indexer.indexes import open_index
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import SyncOptions, sync

SHARED = 400
"""Pictures that every writer may hold a copy of; the others are its own."""
_LARGEST = 300  # pictures of one writer at a time
_PAUSE = 0.5  # seconds between two tries while the server is down


@dataclass(frozen=True)
class Texts(Free):
    """As `Free`, with embeddings of texts."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Others for each text."""
        rows = [np.random.default_rng([*text.encode()]).standard_normal(self.dim) for text in texts]
        values = np.array(rows, np.float32).reshape(-1, self.dim)
        unit: NDArray[np.float32] = values / np.linalg.norm(values, axis=1, keepdims=True)
        return unit


@dataclass
class Met:
    """What one process has met: seconds by what was done, errors, and what was not as it has to be.

    `outages` counts what failed because the server was down.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    outages: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Measure a block, if it ends well."""
        began = time.perf_counter()
        yield
        self.seconds[what].append(time.perf_counter() - began)

    def expect(self, holds: bool, what: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.wrong.append(what)


class Writer:
    """Changes pictures and texts in a folder of its own and syncs it, again and again.

    After each sync a file beside the folder says what was acknowledged: the picture of each file.
    """

    def __init__(self, address: str, folder: Path, number: int, met: Met) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._address = address
        self._folder = folder
        self._draw = random.Random(number)
        self._met = met
        self._holds: dict[str, int] = {}
        self._known: set[str] = set()

    def run(self, until: float) -> None:
        """Until the time has come and all is acknowledged; goes on where it was when run again."""
        while time.time() < until or self._known != self._holds.keys():
            if self._known == self._holds.keys():
                self._change()
            self._sync()

    def _change(self) -> None:
        draw, holds = self._draw, self._holds
        for name in draw.sample(sorted(holds), len(holds) // 8 if len(holds) > 50 else 0):
            (self._folder / name).unlink()
            (self._folder / name).with_suffix(".txt").unlink(missing_ok=True)
            del holds[name]
        for _ in range(draw.randrange(5, 40) if len(holds) < _LARGEST else 0):
            seed = draw.randrange(SHARED) if draw.random() < 0.4 else draw.randrange(10**9)
            path = self._folder / f"{seed:010}-{draw.randrange(10**6):06}.png"
            path.write_bytes(tiny_png(seed))
            if draw.random() < 0.5:
                path.with_suffix(".txt").write_text(f"one of {seed % 50} things")
            holds[path.name] = seed

    def _sync(self) -> None:
        met, options = self._met, SyncOptions(workers=1, batch_size=16)
        kept = self._known & self._holds.keys()
        with met.timed("sync"), Library.open(place_of(self._address)) as library:
            report = sync(library, [self._folder], Texts(), options)
        met.counts["embedded"] += report.added
        met.counts["syncs"] += 1
        met.expect(not report.errors, f"bad files: {report.errors[:1]}")
        lost = len(kept) - report.unchanged
        met.expect(lost <= 0, f"{lost} files that were acknowledged were not known any more")
        self._known = set(self._holds)
        self._folder.with_suffix(".json").write_text(json.dumps(self._holds))


def read(address: str, number: int, until: float, met: Met) -> None:
    """Search, with and without filters, in an index that is opened anew as the library changes."""
    draw = np.random.default_rng(1000 + number)
    with Library.open(place_of(address)) as library:
        freshness = open_freshness(library.place)
        state, index = None, None
        while time.time() < until:
            if index is None or state != freshness.state():
                state = freshness.state()
                if not library.models():
                    time.sleep(0.1)
                    continue
                with met.timed("open the index"):
                    model = library.models()[0]
                    index = open_index(library, model.model_id, model.preprocessing_id)
            query = np.abs(draw.standard_normal((1, index.model.dim))).astype(np.float32)
            among = None
            if draw.random() < 0.3:
                with met.timed("filter"), library.read() as session:
                    among = images_passing(session, Filters(globs=("*7*.png",), captioned=True))
            with met.timed("search" if among is None else "search of a filter"):
                scores, ids = index.search(query, 10, among)
            with met.timed("paths"):
                paths = library.paths_of(ids[0].tolist())
            met.counts["searches"] += 1
            met.expect(bool((np.diff(scores[0]) <= 0).all()), "scores out of order")
            met.expect(len(set(ids[0].tolist())) == ids.shape[1], "an image twice in one answer")
            if among is not None:
                met.expect(bool(np.isin(ids[0], among).all()), "an image the filter leaves out")
            met.counts["hits with a path"] += len(paths)
            if draw.random() < 0.02:
                with met.timed("stats"):
                    library.stats()


def content(seed: int) -> str:
    """The content hash of a picture."""
    return hashlib.sha256(tiny_png(seed)).hexdigest()


def endure(work: Callable[[], None], until: float, met: Met) -> None:
    """Go on with `work` until it ends, through outages and errors."""
    while True:
        try:
            work()
            return
        except ServerGone:
            met.outages += 1
        except RwkvSearchError as error:
            met.errors.append(str(error))
        if time.time() > until + 120:
            met.errors.append("given up two minutes after the end")
            return
        time.sleep(_PAUSE)


def main() -> None:
    """`writer ADDRESS FOLDER NUMBER UNTIL` or `reader ADDRESS - NUMBER UNTIL`."""
    role, address, folder, number, until = sys.argv[1:]
    met, end = Met(), float(until)
    if role == "writer":
        writer = Writer(address, Path(folder), int(number), met)
        endure(lambda: writer.run(end), end, met)
    else:
        endure(lambda: read(address, int(number), end, met), end, met)
    said: dict[str, Any] = {
        "role": role,
        "seconds": met.seconds,
        "errors": met.errors,
        "wrong": met.wrong,
        "outages": met.outages,
        "counts": met.counts,
    }
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
