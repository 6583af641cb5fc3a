"""What is asked of the API, as a query: words, ids and uploads, never a path to be opened."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Self

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.filters import Box, Filters, Orientation
from rwkvsearch.retrieval.grammar import parse, parse_term
from rwkvsearch.retrieval.query import Query, Term
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.pictures import parse_crop

MOST_K = 1000
MOST_HITS = 10_000
"""Of `offset` and `k` together."""
MOST_TERMS = 32

Words = Annotated[str, Field(max_length=1000)]
Short = Annotated[str, Field(max_length=200)]
PathText = Annotated[str, Field(max_length=4096)]
ImageId = Annotated[int, Field(ge=1, le=2**63 - 1)]
UploadId = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


async def service_of(request: Request) -> Service:  # no thread is needed for so little
    """Return what the application answers from."""
    service: Service = request.app.state.service
    return service


class Asked(BaseModel):
    """What is looked for; everything that is given is one query."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    q: Words | None = Field(
        None,
        description="What the picture shows: `a dog`, `2:dog + beach - snow`.",
        examples=["a dog on the beach"],
    )
    plain: bool = Field(False, description="Take `q` as it is: no +, - or weights.")
    every: bool = Field(
        False, description="Each wanted term has to hold: the weakest counts, not the sum."
    )
    also: list[Words] = Field(
        [], alias="and", max_length=MOST_TERMS, description="Words that have to hold as well."
    )
    without: list[Words] = Field(
        [], alias="not", max_length=MOST_TERMS, description="Words to turn away from."
    )
    image_id: list[ImageId] = Field(
        [], max_length=MOST_TERMS, description="Pictures of the library like those wanted."
    )
    upload: list[UploadId] = Field(
        [], max_length=MOST_TERMS, description="Pictures that `POST /uploads` has taken."
    )
    crop: Short | None = Field(
        None,
        description="Only this part of the one upload: LEFT,TOP,RIGHT,BOTTOM in shares of it.",
        examples=["0.5,0,1,1"],
    )

    def terms(self, service: Service) -> tuple[Term, ...]:
        """Return the terms of the query.

        Raises:
            QueryError: nothing is asked for, too much is, or it makes no sense.
        """
        if self.crop and len(self.upload) != 1:
            raise QueryError("crop: give exactly one upload")
        crop = parse_crop(self.crop) if self.crop else None
        terms: list[Term] = []
        if self.q is not None:
            terms += [Term(self.q)] if self.plain else parse(self.q)
        terms += [Term(image_id=image_id) for image_id in self.image_id]
        terms += [Term(image=service.uploads.image(one), crop=crop) for one in self.upload]
        terms += [parse_term(text) for text in self.also]
        terms += [parse_term(text, "-") for text in self.without]
        if not terms:
            raise QueryError("nothing is asked for: give q, image_id or upload")
        if len(terms) > MOST_TERMS:
            raise QueryError(f"a query of {len(terms)} terms: {MOST_TERMS} are the most")
        if any(term.path is not None for term in terms):
            raise QueryError(
                "words that begin like a path name no picture here: POST the picture to "
                "/api/v1/uploads, or take the words as they are with plain=true"
            )
        return tuple(terms)

    def to_query(self, service: Service) -> Query:
        """Return the query; errors as `terms`."""
        return Query(self.terms(service), every=self.every or bool(self.also))


class Filtered(BaseModel):
    """Only pictures that are like this; names and meaning as on the command line."""

    under: list[PathText] = Field(
        [], max_length=20, description="Only at or below this absolute path: one of them."
    )
    path: list[Short] = Field(
        [],
        max_length=20,
        description="Only files that a pattern of .gitignore fits: the last one decides.",
        examples=[["2019/**", "!*.gif"]],
    )
    after: Short | None = Field(None, description="Only taken in or after 2019, 2019-06, ...")
    before: Short | None = Field(None, description="Only taken in or before 2020, 2020-06, ...")
    min_width: int = Field(0, ge=0, le=10**9, description="Only so many pixels wide or more.")
    min_height: int = Field(0, ge=0, le=10**9, description="Only so many pixels high or more.")
    min_megapixels: float = Field(0.0, ge=0, le=10**9, description="Only so many million pixels.")
    orientation: Orientation | None = Field(None, description="Only pictures of this shape.")
    camera: list[Short] = Field(
        [], max_length=20, description="Only by a camera with this in its name: one of them."
    )
    format: list[Short] = Field(
        [], max_length=20, description="Only jpeg, png, heic, raw, ...: one of them."
    )
    captioned: bool | None = Field(None, description="Only with, or without, a text of its own.")
    gps: Short | None = Field(
        None,
        description="Only taken there: SOUTH,WEST,NORTH,EAST in degrees.",
        examples=["47.2,5.9,55.1,15.1"],
    )
    tag: list[Short] = Field(
        [], max_length=20, description="Only with this label of `rwkvsearch tag`: all of them."
    )

    def filters(self) -> Filters:
        """Return them; `QueryError` for a value that no picture can have."""
        if any(not path.startswith("/") or "\0" in path for path in self.under):
            raise QueryError("under: give the whole path, as the hits have it")
        if any(glob.removeprefix("!").startswith(("./", "../", "~/")) for glob in self.path):
            raise QueryError("path: a pattern begins anywhere or with /, not with ./, ../ or ~/")
        return Filters(
            folders=tuple(Path(os.path.normpath(path)) for path in self.under),
            globs=tuple(self.path),
            after=self.after,
            before=self.before,
            min_width=self.min_width,
            min_height=self.min_height,
            min_megapixels=self.min_megapixels,
            orientation=self.orientation,
            cameras=tuple(self.camera),
            formats=tuple(self.format),
            captioned=self.captioned,
            box=None if self.gps is None else Box.read(self.gps),
            tags=tuple(self.tag),
        )


class Paged(BaseModel):
    """How much of the answer, and which page."""

    k: int = Field(10, ge=1, le=MOST_K, description="Number of hits.")
    offset: int = Field(0, ge=0, lt=MOST_HITS, description="Pass over so many of the best hits.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.offset + self.k > MOST_HITS:
            raise ValueError(f"offset and k together are {MOST_HITS} at most")
        return self


class Kept(Filtered, Asked):
    """All of a query that an album keeps."""

    k: int = Field(10, ge=1, le=MOST_K, description="Number of hits.")
    min_confidence: float = Field(
        0.0, ge=0, le=1, description="Only hits with at least this confidence."
    )
    diverse: bool = Field(False, description="Of a burst or of near copies only the best.")

    def to_query(self, service: Service) -> Query:
        """Return the query; errors as `terms` and `filters`."""
        return Query(
            self.terms(service),
            every=self.every or bool(self.also),
            filters=self.filters(),
            k=self.k,
            min_confidence=self.min_confidence,
            diverse=self.diverse,
        )


class Search(Paged, Kept):
    """All of a search."""

    def to_query(self, service: Service) -> Query:
        """As `Kept.to_query`, with the page."""
        return replace(super().to_query(service), offset=self.offset)
