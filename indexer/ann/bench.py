"""Measure a library of made-up embeddings: `python -m rwkvsearch.indexer.ann.bench --rows 100000`.

Everything is timed in one run, so that ratios mean something on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select, update

from rwkvsearch.indexer.ann.build import Trial, ann_recall, make_trial
from rwkvsearch.indexer.ann.file import import_faiss
from rwkvsearch.indexer.ann.generation import Generation, open_generation
from rwkvsearch.indexer.ann.kinds import Kind, choose_kind
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.ann.synthetic import (
    MODEL,
    PREPROCESSING,
    Synthetic,
    enter_images,
    fill,
    root_of,
)
from rwkvsearch.indexer.blocks import Floats, blocks, newest_embedding
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.search import SearchIndex
from rwkvsearch.indexer.tables import FileRow, ImageRow

Query = Callable[[Floats], object]
Times = NDArray[np.float64]
"""`[queries, 2]`: seconds on the wall and seconds of the processor."""

_QUERIES = 100
_SHARES = (0.5, 0.1, 0.01)


def main() -> None:
    """Print what is measured, one fact a line, as it is measured."""
    asked = argparse.ArgumentParser(prog="python -m rwkvsearch.indexer.ann.bench")
    asked.add_argument("--rows", type=int, default=100_000)
    asked.add_argument("--dim", type=int, default=640)
    asked.add_argument("--kind", type=Kind.parse, help="faiss type; default: that of the size")
    asked.add_argument(
        "--folder",
        type=Path,
        help="keep the library here, or go on with the one there: nothing is built twice",
    )
    options = asked.parse_args()
    with TemporaryDirectory() as temporary:
        source = Synthetic(options.dim)
        with Library.create(options.folder or Path(temporary)) as library:
            for name, value in measure(library, source, options.rows, options.kind):
                sys.stdout.write(f"{name:<34}{value}\n")
                sys.stdout.flush()


def measure(
    library: Library, source: Synthetic, rows: int, kind: Kind | None
) -> Iterator[tuple[str, str]]:
    """Names and figures; the library is filled if it is new."""
    if not library.models():
        seconds = _seconds(lambda: fill(library, source, rows, _QUERIES))
        yield "fill", f"{seconds:.1f} s, {rows / seconds:,.0f} rows/s"
    model = library.models()[0]
    if kind:
        with library.write() as session:
            choose_kind(session, model, kind)
    yield (
        "build, measure, publish",
        f"{_seconds(lambda: publish(library, model)):.1f} s",
    )
    yield "memory, at its peak so far", f"{_peak():,} MB"
    yield "publish, nothing to do", f"{_seconds(lambda: publish(library, model)):.2f} s"
    generation = open_generation(library, model)
    if generation is None:
        return
    ann = generation.ann
    yield "kind", f"{ann.kind} {json.dumps(ann.search)}"
    yield "file", f"{generation.path.stat().st_size / ann.index.ntotal:.0f} bytes a vector"
    opened = [_seconds(lambda: SearchIndex.open(library, MODEL, PREPROCESSING)) for _ in range(5)]
    yield "open", f"{1e3 * float(np.median(opened)):.0f} ms"
    yield from _queries(library, model, generation)
    yield from _changes(library, model, source)


def _queries(
    library: Library, model: ModelInfo, generation: Generation
) -> Iterator[tuple[str, str]]:
    with library.read() as session:
        upto = newest_embedding(session, model)
    trial = make_trial(library, model, upto, _QUERIES, 10)
    images, texts = ann_recall(generation.ann, trial)
    yield "ann_recall@10, images / texts", f"{images:.4f} / {texts or 0:.4f}"
    index = SearchIndex.open(library, MODEL, PREPROCESSING)
    ours = _times(lambda q: index.search(q, 10), trial)
    yield "query, from end to end", _milliseconds(ours)
    file = _times(lambda q: generation.ann.propose(q, 10), trial)
    yield "query, the file alone", _milliseconds(file)
    for share in _SHARES:
        allowed = np.random.default_rng(0).permutation(generation.ann.ids)
        allowed = allowed[: round(share * len(allowed))]
        index.search(trial.queries[:1], 10, allowed)
        times = _times(partial(index.search, k=10, among=allowed), trial, 20)
        found = index.search(trial.queries[:20], 10, allowed)[1]
        right = index.search(trial.queries[:20], 10, allowed, exact=True)[1]
        same = np.mean([np.isin(a, b).mean() for a, b in zip(right, found, strict=True)])
        yield f"query among {share:.0%}", f"{_milliseconds(times)}, ann_recall@10 {same:.3f}"
    yield "memory, at its peak so far", f"{_peak():,} MB"
    flat = _times(_flat(library, model), trial, 50)
    yield "query, Flat in memory", _milliseconds(flat)
    for name, times in (("from end to end", ours), ("the file alone", file)):
        wall, processor = np.median(flat, axis=0) / np.median(times, axis=0)
        yield f"Flat / {name}", f"{wall:.0f} times, by processor time {processor:.0f} times"


def _changes(library: Library, model: ModelInfo, source: Synthetic) -> Iterator[tuple[str, str]]:
    new, image_id = source.images(1, 2**50), _newest_image(library) + 1
    seconds = _seconds(lambda: enter_images(library, root_of(library), model.key, image_id, new))
    yield "insert one", f"{1e3 * seconds:.1f} ms"
    index = SearchIndex.open(library, MODEL, PREPROCESSING)
    yield "found after it", str(index.search(new, 1)[1][0, 0] == image_id)
    gone = update(FileRow).where(FileRow.image_id == image_id).values(gone_at=time.time())

    def delete() -> None:
        with library.write() as session:
            session.execute(gone)

    yield "delete one", f"{1e3 * _seconds(delete):.1f} ms"
    yield "found after it", str(index.search(new, 1)[1][0, 0] == image_id)


def _newest_image(library: Library) -> int:
    with library.read() as session:
        return session.scalar(select(func.max(ImageRow.id))) or 0


def _flat(library: Library, model: ModelInfo) -> Query:
    index = import_faiss().IndexFlatIP(model.dim)
    for _, embeddings in blocks(library, model, live=True):
        index.add(embeddings.astype(np.float32))
    import_faiss().omp_set_num_threads(1)  # as fast as two with one query, and steadier
    return lambda query: index.search(query, 10)


def _times(search: Query, trial: Trial, number: int = 2 * _QUERIES) -> Times:
    for query in trial.queries[:5]:
        search(query[None])
    return np.array([_both(partial(search, query[None])) for query in trial.queries[:number]])


def _both(function: Callable[[], object]) -> tuple[float, float]:
    cpu = time.thread_time()
    seconds = _seconds(function)
    return seconds, time.thread_time() - cpu


def _milliseconds(times: Times) -> str:
    p50, p99 = 1e3 * np.percentile(times[:, 0], [50, 99])
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, processor {1e3 * np.median(times[:, 1]):.2f} ms"


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _peak() -> int:
    with Path("/proc/self/status").open() as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before faiss is imported
    main()
