"""How fast a library of made-up embeddings is searched, and how much of the right is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import update

from rwkvsearch.indexer.ann.build import ann_recall, build, make_trial
from rwkvsearch.indexer.ann.generation import open_generation
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.ann.synthetic import MODEL, PREPROCESSING, TEXT_PART, Synthetic, fill
from rwkvsearch.indexer.filters import Filters
from rwkvsearch.indexer.indexes import open_index
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.tables import ImageRow
from rwkvsearch.retrieval.engine import SearchEngine
from rwkvsearch.retrieval.models import ModelCard
from rwkvsearch.retrieval.query import Query, Term
from rwkvsearch.retrieval.speed_times import Json, Run, Tell, latencies, rounded, spread, timed

DIM = 640
ROWS = (1_000, 100_000)
FULL_ROWS = (*ROWS, 1_000_000)
FILTERS = {
    "query": Filters(),
    "query_of_1_percent_by_date": Filters(after="2019", before="2019"),
    "query_of_1_percent_by_name": Filters(globs=("*00.png",)),
}
_BUILT_ONCE = 1_000_000
"""From so many rows on."""


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


def measure_ann(rows: int, queries: int, rounds: int, tell: Tell) -> Json:
    """Fill a library in a temporary folder, publish its ann, and ask it one query at a time.

    Build and publish in seconds, latencies in milliseconds from end to end, bytes of a picture.

    Raises:
        LibraryError: faiss is not installed, or there is no room.
    """
    source = Synthetic(DIM)
    with TemporaryDirectory(prefix="rwkvsearch-") as place, Library.create(Path(place)) as library:
        tell(f"{rows:,} embeddings: entering them")
        model = fill(library, source, rows, queries)
        with library.write() as session:
            dated = update(ImageRow).where(ImageRow.id % 100 == 0)
            session.execute(dated.values(taken_at="2019-06-30T12:00:00"))
        found = _build(library, model, rounds if rows < _BUILT_ONCE else 1, tell)
        terms = source.texts(queries, TEXT_PART)
        return {"rows": rows, "dim": DIM} | found | _ask(library, source, terms, rounds, tell)


def _build(library: Library, model: ModelInfo, rounds: int, tell: Tell) -> Json:
    """Publish and build again and again; then what is in use."""
    publishing = []
    for turn in range(rounds):
        tell(f"{model.embeddings:,} embeddings: build {turn + 1} of {rounds}")
        publishing.append(timed(partial(publish, library, model, force=True))[0])
    generation = open_generation(library, model)
    assert generation is not None
    ann, upto = generation.ann, generation.upto
    run = partial(build, library, model, ann.kind, upto, live=False)
    building = [timed(run)[0] for _ in range(rounds)]
    trial = make_trial(library, model, upto, 100, 10)
    images, texts = ann_recall(ann, trial)
    whole = sum(file.stat().st_size for file in library.path.rglob("*") if file.is_file())
    return {
        "kind": ann.kind,
        "search": ann.search,
        "build_seconds": spread(building),
        "publish_seconds": spread(publishing),
        "ann_recall@10": {"images": rounded(images), "texts": rounded(texts or 0)},
        "bytes_per_image": round(generation.path.stat().st_size / ann.index.ntotal, 1),
        "library_bytes_per_image": round(whole / ann.index.ntotal, 1),
    }


def _ask(
    library: Library, source: Synthetic, terms: NDArray[np.float32], rounds: int, tell: Tell
) -> Json:
    """Latencies of the index from end to end, and of whole queries with and without filters."""
    index = open_index(library, MODEL, PREPROCESSING)
    engine = SearchEngine(library, MadeUp(source))
    found: Json = {}
    for name, filters in ({"index": None} | FILTERS).items():
        tell(f"{len(terms)} queries: {name}")
        runs: list[Run] = [
            partial(index.search, term[None], 10)
            if filters is None
            else partial(engine.run, Query((Term(embedding=term),), filters=filters))
            for term in terms
        ]
        found[name] = latencies(runs, rounds)
    return found
