"""Build an ann from the truth, and measure how much of the exact answer it returns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from sqlalchemy import func, select

from rwkvsearch.indexer.ann.file import AnnFile, import_faiss
from rwkvsearch.indexer.ann.kinds import Kind
from rwkvsearch.indexer.blocks import Block, Floats, Ids, Row, best_of, blocks
from rwkvsearch.indexer.library import Library, ModelInfo, chunks
from rwkvsearch.indexer.tables import EmbeddingRow, TextEmbeddingRow

S = TypeVar("S")
_TRAINING = 16  # rows a cell: at 4096 cells as good as faiss's 39, in half the time
_LEAST_TRAINING = 16_384  # rows


class Proposes(Protocol):
    """What proposes candidates."""

    def propose(self, queries: Floats, k: int, /) -> tuple[Floats, Ids]:
        """Rough scores and image ids `[Q, m]` for the best `k` of unit `queries` `[Q, D]`."""


@dataclass(frozen=True)
class Trial:
    """Questions and their exact answers: queries `[Q, D]` and, for each, the ids of the best `k`.

    Ids whose score is that of the `k`-th are all there. The last `texts` queries are texts, the
    others images of the library as if they were not in it.
    """

    queries: Floats
    texts: int
    truth: list[Ids]
    k: int


def build(library: Library, model: ModelInfo, factory: str, upto: int, *, live: bool) -> Any:
    """FAISS's index of every embedding with an id up to `upto`, or only those of live images.

    Memory: the index, a block and, where the kind is trained, 16 rows for each cell.
    """
    faiss = import_faiss()
    faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    inner = faiss.index_factory(model.dim, factory, faiss.METRIC_INNER_PRODUCT)
    if not inner.is_trained:
        cells = getattr(inner, "nlist", 0)
        if cells:
            inner.cp.min_points_per_centroid = 1  # no warning
        number = max(_TRAINING * cells, _LEAST_TRAINING)
        inner.train(_at_random(library, model, upto, number)[1].astype(np.float32))
    index = faiss.IndexIDMap(inner)
    add(index, blocks(library, model, upto=upto, live=live))
    return index


def add(index: Any, parts: Iterable[Block]) -> None:
    """Add blocks to an index."""
    for ids, embeddings in parts:
        index.add_with_ids(embeddings.astype(np.float32), ids)


def make_trial(library: Library, model: ModelInfo, upto: int, queries: int, k: int) -> Trial:
    """Up to `queries` live images, and as many texts where the model has embedded any."""
    images, embeddings = _at_random(library, model, upto, queries)
    texts = _texts(library, model, queries)
    asked = _unit(np.concatenate([embeddings.astype(np.float32), texts]))
    own = np.append(images, np.full(len(texts), -1))
    answers = best_of(blocks(library, model, upto=upto, live=True), asked, k + 1)
    truth = []
    for (ids, scores), image_id in zip(answers, own, strict=True):
        ids, scores = ids[ids != image_id], scores[ids != image_id]
        truth.append(ids[scores >= scores[:k].min(initial=1)])
    return Trial(asked, len(texts), truth, k)


def ann_recall(ann: Proposes, trial: Trial) -> tuple[float, float | None]:
    """ann_recall@k of images and of texts, None if there are none.

    A right answer counts if it is proposed: candidates are put in order by their exact scores.
    """
    shares = []
    for query, right in zip(trial.queries, trial.truth, strict=True):
        _, proposed = ann.propose(query[None], trial.k)
        possible = min(trial.k, len(right))
        shares.append(min(np.isin(right, proposed).sum(), possible) / possible if possible else 1)
    images = len(shares) - trial.texts
    first, last = shares[:images], shares[images:]
    return float(np.mean(first or [1])), float(np.mean(last)) if last else None


def thorough_enough(ann: AnnFile, trial: Trial, kind: Kind, target: float) -> AnnFile:
    """`ann` with the fastest of its searches that reaches `target`, else with its last.

    Without texts to measure with, one that only takes more candidates gets its last: texts lie
    farther from all images than another image does, and need more of them (docs/benchmarks.md).
    """
    searches = kind.searches()
    if not trial.texts and not searches[0].keys() & {"nprobe", "ef"}:
        searches = searches[-1:]
    best, recall = fastest(searches, lambda search: replace(ann, search=search), trial, target)
    return replace(ann, search=best, ann_recall=recall)


def fastest(
    searches: Sequence[S], proposes: Callable[[S], Proposes], trial: Trial, target: float
) -> tuple[S, float]:
    """The first of `searches` that reaches `target`, else the last; and its ann_recall.

    That is the lower one of images and of texts.
    """
    for search in searches:
        images, texts = ann_recall(proposes(search), trial)
        recall = images if texts is None else min(images, texts)
        if recall >= target:
            break
    return search, recall


def _at_random(library: Library, model: ModelInfo, upto: int, number: int) -> Block:
    """The same ones each time."""
    of_model = EmbeddingRow.model == model.key
    with library.read() as session:
        every = session.scalars(select(EmbeddingRow.id).where(of_model, EmbeddingRow.id <= upto))
        keys = np.fromiter(every, np.int64)
        some = np.random.default_rng(0).permutation(keys)[:number]
        rows: list[Row] = []
        for part in chunks(np.sort(some).tolist()):
            row = select(EmbeddingRow.image_id, EmbeddingRow.data).where(EmbeddingRow.id.in_(part))
            rows += [(image_id, data) for image_id, data in session.execute(row)]
    return library.unpack(rows, model.dim)


def _texts(library: Library, model: ModelInfo, number: int) -> Floats:
    row = select(TextEmbeddingRow.text_id, TextEmbeddingRow.data)
    with library.read() as session:
        found = session.execute(
            row.where(TextEmbeddingRow.model == model.key).order_by(func.random()).limit(number)
        )
        rows = [(text_id, data) for text_id, data in found]
    return library.unpack(rows, model.dim)[1].astype(np.float32)


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.ascontiguousarray(unit, np.float32)
