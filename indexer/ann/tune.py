"""Choose the kind of ann by measuring the kinds on the library's own embeddings."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.ann.build import Trial, ann_recall, make_trial
from rwkvsearch.indexer.ann.generation import Built, Generation, enter
from rwkvsearch.indexer.ann.kinds import (
    EXACT,
    SMALL,
    TARGET,
    Kind,
    Search,
    candidates,
    choose_kind,
)
from rwkvsearch.indexer.ann.publish import make
from rwkvsearch.indexer.blocks import image_ids, newest_embedding
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.search import SearchIndex

_FOLDER = "tune"


@dataclass(frozen=True)
class Measured:
    """One kind: ann_recall@k of images and texts, and milliseconds of one query from end to end.

    `kind` is what was asked for, `factory` the file's FAISS string, `seconds` the time to build it.
    """

    kind: str
    factory: str
    search: Search
    seconds: float
    images: float
    texts: float | None
    p50: float
    p99: float
    bytes_per_vector: float

    @property
    def recall(self) -> float:
        """The lower one."""
        return self.images if self.texts is None else min(self.images, self.texts)


@dataclass(frozen=True)
class Tuning:
    """What was measured with `queries` images and `texts` texts, the kind `chosen`, and `why`."""

    model_id: str
    rows: int
    k: int
    queries: int
    texts: int
    target: float
    measured: list[Measured]
    chosen: str
    why: str


def tune(
    library: Library,
    model: ModelInfo,
    *,
    k: int = 10,
    queries: int = 200,
    kinds: Sequence[Kind] | None = None,
    target: float = TARGET,
    progress: Callable[[str], None] | None = None,
) -> Tuning:
    """Build every kind, measure it, keep the choice (`best_of_measured`) and publish with it.

    None for `kinds` compares all, and chooses the exact one below 20,000 rows. The queries are
    images of the library as if they were not in it, and as many texts where it has any. Search
    and index go on meanwhile; only the choice itself needs the library's writer to be free.

    Raises:
        LibraryError: another process is writing when the choice is made, no space is left, or the
            library lies in PostgreSQL.
    """
    if library.is_shared:
        raise LibraryError(
            f"{library.name} is searched by pgvector, whose index `index` builds and measures; "
            "only a library in a folder is tuned"
        )
    with library.read() as session:
        upto = newest_embedding(session, model)
        rows = len(image_ids(session, model, upto, live=True))
    say = progress or (lambda text: None)
    say("the exact answers")
    trial = make_trial(library, model, upto, queries, k)
    measured: list[Measured] = []
    only_exact = kinds is None and rows < SMALL
    with _workshop(library) as folder:
        best: Built | None = None
        for number, kind in enumerate(kinds or candidates(rows)):
            say(kind.factory(rows))
            began = time.monotonic()
            built = make(library, model, kind, upto, folder / f"{number}.faiss", trial, target)
            seconds = time.monotonic() - began
            measured.append(_measure(library, model, kind, built, trial, seconds))
            chosen, why = best_of_measured(measured, target, only_exact)
            worse = best if chosen is measured[-1] else built
            best = built if chosen is measured[-1] else best
            if worse is not None:
                worse.path.unlink()
        assert best is not None
        with library.writer():
            enter(library, model, best)
            with library.write() as session:
                choose_kind(session, model, Kind(chosen.kind))
    asked = len(trial.queries) - trial.texts
    return Tuning(model.model_id, rows, k, asked, trial.texts, target, measured, chosen.kind, why)


def best_of_measured(
    measured: Sequence[Measured], target: float, only_exact: bool = False
) -> tuple[Measured, str]:
    """The fastest one that reaches `target`; if none does, the one with the highest recall.

    With `only_exact` the exact one, if it is there. And why, in a few words.
    """
    if exact := [one for one in measured if only_exact and one.kind == EXACT]:
        return exact[0], f"exact, and fast enough below {SMALL:,} pictures"
    enough = [one for one in measured if one.recall >= target]
    if not enough:
        closest = max(measured, key=lambda one: one.recall)
        return closest, f"closest to an ann_recall of {target:g}, which none reaches"
    return min(enough, key=lambda one: one.p50), f"the fastest with ann_recall {target:g} or more"


def choose_model(library: Library, name: str | None) -> ModelInfo:
    """The model whose id is or begins with `name`; None: the one with the most embeddings.

    Raises:
        LibraryError: there is none.
    """
    present = library.models()
    fitting = [model for model in present if name is None or model.model_id.startswith(name)]
    if not present:
        raise LibraryError(
            f"the library at {library.name} is empty; fill it with `rwkvsearch index PATH`"
        )
    if not fitting:
        names = ", ".join(model.model_id for model in present)
        raise LibraryError(f"this library was indexed with {names}, not with {name}")
    return max(fitting, key=lambda model: model.embeddings)


def _measure(
    library: Library, model: ModelInfo, kind: Kind, built: Built, trial: Trial, seconds: float
) -> Measured:
    ann = built.ann
    generation = Generation(ann, built.path, built.upto, np.empty(0, np.int64))
    images, texts = ann_recall(ann, trial)
    p50, p99 = time_queries(SearchIndex(library, model, generation), trial)
    size = built.path.stat().st_size / max(ann.index.ntotal, 1)
    return Measured(kind.name, ann.kind, ann.search, seconds, images, texts, p50, p99, size)


def time_queries(index: SearchIndex, trial: Trial) -> tuple[float, float]:
    """p50 and p99 of one query at a time, in milliseconds, after a few to warm up."""
    for query in trial.queries[:5]:
        index.search(query[None], trial.k)
    times = []
    for query in trial.queries:
        began = time.perf_counter()
        index.search(query[None], trial.k)
        times.append(1e3 * (time.perf_counter() - began))
    return float(np.percentile(times, 50)), float(np.percentile(times, 99))


def left_by_tune(library: Library) -> list[Path]:
    """Files of a killed `tune`; none while one is at work."""
    folder = library.path / _FOLDER
    try:
        with (folder / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return [path for path in folder.iterdir() if path.name != "lock"]
    except OSError:
        return []


def remove_left_by_tune(library: Library) -> None:
    """Remove them, and the folder."""
    if left_by_tune(library):
        with _workshop(library):
            pass


@contextmanager
def _workshop(library: Library) -> Iterator[Path]:
    """A folder for candidates, for one process at a time; nothing of it is left afterwards."""
    folder = library.path / _FOLDER
    try:
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                for path in folder.glob("*.faiss"):  # of a killed one
                    path.unlink()
                yield folder
            finally:
                shutil.rmtree(folder)
    except BlockingIOError as error:
        raise LibraryError(f"another rwkvsearch tune is at work in {library.name}") from error
    except OSError as error:
        raise LibraryError(f"cannot write to {folder}: {error.strerror}") from error
