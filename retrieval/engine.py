"""Search a library: the library twin of `rwkvsearch query`.

A query by words can be answered without importing torch: see `light_encoder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.errors import NotThere, QueryError
from rwkvsearch.data.images import read_image
from rwkvsearch.indexer.address import Place
from rwkvsearch.indexer.background import Background
from rwkvsearch.indexer.contents import open_image
from rwkvsearch.indexer.filters import Filters, images_passing
from rwkvsearch.indexer.indexes import open_index
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.scoring import rescore
from rwkvsearch.indexer.text_search import best_texts, texts_of
from rwkvsearch.retrieval.choose import choose_model
from rwkvsearch.retrieval.confidence import Confidence, neutral_captions
from rwkvsearch.retrieval.diverse import distinct_images
from rwkvsearch.retrieval.explain import why_picture
from rwkvsearch.retrieval.feedback import mean_of, turned
from rwkvsearch.retrieval.lazy_encoder import LazyEncoder
from rwkvsearch.retrieval.light_encoder import LightEncoder
from rwkvsearch.retrieval.models import Precision
from rwkvsearch.retrieval.query import Hit, Query, Term, TextHit
from rwkvsearch.retrieval.ranking import Ranking, query_vectors
from rwkvsearch.retrieval.terms import QueryEncoder, TermEncoder

FILTERS_KEPT = 8
"""Filters whose images are remembered, for the next page or the next words."""
SHOWN_SIDE = 512
"""Height in pixels at which a heat map is drawn, at most."""
ROUNDING = 1e-6
"""Of a confidence."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ids = NDArray[np.int64]


