"""Searches: words, pictures of the library, uploads, all together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import isfinite
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request, Response, UploadFile
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from rwkvsearch.data.errors import QueryError
from rwkvsearch.data.remote import shown
from rwkvsearch.indexer.details import shapes_of
from rwkvsearch.retrieval.grammar import unparse
from rwkvsearch.retrieval.query import Hit
from rwkvsearch.retrieval.query import Query as Wanted
from rwkvsearch.ui.api.asking import Search, service_of
from rwkvsearch.ui.api.models import Found, ImageHit, Timings, Uploaded
from rwkvsearch.ui.api.problems import errors
from rwkvsearch.ui.api.replies import AsciiJson
from rwkvsearch.ui.api.service import Service

router = APIRouter(tags=["search"], default_response_class=AsciiJson)

TheService = Annotated[Service, Depends(service_of)]


class SearchForm(Search):
    """All of a search, and pictures to search by."""

    image: list[UploadFile] = Field(
        [], max_length=8, description="Pictures like those wanted, as files."
    )


@router.get("/search", response_model=Found, responses=errors(404, 422))
def search(service: TheService, asked: Annotated[Search, Query()]) -> Response:
    """Find pictures by words, by pictures of the library, by uploads, or all together."""
    began = time.perf_counter()
    return found(service, asked.to_query(service), asked.q, began)


@router.post("/search", response_model=Found, responses=errors(400, 404, 413, 422))
def search_by_files(
    service: TheService,
    asked: Annotated[SearchForm, Form(media_type="multipart/form-data")],
) -> Response:
    """The same with pictures as files in a form; they are kept as uploads are."""
    began = time.perf_counter()
    uploads = [service.uploads.add(file.file.read()) for file in asked.image]
    asked = asked.model_copy(update={"upload": [*asked.upload, *uploads]})
    return found(service, asked.to_query(service), asked.q, began)


@router.post(
    "/uploads",
    status_code=201,
    responses=errors(413, 422),
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The bytes of a picture file.",
            "content": {"application/octet-stream": {"schema": {"format": "binary"}}},
        }
    },
)
async def upload(service: TheService, request: Request) -> Uploaded:
    """Keep a picture for searches, in memory only; the body is the file itself."""
    data = await request.body()
    return await run_in_threadpool(_kept, service, data)


def _kept(service: Service, data: bytes) -> Uploaded:
    if not data:
        raise QueryError("nothing was sent: the body is the bytes of a picture file")
    upload_id = service.uploads.add(data)
    kept = service.uploads.get(upload_id)
    return Uploaded(upload=upload_id, width=kept.width, height=kept.height, format=kept.format)


def found(service: Service, query: Wanted, words: str | None, began: float) -> Response:
    """Return the answer to a query; `began` is when the request came in, by `perf_counter`.

    Whole, as a `Found`: FastAPI would check it in another thread, then write it in that of all.
    """
    answer = Found(**found_fields(service, query, words, began))
    return AsciiJson(answer.model_dump(mode="json"))


def found_fields(
    service: Service, query: Wanted, words: str | None, began: float
) -> dict[str, Any]:
    """Return what every answer with hits says."""
    answer = service.search(query)
    hits = hits_of(service, answer.hits)
    encode, search, total = (
        round(1000 * seconds, 3)
        for seconds in (
            answer.encode_seconds,
            answer.search_seconds,
            time.perf_counter() - began,
        )
    )
    rest = max(0.0, round(total - encode - search, 3))
    return {
        "query": words,
        "terms": unparse(query.terms),
        "model": answer.model_id,
        "how": answer.how,
        "message": answer.message,
        "offset": query.offset,
        "timings": Timings(encode=encode, search=search, rest=rest, total=total),
        "hits": hits,
    }


def hits_of(service: Service, hits: Sequence[Hit]) -> list[ImageHit]:
    """Return hits as the API says them."""
    shapes = shapes_of(service.library, [hit.image_id for hit in hits])
    return [
        ImageHit(
            rank=hit.rank,
            score=round(hit.score, 6),
            confidence=round(hit.confidence, 6),
            path=shown(hit.path),
            paths=[shown(path) for path in hit.paths],
            image_id=hit.image_id,
            terms=[round(score, 6) if isfinite(score) else None for score in hit.terms],
            thumb=thumb_of(shapes[hit.image_id].content_hash),
            width=shapes[hit.image_id].width,
            height=shapes[hit.image_id].height,
        )
        for hit in hits
        if hit.image_id in shapes
    ]


def thumb_of(content_hash: str) -> str:
    """Return where the small picture is."""
    return f"/api/v1/thumbs/{content_hash}"
