"""Words for pictures: the texts that fit best, and labels to choose among."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rwkvsearch.data.descriptions.vocabulary import everyday_words, find_word
from rwkvsearch.data.errors import NotThere
from rwkvsearch.retrieval.labels import Labels, one_of
from rwkvsearch.retrieval.lazy_encoder import LazyEncoder
from rwkvsearch.retrieval.query import Query, Term
from rwkvsearch.ui.api.asking import MOST_K, ImageId, UploadId
from rwkvsearch.ui.api.models import Classified, FoundTexts, LabelFound, TextHit
from rwkvsearch.ui.api.problems import errors
from rwkvsearch.ui.api.replies import AsciiJson
from rwkvsearch.ui.api.searching import TheService
from rwkvsearch.ui.api.service import Service

if TYPE_CHECKING:
    from rwkvsearch.retrieval.engine import SearchEngine

KEPT = 8
"""Choices of labels whose embeddings are kept."""

LabelsOf = Callable[[LazyEncoder, tuple[str, ...] | None], Labels]


class OfPicture(BaseModel):
    """A picture: an upload, or one of the library."""

    model_config = ConfigDict(extra="forbid", strict=True)

    upload: UploadId | None = Field(None, description="What `POST /uploads` has taken.")
    image_id: ImageId | None = Field(None, description="Of a picture in the library.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.upload is None) == (self.image_id is None):
            raise ValueError("give either upload or image_id")
        return self

    def term(self, service: Service) -> Term:
        """Return the picture as a term; `QueryError` if the upload has gone."""
        if self.upload is not None:
            return Term(image=service.uploads.image(self.upload))
        return Term(image_id=self.image_id)


class CaptionsAsked(OfPicture):
    """Which texts fit a picture."""

    corpus: list[Annotated[str, Field(min_length=1, max_length=500)]] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Texts to choose among; without any, those of the library.",
        examples=[["a dog runs on a beach", "a bowl of fruit"]],
    )
    k: int = Field(10, ge=1, le=MOST_K, description="Number of texts.")


class LabelsAsked(OfPicture):
    """Which labels fit a picture."""

    labels: list[Annotated[str, Field(min_length=1, max_length=100)]] | None = Field(
        None,
        min_length=2,
        max_length=1000,
        description="One of them has to fit; without any, 540 everyday words.",
        examples=[["dog", "cat", "bird"]],
    )
    k: int = Field(3, ge=1, le=100, description="Number of labels at most.")
    min_confidence: float = Field(0.0, ge=0, le=1, description="Labels below are left out.")


def texts_router() -> APIRouter:
    """Return the routes, with a memory for labels of their own."""
    router = APIRouter(tags=["words"], default_response_class=AsciiJson)
    labels_of = lru_cache(KEPT)(_labels)

    @router.post("/captions", responses=errors(400, 404, 413, 422))
    def captions(service: TheService, asked: CaptionsAsked) -> FoundTexts:
        """The texts that fit a picture best: of the library, or of those given."""
        return texts_of(service, Query((asked.term(service),), k=asked.k), asked.corpus)

    @router.post("/classify", responses=errors(400, 404, 413, 422))
    def classify(service: TheService, asked: LabelsAsked) -> Classified:
        """The labels that fit a picture best: of everyday words, or of those given."""
        return _classified(service, asked, labels_of)

    return router


def texts_of(service: Service, query: Query, corpus: Sequence[str] | None = None) -> FoundTexts:
    """Return the texts that fit; errors as `SearchEngine.texts`."""
    with service.engine() as engine:
        hits = engine.texts(query, corpus)
        model = engine.encoder.model_id
    said = [
        TextHit(
            rank=hit.rank,
            score=round(hit.score, 6),
            text=hit.text,
            image_ids=[*hit.image_ids],
        )
        for hit in hits
    ]
    return FoundTexts(model=model, hits=said)


def _classified(service: Service, asked: LabelsAsked, labels_of: LabelsOf) -> Classified:
    names = None if asked.labels is None else tuple(dict.fromkeys(_names(asked.labels)))
    with service.engine() as engine:
        embedding = _embedding(engine, asked.term(service))
        encoder = engine.encoder
        assert isinstance(encoder, LazyEncoder)
        labels = labels_of(encoder, names)
    (tags,) = labels.tags(embedding, asked.min_confidence, asked.k)
    found = [LabelFound(label=tag.name, confidence=tag.confidence) for tag in tags]
    return Classified(model=encoder.model_id, labels=found)


def _embedding(engine: SearchEngine, term: Term) -> NDArray[np.float32]:
    """Of one picture, `[1, D]`."""
    if term.image is not None:
        return engine.encoder.encode_images([term.image])
    assert term.image_id is not None
    _, rows = engine.library.embeddings_of(engine.model, [term.image_id])
    if not len(rows):
        raise NotThere(f"there is no image {term.image_id} in {engine.library.name}")
    return rows.astype(np.float32)


def _labels(encoder: LazyEncoder, names: tuple[str, ...] | None) -> Labels:
    if names is None:
        return Labels(encoder, everyday_words())
    return Labels(encoder, one_of({name: find_word(name) for name in names}))


def _names(labels: Sequence[str]) -> list[str]:
    return [name for label in labels if (name := " ".join(label.split()))]
