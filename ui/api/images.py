"""One picture of the library: what is known of it, what is like it, why it was found."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator, Field
from starlette.datastructures import URL

from rwkvsearch.data.errors import NotThere
from rwkvsearch.data.remote import shown
from rwkvsearch.indexer.contents import live_image, open_content
from rwkvsearch.indexer.details import Details, details_of
from rwkvsearch.retrieval.query import Query as Wanted
from rwkvsearch.retrieval.query import Term
from rwkvsearch.ui.api.asking import MOST_K, Asked, Filtered, ImageId, Paged
from rwkvsearch.ui.api.models import (
    Found,
    FoundTexts,
    ImageDetails,
    ImageFile,
    ImageText,
    LabelFound,
    Reason,
)
from rwkvsearch.ui.api.problems import errors
from rwkvsearch.ui.api.replies import AsciiJson
from rwkvsearch.ui.api.searching import TheService, found, thumb_of
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.api.texts import texts_of

router = APIRouter(tags=["images"], default_response_class=AsciiJson)

_CHUNK = 1 << 20
_QUALITY = 85  # of a heat map

Id = Annotated[ImageId, Path(alias="id", description="Of a hit: its `image_id`.")]
Hash = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file.")]
Size = Annotated[
    Literal[320, 1600], BeforeValidator(int), Query(description="Pixels of the longest side.")
]


class Similar(Paged, Filtered):
    """Which of the pictures that are alike."""

    model_config = {"extra": "forbid"}

    min_confidence: float = Field(0.0, ge=0, le=1)
    diverse: bool = Field(False, description="Of a burst or of near copies only the best.")


def binary(media_type: str) -> dict[int | str, dict[str, Any]]:
    """Return what a route declares of an answer that is no JSON."""
    return {200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}}


@router.get("/images/{id}", name="details", responses=errors(404, 422))
def image(service: TheService, image_id: Id) -> ImageDetails:
    """Everything that is known of a picture."""
    return _shown(_details(service, image_id))


@router.get(
    "/images/{id}/similar",
    name="similar pictures",
    response_model=Found,
    responses=errors(404, 422),
)
def similar(service: TheService, image_id: Id, asked: Annotated[Similar, Query()]) -> Response:
    """Pictures like this one; it is itself the first of them."""
    began = time.perf_counter()
    _details(service, image_id)
    query = Wanted(
        (Term(image_id=image_id),),
        filters=asked.filters(),
        k=asked.k,
        offset=asked.offset,
        min_confidence=asked.min_confidence,
        diverse=asked.diverse,
    )
    return found(service, query, None, began)


@router.get("/images/{id}/captions", name="words for a picture", responses=errors(404, 422))
def words(
    service: TheService,
    image_id: Id,
    k: Annotated[int, Query(ge=1, le=MOST_K, description="Number of texts.")] = 10,
) -> FoundTexts:
    """Words for this picture: the texts of the library that fit it best."""
    _details(service, image_id)
    return texts_of(service, Wanted((Term(image_id=image_id),), k=k))


@router.get(
    "/images/{id}/why",
    name="heat map",
    response_class=Response,
    responses=binary("image/webp") | errors(404, 422),
)
def why(service: TheService, image_id: Id, asked: Annotated[Asked, Query()]) -> Response:
    """The picture with a heat map of what fits the query, as WebP."""
    query = asked.to_query(service)
    with service.engine() as engine:
        picture, _ = engine.why(query, engine.hit_of(query, image_id))
    data = io.BytesIO()
    picture.save(data, "WEBP", quality=_QUALITY)
    return Response(data.getvalue(), media_type="image/webp", headers={"Cache-Control": "no-store"})


@router.get("/images/{id}/why.json", responses=errors(404, 422))
def why_in_words(
    service: TheService, request: Request, image_id: Id, asked: Annotated[Asked, Query()]
) -> Reason:
    """The same in words: what each term has to do with the score."""
    query = asked.to_query(service)
    with service.engine() as engine:
        hit = engine.hit_of(query, image_id)
        _, said = engine.why(query, hit)
    picture = URL(request.url.path.removesuffix(".json")).replace(query=request.url.query)
    return Reason(
        image_id=image_id,
        score=round(hit.score, 6),
        confidence=round(hit.confidence, 6),
        words=said,
        picture=str(picture),
    )


@router.get(
    "/images/{id}/original",
    name="original file",
    response_class=StreamingResponse,
    responses=binary("application/octet-stream") | errors(404, 422),
)
def original(service: TheService, image_id: Id) -> Response:
    """The file itself, as it was indexed."""
    known = _details(service, image_id)
    stream = open_content(service.library, live_image(service.library, known.content_hash))
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    name = quote(known.files[0].path.name, errors="surrogateescape")
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }
    return StreamingResponse(_parts(stream), 200, headers, "application/octet-stream")


@router.get(
    "/thumbs/{content_hash}",
    name="thumbnail",
    response_class=Response,
    responses=binary("image/webp")
    | {304: {"description": "It is what `If-None-Match` names."}}
    | errors(404, 422),
)
def thumb(
    service: TheService,
    content_hash: Hash,
    size: Size = 320,
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
) -> Response:
    """A small picture, as WebP; what is under one address never changes."""
    tag = f'"{content_hash}-{size}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable"}
    if tag in (if_none_match or ""):
        return Response(None, 304, headers)
    return Response(service.thumbs.get(content_hash, size), 200, headers, "image/webp")


def _details(service: Service, image_id: int) -> Details:
    for details in details_of(service.library, [image_id]).values():
        return details
    raise NotThere(f"there is no image {image_id} in {service.library.name}")


def _shown(details: Details) -> ImageDetails:
    return ImageDetails(
        image_id=details.image_id,
        content_hash=details.content_hash,
        thumb=thumb_of(details.content_hash),
        width=details.width,
        height=details.height,
        format=details.format,
        frames=details.frames,
        taken_at=details.taken_at,
        camera=details.camera,
        lens=details.lens,
        latitude=details.latitude,
        longitude=details.longitude,
        files=[
            ImageFile(
                path=shown(file.path),
                bytes=file.bytes,
                modified=file.modified.isoformat() if file.modified else None,
            )
            for file in details.files
        ],
        captions=[ImageText(text=one.text, source=one.source) for one in details.captions],
        tags=[LabelFound(label=one.label, confidence=one.confidence) for one in details.tags],
        models=[*details.models],
    )


def _parts(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while part := stream.read(_CHUNK):
            yield part
