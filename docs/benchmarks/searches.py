"""The search alone, over the same made-up embeddings: faiss, a simple tool's sqlite, and ours."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from report import Table, tell

from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.ann.synthetic import (
    MODEL,
    PREPROCESSING,
    TEXT_PART,
    Synthetic,
    enter_images,
    enter_model,
)
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.search import SearchIndex
from rwkvsearch.retrieval.speed_times import Effort, race, ratio

K = 10
OURS = "ours, as `index` leaves it"
FLAT = "faiss flat, fp32"

Floats = NDArray[np.float32]
Search = Callable[[Floats], NDArray[np.int64]]
"""One query `[D]` to the rows of its best `K`, counted from 0."""


def measure(rows: int, queries: int, dim: int = 512) -> Table:
    """Milliseconds of one query at a time, each answered by every contender in turn."""
    source = Synthetic(dim)
    embeddings, asked = source.images(rows), source.texts(queries, TEXT_PART)
    with TemporaryDirectory(prefix="rwkvsearch-") as folder:
        with Library.create(Path(folder) / "library") as library:
            return _compare(_contenders(library, embeddings, Path(folder)), asked, rows, dim)


def _contenders(library: Library, embeddings: Floats, folder: Path) -> dict[str, Search]:
    import faiss

    rows, dim = embeddings.shape
    tell("search: our library and its ann")
    index = _our_index(library, embeddings)
    tell("search: faiss flat and HNSW32")
    flat, graph = faiss.IndexFlatIP(dim), faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
    flat.add(embeddings)
    graph.add(embeddings)
    graph.hnsw.efSearch = 64
    return {
        OURS: lambda query: index.search(query[None], K)[1][0] - 1,
        "ours, exact": lambda query: index.search(query[None], K, exact=True)[1][0] - 1,
        FLAT: lambda query: flat.search(query[None], K)[1][0],
        "faiss HNSW32, efSearch 64": lambda query: graph.search(query[None], K)[1][0],
        "numpy, embeddings in memory": lambda query: _best(embeddings @ query),
        "sqlite blobs read for each query, numpy": _simple_tool(
            folder / "blobs.sqlite", embeddings
        ),
    }


def _our_index(library: Library, embeddings: Floats) -> SearchIndex:
    root, key = enter_model(library, embeddings.shape[1])
    for start in range(0, len(embeddings), 8192):
        enter_images(library, root, key, start + 1, embeddings[start : start + 8192])
    publish(library, library.model(MODEL, PREPROCESSING))
    return SearchIndex.open(library, MODEL, PREPROCESSING)


def _simple_tool(path: Path, embeddings: Floats) -> Search:
    """All blobs out of a table and one product: what a tool without an index does."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT, embedding BLOB)")
    rows = ((at, f"/pictures/{at}.jpg", row.tobytes()) for at, row in enumerate(embeddings))
    connection.executemany("INSERT INTO images VALUES (?, ?, ?)", rows)
    connection.commit()

    def search(query: Floats) -> NDArray[np.int64]:
        blobs = connection.execute("SELECT embedding FROM images ORDER BY id").fetchall()
        stored = np.frombuffer(b"".join(blob for (blob,) in blobs), np.float32)
        return _best(stored.reshape(len(blobs), -1) @ query)

    return search


def _best(scores: Floats) -> NDArray[np.int64]:
    top = np.argpartition(-scores, K)[:K]
    best: NDArray[np.int64] = top[np.argsort(-scores[top])]
    return best


def _compare(contenders: dict[str, Search], asked: Floats, rows: int, dim: int) -> Table:
    tell(f"search: {len(asked)} queries")
    truth = [set(contenders[FLAT](query).tolist()) for query in asked]
    recalls = {
        name: float(np.mean([len(want & set(search(query).tolist())) / K
                             for want, query in zip(truth, asked, strict=True)]))
        for name, search in contenders.items()
    }  # fmt: skip
    turns = [(search, itertools.cycle(asked)) for search in contenders.values()]
    runs = [lambda search=search, each=each: search(next(each)) for search, each in turns]
    effort = Effort(seconds=0, least=len(asked), most=len(asked))
    times = dict(zip(contenders, race(runs, effort), strict=True))
    table = Table(
        f"{rows:,} embeddings of {dim} numbers, {len(asked)} queries one at a time, ms",
        ("", "p50", "p99", "times ours", "recall@10"),
    )
    for name, found in times.items():
        p50, p99 = (float(value) for value in 1e3 * np.percentile(found.wall, [50, 99]))
        slower = ratio(times[OURS].wall, found.wall)["median"]
        table.rows.append([name, p50, p99, float(slower), recalls[name]])
    return table
