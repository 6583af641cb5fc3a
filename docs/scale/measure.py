"""Build and search one large ann of made-up embeddings, a shard at a time: the inputs of scale.py.

    python docs/scale/measure.py --rows 1000000 --clusters 632 --folder /tmp/scale

What `rwkvsearch index` would build, by the same factory string and settings, but in shards that are
merged on the disk, so that memory holds one of them. A run that was stopped goes on where it was.
Times are of the processor, of one thread: `bit` is IVF,RaBitQ beside it, with the same cells.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ |= {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import numpy as np  # noqa: E402

from rwkvsearch.indexer.ann.build import Trial, ann_recall  # noqa: E402
from rwkvsearch.indexer.ann.file import AnnFile, import_faiss  # noqa: E402
from rwkvsearch.indexer.ann.kinds import Kind, cells  # noqa: E402
from rwkvsearch.indexer.ann.synthetic import TEXT_PART, Synthetic  # noqa: E402
from rwkvsearch.indexer.blocks import BLOCK, Floats  # noqa: E402

faiss: Any = import_faiss()
DIM, K, QUERIES = 640, 10, 100
ROUNDS = 3  # of searches; the quietest counts
KINDS = {"byte": "SQ8", "bit": "RaBitQ"}


@dataclass(frozen=True)
class Run:
    """`rows` in `clusters` (0: 2,000), in shards of `blocks` blocks; all or the `first` of them."""

    rows: int
    clusters: int
    folder: Path
    first: int | None = None
    blocks: int = 32

    @property
    def source(self) -> Synthetic:
        """Where the embeddings come from."""
        return Synthetic(DIM, self.clusters or 2000)

    @property
    def shards(self) -> range:
        """The numbers of the shards."""
        return range(-(-self.rows // (self.blocks * BLOCK)))[: self.first]

    @property
    def there(self) -> int:
        """How many rows the shards have together."""
        return min(self.rows, len(self.shards) * self.blocks * BLOCK)

    def file(self, name: str) -> Path:
        """Of all its shards together."""
        return self.folder / f"{len(self.shards)}-{name}"

    def block(self, source: Synthetic, start: int) -> Floats:
        """The rows from `start` on, as the library keeps them."""
        rows = source.images(min(BLOCK, self.rows - start), start)
        return rows.astype("<f2").astype(np.float32)

    def queries(self, source: Synthetic) -> tuple[Floats, int]:
        """The first images of the last block and as many texts; the id of the first image."""
        last = (self.rows - 1) // BLOCK * BLOCK
        asked = np.concatenate(
            [self.block(source, last)[:QUERIES], source.texts(QUERIES, TEXT_PART)]
        )
        return asked / np.linalg.norm(asked, axis=1, keepdims=True), last


def train(run: Run) -> None:
    """The empty indexes of both kinds, with the same cells."""
    source, count = run.source, cells(run.rows)
    number = max(16 * count, BLOCK)
    parts = [run.block(source, at) for at in range(0, min(number, run.rows), BLOCK)]
    rows = np.concatenate(parts)[:number]
    byte = faiss.index_factory(DIM, f"IVF{count},SQ8", faiss.METRIC_INNER_PRODUCT)
    byte.cp.min_points_per_centroid = 1
    spent = _spent(lambda: byte.train(rows))
    bit = faiss.index_factory(DIM, f"IVF{count},RaBitQ", faiss.METRIC_INNER_PRODUCT)
    bit.quantizer.add(byte.quantizer.reconstruct_n(0, count))
    bit.train(rows[:BLOCK])
    faiss.write_index(bit, str(run.folder / "bit.trained"))
    faiss.write_index(byte, str(run.folder / "byte.trained"))
    _keep(run.folder / "train.json", {"train": spent, "cells": count})


def shard(run: Run, number: int) -> None:
    """Add one shard to an empty index of each kind, and find the exact answers within it."""
    done = run.folder / f"{number}.json"
    if done.exists():
        return
    source = run.source
    asked, _ = run.queries(source)
    indexes = {name: faiss.read_index(str(run.folder / f"{name}.trained")) for name in KINDS}
    spent = dict.fromkeys(["make", "assign", "truth", *KINDS], 0.0)
    best = np.empty((len(asked), 0), np.float32)
    best_ids = np.empty((len(asked), 0), np.int64)
    first, after = (min(n * run.blocks * BLOCK, run.rows) for n in (number, number + 1))
    for start in range(first, after, BLOCK):
        clock = time.process_time()
        rows = run.block(source, start)
        ids = np.arange(start, start + len(rows))
        clock = _tick(spent, "make", clock)
        _, cell = indexes["byte"].quantizer.search(rows, 1)
        clock = _tick(spent, "assign", clock)
        for name, index in indexes.items():
            pointers = map(faiss.swig_ptr, (rows, ids, cell))
            index.add_core(len(rows), *pointers)
            clock = _tick(spent, name, clock)
        scores = np.concatenate([best, asked @ rows.T], axis=1)
        every = np.concatenate([best_ids, np.broadcast_to(ids, (len(asked), len(ids)))], axis=1)
        at = np.argpartition(-scores, K + 1, axis=1)[:, : K + 2]
        best, best_ids = np.take_along_axis(scores, at, 1), np.take_along_axis(every, at, 1)
        _tick(spent, "truth", clock)
    for name, index in indexes.items():
        faiss.write_index(index, str(run.folder / f"{number}.{name}"))
    np.savez(run.folder / f"{number}.npz", scores=best, ids=best_ids)
    _keep(done, spent | {"rows": after - first, "peak_mb": _status("VmHWM")})


def merge(run: Run, name: str) -> None:
    """One file of all shards, list by list, without holding them in memory."""
    if run.file(f"{name}.faiss").exists():
        return
    parts = [
        faiss.read_index(str(run.folder / f"{n}.{name}"), faiss.IO_FLAG_MMAP) for n in run.shards
    ]
    lists = faiss.InvertedListsPtrVector()
    for part in parts:
        lists.push_back(part.invlists)
    inner = faiss.read_index(str(run.folder / f"{name}.trained"))
    index = faiss.IndexIDMap(inner)
    target = str(run.file(f"{name}.lists"))
    merged = faiss.OnDiskInvertedLists(inner.nlist, inner.code_size, target)
    spent = _spent(lambda: merged.merge_from_multiple(lists.data(), lists.size()))
    inner.replace_invlists(merged)
    faiss.copy_array_to_vector(np.arange(run.there), index.id_map)
    inner.ntotal = index.ntotal = run.there
    faiss.write_index(index, str(run.file(f"{name}.faiss")))
    _keep(run.file(f"merge-{name}.json"), {f"merge {name}": spent})


def truth(run: Run) -> Trial:
    """The queries and the exact best 10 of each; an image does not find itself."""
    asked, first = run.queries(run.source)
    parts = [np.load(run.folder / f"{n}.npz") for n in run.shards]
    scores = np.concatenate([part["scores"] for part in parts], axis=1)
    ids = np.concatenate([part["ids"] for part in parts], axis=1)
    right = []
    for n, (row, row_ids) in enumerate(zip(scores, ids, strict=True)):
        other = row_ids != (first + n if n < QUERIES else -1)
        row, row_ids = row[other], row_ids[other]
        right.append(row_ids[row >= np.sort(row)[-K]])
    return Trial(asked, QUERIES, right, K)


def search(run: Run, name: str, trial: Trial) -> dict[str, Any]:
    """Recall, and processor milliseconds of a query, of each way to search it; memory after all."""
    before = _status("RssAnon")
    index = faiss.read_index(str(run.file(f"{name}.faiss")))
    inner = faiss.extract_index_ivf(index)
    ann = AnnFile(index, f"IVF{inner.nlist},{KINDS[name]}")
    whole = faiss.SearchParametersIVF(nprobe=inner.nlist)  # touches every page
    every = [_spent(lambda: inner.search(trial.queries[-1:], 26, params=whole)) for _ in range(3)]
    ways = []
    for way in Kind(f"IVF,{KINDS[name]}").searches():
        asked = replace(ann, search=way)
        images, texts = ann_recall(asked, trial)
        rounds = [_median(asked, trial) for _ in range(ROUNDS)]
        wall, processor = min(rounds, key=lambda one: one[1])
        found = {"images": images, "texts": texts, "ms": processor, "wall_ms": wall}
        ways.append(way | {key: round(float(value or 0), 4) for key, value in found.items()})
    sizes = [run.file(f"{name}.{end}").stat().st_size for end in ("faiss", "lists")]
    memory = {"mapped_mb": _status("RssFile"), "own_mb": _status("RssAnon") - before}
    return {"bytes": sum(sizes), "whole_ms": 1e3 * min(every), "ways": ways} | memory


def centres(count: int) -> float:
    """Processor seconds of a query beside `count` centres, after 10 MB of other data were read."""
    rows = np.random.default_rng(0).standard_normal((count + 4000, DIM), np.float32)
    index = faiss.IndexFlatIP(DIM)
    index.add(rows[4000:])
    spent = []
    for query in rows[:25]:
        rows[:4000].sum()
        spent.append(_spent(partial(index.search, query[None], 16)))
    return float(np.median(spent))


def main() -> None:
    """Print what was measured as JSON, one line a stage."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--rows", type=int, default=100_000)
    asked.add_argument("--clusters", type=int, default=0)
    asked.add_argument("--folder", type=Path, default=Path("scale"))
    asked.add_argument("--centres", type=int, help="only compare queries with so many centres")
    asked.add_argument("--shards", type=int, help="only the first of them")
    asked.add_argument("--workers", type=int, default=2)
    given = asked.parse_args()
    if given.centres:
        sys.stdout.write(f"{1e3 * centres(given.centres):.3f} ms\n")
        return
    run = Run(given.rows, given.clusters, given.folder, given.shards)
    run.folder.mkdir(parents=True, exist_ok=True)
    if not (run.folder / "train.json").exists():
        train(run)
    with ProcessPoolExecutor(given.workers, get_context("spawn")) as pool:
        for number, _ in enumerate(pool.map(shard, [run] * len(run.shards), run.shards), 1):
            sys.stderr.write(f"\r{number} of {len(run.shards)} shards")
    for name in KINDS:
        merge(run, name)
    files = ["train.json", *(f"{number}.json" for number in run.shards)]
    parts = [json.loads((run.folder / name).read_text()) for name in files]
    parts += [json.loads(run.file(f"merge-{name}.json").read_text()) for name in KINDS]
    total: dict[str, float] = dict.fromkeys(("peak_mb", "cells"), 0)
    for key, value in ((key, value) for part in parts for key, value in part.items()):
        most = key in {"peak_mb", "cells"}
        total[key] = max(total[key], value) if most else round(total.get(key, 0) + value, 2)
    sys.stdout.write(json.dumps(total) + "\n")
    trial = truth(run)
    for name in KINDS:
        sys.stdout.write(json.dumps({"kind": name} | search(run, name, trial)) + "\n")
        sys.stdout.flush()


def _median(ann: AnnFile, trial: Trial) -> tuple[float, float]:
    """Milliseconds of a query, on the wall and of the processor."""
    times = [_both(partial(ann.propose, query[None], K)) for query in trial.queries]
    wall, processor = 1e3 * np.median(times, axis=0)
    return float(wall), float(processor)


def _spent(function: Callable[[], object]) -> float:
    return _both(function)[1]


def _both(function: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


def _tick(spent: dict[str, float], name: str, since: float) -> float:
    now = time.process_time()
    spent[name] += now - since
    return now


def _keep(path: Path, value: dict[str, float]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def _status(name: str) -> int:
    with Path("/proc/self/status").open() as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) // 1024


if __name__ == "__main__":
    main()
