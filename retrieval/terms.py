"""The terms of a query as embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.errors import QueryError
from rwkvsearch.data.images import read_image
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.retrieval.models import ModelCard, home_folder
from rwkvsearch.retrieval.query import Crop, Term
from rwkvsearch.retrieval.text_cache import TextCache

CACHE_FILE = "queries.sqlite"

Floats = NDArray[np.float32]


class QueryEncoder(Protocol):
    """What makes embeddings of texts and pictures: an `Encoder` or a `LazyEncoder`."""

    @property
    def card(self) -> ModelCard: ...  # noqa: D102
    @property
    def model_id(self) -> str: ...  # noqa: D102
    @property
    def preprocessing_id(self) -> str: ...  # noqa: D102
    @property
    def image_size(self) -> int: ...  # noqa: D102
    def encode_texts(self, texts: Sequence[str]) -> Floats: ...  # noqa: D102
    def encode_images(self, images: Sequence[Image.Image]) -> Floats: ...  # noqa: D102
    def encode_patches(self, images: Sequence[Image.Image]) -> Floats: ...  # noqa: D102


class TermEncoder:
    """Embeds terms: texts by the cache or the model, images of the library by what it holds."""

    def __init__(self, library: Library, model: ModelInfo, encoder: QueryEncoder) -> None:
        self._library = library
        self._model = model
        self._encoder = encoder
        self._cache = TextCache(home_folder() / CACHE_FILE, encoder.model_id, model.dim)

    def texts(self, texts: Sequence[str]) -> Floats:
        """Embeddings `[B, D]` of texts, with the prompt of the model before each."""
        prompt = self._encoder.card.prompt
        return self._cache.embed([prompt + text for text in texts], self._encoder.encode_texts)

    def plain_texts(self, texts: Sequence[str]) -> Floats:
        """Embeddings `[B, D]` of texts as they are; as in a library, no prompt before them."""
        return self._cache.embed(texts, self._encoder.encode_texts)

    def __call__(self, terms: Sequence[Term]) -> Floats:
        """Embeddings `[T, D]` of length 1.

        Raises:
            QueryError: a term is empty, or an image is not in the library.
            ImageError: a picture cannot be read.
        """
        embeddings = np.empty((len(terms), self._model.dim), np.float32)
        texts, pictures = [], []
        for row, term in enumerate(terms):
            if term.embedding is not None:
                embeddings[row] = self._given(term.embedding)
            elif term.image_id is not None:
                embeddings[row] = self._given(self._stored(term.image_id))
            elif term.path is not None or term.image is not None:
                pictures.append(row)
            elif term.text.strip():
                texts.append(row)
            else:
                raise QueryError("the query is empty: describe what the picture shows")
        if texts:
            embeddings[texts] = self.texts([terms[row].text for row in texts])
        if pictures:
            images = [self._picture(terms[row]) for row in pictures]
            embeddings[pictures] = self._encoder.encode_images(images)
        return embeddings

    def _given(self, embedding: Floats) -> Floats:
        if embedding.shape != (self._model.dim,):
            wanted = f"embeddings of {self._model.dim} numbers"
            raise QueryError(f"a query of shape {embedding.shape} against {wanted}")
        length = np.linalg.norm(embedding.astype(np.float64))
        if not (np.isfinite(length) and length > 0):
            raise QueryError("a query embedding is zero or not finite")
        unit: Floats = (embedding / length).astype(np.float32)
        return unit

    def _stored(self, image_id: int) -> Floats:
        ids, rows = self._library.embeddings_of(self._model, [image_id])
        if not len(ids):
            raise QueryError(f"there is no image {image_id} in the library")
        row: Floats = rows[0].astype(np.float32)
        return row

    def _picture(self, term: Term) -> Image.Image:
        image = term.image
        if image is None:
            assert term.path is not None
            least = None if term.crop else self._encoder.image_size
            image = read_image(term.path, min_side=least)
        return cropped(image, term.crop) if term.crop else image


def cropped(image: Image.Image, crop: Crop) -> Image.Image:
    """Return a part of a picture, at least one pixel of it."""
    width, height = image.size
    left, top = int(crop.left * width), int(crop.top * height)
    right, bottom = round(crop.right * width), round(crop.bottom * height)
    left, top = min(left, width - 1), min(top, height - 1)
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
