"""Ask several indexes of a library the same: `python -m rwkvsearch.indexer.cluster.compare`.

The queries are texts that the library has embedded. Two answers are the same if their scores are,
place by place, so that only equal scores may change places.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import numpy as np
from sqlalchemy import select

from rwkvsearch.indexer.address import place_of
from rwkvsearch.indexer.blocks import Floats, Ids, image_ids, newest_embedding
from rwkvsearch.indexer.filters import Filters, images_passing
from rwkvsearch.indexer.indexes import open_index
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.protocols import ImageIndex
from rwkvsearch.indexer.tables import TextEmbeddingRow

K = 10
_SHARES = (0.5, 0.1, 0.01)

Among = tuple[str, Ids | None, Filters | None]


def main() -> None:
    """Print a table: each index with each filter, against an exact search of the first."""
    asked = argparse.ArgumentParser(prog="python -m rwkvsearch.indexer.cluster.compare")
    asked.add_argument("library", nargs="+", help="folder or address; all with the same images")
    asked.add_argument("--ann", action="append", default=[], help="mirror of the first; repeatable")
    asked.add_argument("--queries", type=int, default=100)
    asked.add_argument("--glob", action="append", default=[], help="filter by name; repeatable")
    options = asked.parse_args()
    with ExitStack() as stack:
        libraries = [stack.enter_context(Library.open(place_of(one))) for one in options.library]
        first, model = libraries[0], libraries[0].models()[0]
        named = [(library, None) for library in libraries] + [(first, ann) for ann in options.ann]
        names = (model.model_id, model.preprocessing_id)
        indexes = [
            (library.name if ann is None else ann, open_index(library, *names, ann))
            for library, ann in named
        ]
        for _, index in indexes:
            stack.enter_context(closing(index))
        queries = _queries(first, model, options.queries)
        for line in compare(indexes, queries, list(_amongs(first, model, options.glob))):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def compare(
    indexes: list[tuple[str, ImageIndex]], queries: Floats, amongs: list[Among]
) -> Iterator[str]:
    """The lines of a table in Markdown; the first index says what is right."""
    yield f"| index | among | the same {K} | of the exact {K} found | p50 | p99 |"
    yield "|---|---|---|---|---|---|"
    reference = indexes[0][1]
    for what, among, filters in amongs:
        right = reference.search(queries, K, among, exact=True)
        for name, index in indexes:
            for query in queries[:3]:
                index.search(query[None], K, among, filters=filters)
            times, same, found = [], 0, 0.0
            for at, query in enumerate(queries):
                began = time.perf_counter()
                scores, ids = index.search(query[None], K, among, filters=filters)
                times.append(1e3 * (time.perf_counter() - began))
                same += np.array_equal(scores[0], right[0][at])
                least = right[0][at][-1] if len(right[0][at]) else 0.0
                found += float((scores[0] >= least).mean()) if len(ids[0]) else 1.0
            p50, p99 = np.percentile(times, [50, 99])
            shares = f"{same} of {len(queries)} | {found / len(queries):.3f}"
            yield f"| {name}: {index.kind} | {what} | {shares} | {p50:.1f} ms | {p99:.1f} ms |"


def _queries(library: Library, model: ModelInfo, number: int) -> Floats:
    with library.read() as session:
        row = select(TextEmbeddingRow.text_id, TextEmbeddingRow.data)
        of_model = row.where(TextEmbeddingRow.model == model.key).order_by(TextEmbeddingRow.text_id)
        rows = [(text_id, data) for text_id, data in session.execute(of_model)]
    some = np.random.default_rng(0).permutation(len(rows))[:number]
    return library.unpack(rows, model.dim)[1][np.sort(some)].astype(np.float32)


def _amongs(library: Library, model: ModelInfo, globs: list[str]) -> Iterator[Among]:
    yield "all", None, None
    with library.read() as session:
        every = image_ids(session, model, newest_embedding(session, model), live=True)
        for share in _SHARES:
            some = np.random.default_rng(0).permutation(every)[: round(share * len(every))]
            yield f"{len(some):,} at random", np.sort(some), None
        for glob in globs:
            filters = Filters(globs=(glob,))
            passing = images_passing(session, filters)
            yield f"{len(passing):,} with `{glob}`", passing, filters


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before faiss is imported
    main()