class SearchEngine:
    """One library, one model. Close it, or use it in a `with` statement. Safe among threads.

    The images are those that were in the library when it was opened, less those that have gone.
    """

    def __init__(self, library: Library, encoder: QueryEncoder, ann: str | None = None) -> None:
        """Use `SearchEngine.open`, or hand in an open library and the encoder it was made with."""
        self.library = library
        self.encoder = encoder
        self._index = open_index(library, encoder.model_id, encoder.preprocessing_id, ann)
        self.model = self._index.model
        self._embed = TermEncoder(library, self.model, encoder)
        self._passing = lru_cache(FILTERS_KEPT)(self._images_passing)

    @classmethod
    def open(
        cls,
        place: Place,
        *,
        model: str | None = None,
        device: str | None = None,
        precision: Precision | None = None,
        ann: str | None = None,
        once: bool = False,
    ) -> Self:
        """Open the library at a place; None takes the model or precision that made it.

        `ann` is the address of a cluster that mirrors it; `once` saves a question or two of words
        the import of torch.

        Raises:
            LibraryError: there is no library, or the model has no embeddings in it.
            ModelError: the model is unknown, not installed or damaged.
        """
        library = Library.open(place)
        try:
            name, precision = choose_model(library, model, precision)
            kind = LightEncoder if once else LazyEncoder
            return cls(library, kind.of(name, device, precision), ann)
        except BaseException:
            library.close()
            raise

    def close(self) -> None:
        """Close the library."""
        self._index.close()
        self.library.close()

    def __enter__(self) -> Self:
        """Return the engine."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Close the library."""
        self.close()

    def warm(self) -> None:
        """Load now what the first query would have to wait for, the model too; `ModelError`."""
        self.encoder.encode_texts(["a picture"])
        _ = self._confidence

    def query(self, text: str, k: int = 10) -> list[Hit]:
        """Return the `k` images that fit `text` best, fewer if the library has fewer."""
        return self.run(Query((Term(text),), k=k))

    def query_image(self, image: Image.Image | Path, k: int = 10) -> list[Hit]:
        """Return the `k` images most like `image`, a file or an RGB image."""
        term = Term(path=image) if isinstance(image, Path) else Term(image=image)
        return self.run(Query((term,), k=k))

    def search(self, embedding: NDArray[np.float32], k: int = 10) -> list[Hit]:
        """Return the `k` images nearest to an embedding `[D]`; equal scores by image id."""
        return self.run(Query((Term(embedding=embedding),), k=k))

    def run(self, query: Query) -> list[Hit]:
        """Return the hits of a query, best first, equal ones by image id.

        Raises:
            QueryError: a term is empty, not in the library, or they cancel each other out.
            ImageError: a picture that is asked for cannot be read.
            ModelError: the model cannot be loaded.
        """
        embeddings, vectors = self._vectors(query)
        among = self.passing(query.filters) if query.filters else None
        ranking = Ranking(
            self.library, self.model, self._index, self._background, vectors, among, query.filters
        )
        return self._hits(query, embeddings, ranking, *self._page(query, ranking))

    @property
    def size(self) -> int:
        """How many images are searched."""
        return self._index.size

    def passing(self, filters: Filters) -> Ids:
        """Return the ids, ascending, of the images that pass; errors as `images_passing`."""
        return self._passing(filters)

    @property
    def how(self) -> str:
        """Whether everything is compared, or how much of the exact best is found."""
        if self._index.exact:
            return "exact"
        recall = self._index.ann_recall
        measured = "not measured" if recall is None else f"{recall:.3f}"
        return f"{self._index.kind}, ann_recall@10 {measured}; scores are exact"

    def why(self, query: Query, hit: Hit) -> tuple[Image.Image, str]:
        """Return the picture of a hit with a heat map of what fits, and the same in words.

        Raises:
            NotThere: no file holds the picture now that was indexed.
        """
        embeddings, vectors = self._vectors(query)
        with open_image(self.library, hit.image_id) as stream:
            seen = read_image(stream, min_side=self.encoder.image_size)
            stream.seek(0)
            shown = read_image(stream, min_side=SHOWN_SIDE // 2)
        shown.thumbnail((2 * SHOWN_SIDE, SHOWN_SIDE))
        names = [term.name for term in query.terms]
        votes = {"what is liked": query.liked, "what is disliked": query.disliked}
        for name, known in ((name, self._known(ids)) for name, ids in votes.items()):
            if query.liked and len(known):
                names.append(name)
                embeddings = np.vstack([embeddings, mean_of(known).astype(np.float32)])
        # Every vector is a sum of them: these are their weights in the one that decided.
        vector = vectors[np.argmin(abs(self._cosines(vectors, hit.image_id) - hit.score))]
        weights = np.linalg.lstsq(embeddings.T.astype(np.float64), vector, rcond=None)[0]
        terms = [
            (name, round(float(weight), 6), embedding)
            for name, weight, embedding in zip(names, weights, embeddings, strict=True)
        ]
        return why_picture(self.encoder, seen, terms, hit.score, shown=shown)

    def hit_of(self, query: Query, image_id: int) -> Hit:
        """Return what an image is as a hit, wherever it stands; filters are left aside, rank is 1.

        Raises:
            NotThere: it is not in the library.
        """
        embeddings, vectors = self._vectors(query)
        ids = np.array([image_id], np.int64)
        scores = self._parts(vectors, ids)
        ranking = Ranking(self.library, self.model, self._index, self._background, vectors, None)
        sure = self._confidences(query, scores).min(axis=0)
        known = ids[~np.isnan(scores[0])]
        first = replace(query, offset=0)
        for hit in self._hits(first, embeddings, ranking, known, scores, sure):
            return hit
        raise NotThere(f"there is no image {image_id} in {self.library.name}")

    def texts(self, query: Query, corpus: Sequence[str] | None = None) -> list[TextHit]:
        """Return the texts that fit best: of the library's captions, or of `corpus`.

        Raises:
            QueryError: as `run`; that there are no texts; filters, which only images have; or that
                every term has to hold.
        """
        if query.filters or query.diverse or query.min_confidence:
            raise QueryError("texts cannot be filtered: filters are for images")
        vectors = query_vectors(query, self._embed(query.terms), self._background.embeddings)
        if len(vectors) > 1:
            raise QueryError('texts are found by the sum of the terms: write " + ", not --and')
        wanted = query.offset + query.k
        if corpus is not None and not corpus:
            raise QueryError("there are no texts to compare with")
        if corpus is not None:
            found = _best_of_corpus(corpus, self._embed.plain_texts(corpus) @ vectors[0], wanted)
        else:
            found = self._best_of_library(vectors[0], wanted)
        return [replace(hit, rank=rank) for rank, hit in enumerate(found, start=1)][query.offset :]

    def _best_of_library(self, vector: Floats, k: int) -> list[TextHit]:
        scores, ids = best_texts(self.library, self.model, vector, k)
        if not len(ids):
            raise QueryError(
                "this library has no texts: index pictures with captions beside them, or name a "
                "file of texts with --captions"
            )
        known = texts_of(self.library, ids.tolist())
        return [
            TextHit(0, known[text_id][0], score, known[text_id][1])
            for score, text_id in zip(scores.tolist(), ids.tolist(), strict=True)
            if text_id in known
        ]

    @cached_property
    def _background(self) -> Background:
        return Background.read(self.library, self.model)

    @cached_property
    def _confidence(self) -> Confidence:
        return Confidence(self._background.embeddings, self._embed.texts(neutral_captions()))

    def _vectors(self, query: Query) -> tuple[Floats, Floats]:
        """The embeddings `[T, D]` of the terms, and what is searched for, `[P, D]`."""
        embeddings, background = self._embed(query.terms), self._background.embeddings
        vectors = query_vectors(query, embeddings, background)
        liked, disliked = self._known(query.liked), self._known(query.disliked)
        return embeddings, turned(vectors, liked, disliked, background)

    def _known(self, ids: Sequence[int]) -> Floats:
        return self.library.embeddings_of(self.model, ids)[1].astype(np.float32)

    def _images_passing(self, filters: Filters) -> Ids:
        with self.library.read() as session:
            return images_passing(session, filters)

    def _page(self, query: Query, ranking: Ranking) -> tuple[Ids, Floats, Doubles]:
        """Of the ranking, what is asked for: ids `[n]`, scores `[P, n]`, confidences `[n]`."""
        wanted = query.offset + query.k
        depth = wanted + len(query.disliked)
        while True:
            ids, scores = ranking.top(depth)
            if not len(ids):
                return ids, scores, np.empty(0)
            sure = self._confidences(query, scores)
            least = sure.min(axis=0)
            kept = np.flatnonzero(~np.isin(ids, query.disliked) & (least >= query.min_confidence))
            if query.diverse:
                distinct = distinct_images(self.library, self.model, ids[kept].tolist())
                kept = np.flatnonzero(np.isin(ids, distinct))
            if len(kept) >= wanted or len(ids) < depth or self._is_below(query, ranking, scores):
                page = kept[query.offset : wanted]
                return ids[page], scores[:, page], least[page]
            depth *= 2

    def _is_below(self, query: Query, ranking: Ranking, scores: Floats) -> bool:
        """Whether no image behind those with `scores` reaches the confidence asked for."""
        if not query.min_confidence:
            return False
        behind = self._confidences(query, ranking.ceiling(scores[:, -1:]))
        return bool(behind.max() < query.min_confidence - ROUNDING)

    def _hits(
        self,
        query: Query,
        embeddings: Floats,
        ranking: Ranking,
        ids: Ids,
        scores: Floats,
        confidences: Doubles,
    ) -> list[Hit]:
        if not len(ids):
            return []
        weakest = ranking.standings(scores).argmin(axis=0) if len(scores) > 1 else 0 * ids
        plain = len(embeddings) == 1 and not query.liked and not query.disliked
        parts = scores if plain else self._parts(embeddings, ids)
        paths = self.library.paths_of(ids.tolist())
        return [
            Hit(
                query.offset + at + 1,
                image_id,
                tuple(paths[image_id]),
                float(scores[weakest[at], at]),
                float(confidences[at]),
                tuple(parts[:, at].tolist()),
            )
            for at, image_id in enumerate(ids.tolist())
            if image_id in paths
        ]

    def _confidences(self, query: Query, scores: Floats) -> Doubles:
        """The confidence `[P, n]` in each of the vectors, from their scores `[P, n]`."""
        wanted = [term for term in query.terms if term.weight > 0]
        groups = [wanted] if len(scores) == 1 else [[term] for term in wanted]
        each = []
        for group, of_group in zip(groups, scores, strict=True):
            texts = sum(bool(term.text) for term in group)
            pictures = len(group) - texts
            each.append(
                self._confidence.of(of_group, self._index.size, texts=texts, pictures=pictures)
            )
        return np.stack(each)

    def _parts(self, embeddings: Floats, ids: Ids) -> Floats:
        """The cosine of every term with every image, `[T, n]`; not a number if it has gone."""
        there, stored = self.library.embeddings_of(self.model, ids.tolist())
        parts = np.full((len(embeddings), len(ids)), np.nan, np.float32)
        known = np.isin(ids, there)
        at = np.searchsorted(there, ids[known])
        parts[:, known] = [rescore(embedding, stored[at]) for embedding in embeddings]
        return parts

    def _cosines(self, vectors: Floats, image_id: int) -> Floats:
        """The cosine `[P]` of each vector with one image."""
        return self._parts(vectors, np.array([image_id], np.int64))[:, 0]


def _best_of_corpus(corpus: Sequence[str], scores: Floats, k: int) -> list[TextHit]:
    best = np.argsort(-scores, kind="stable")[:k]
    return [TextHit(0, corpus[row], float(scores[row])) for row in best.tolist()]
