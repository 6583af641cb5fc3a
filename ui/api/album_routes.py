"""Albums: queries that are kept under a name, and what is said of their hits."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from rwkvsearch.indexer.albums import (
    Album,
    delete_album,
    forget_votes,
    read_album,
    read_albums,
    rename_album,
    save_album,
    vote,
)
from rwkvsearch.indexer.library import Library
from rwkvsearch.retrieval.query import Query as Wanted
from rwkvsearch.retrieval.query_json import query_from_json, query_to_json, without_pictures
from rwkvsearch.ui.albums import as_object, words_of
from rwkvsearch.ui.api.asking import MOST_HITS, MOST_K, ImageId, Kept
from rwkvsearch.ui.api.models import AlbumFound, AlbumInfo, Albums
from rwkvsearch.ui.api.problems import errors
from rwkvsearch.ui.api.replies import AsciiJson
from rwkvsearch.ui.api.searching import TheService, found_fields
from rwkvsearch.ui.api.service import Service

router = APIRouter(
    prefix="/albums", tags=["albums"], default_response_class=AsciiJson, responses=errors(503)
)

AlbumName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
Name = Annotated[str, Path(min_length=1, max_length=200, description="Of the album.")]
Voted = Annotated[ImageId, Path(description="Of a picture.")]


class NewAlbum(Kept):
    """A query to keep, and its name."""

    model_config = ConfigDict(strict=True)

    name: AlbumName
    replace_it: bool = Field(
        False, alias="replace", description="Put it in the place of an album of that name."
    )


class AlbumChange(BaseModel):
    """What becomes of an album."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: AlbumName = Field(description="Its new name.")


class Vote(BaseModel):
    """What is said of a picture in an album."""

    model_config = ConfigDict(extra="forbid", strict=True)

    liked: bool = Field(description="Whether it is right; wrong ones are not shown again.")


class AlbumPage(BaseModel):
    """Which of the hits of an album."""

    model_config = ConfigDict(extra="forbid")

    k: int | None = Field(None, ge=1, le=MOST_K, description="Number of hits; default: as saved.")
    offset: int = Field(
        0, ge=0, le=MOST_HITS - MOST_K, description="Pass over so many of the best hits."
    )


@router.get("")
def albums(service: TheService) -> Albums:
    """All albums by name."""
    return Albums(albums=[AlbumInfo(**_said(one)) for one in read_albums(service.library)])


@router.post("", name="save an album", status_code=201, responses=errors(400, 404, 409, 413, 422))
def save(service: TheService, asked: NewAlbum, response: Response) -> AlbumInfo:
    """Keep a query; uploads are kept as the model sees them."""
    query = asked.to_query(service)
    with service.engine() as engine:
        engine.run(replace(query, k=1))  # what cannot be asked is not kept
        kept = without_pictures(query, engine.encoder.encode_images)
        text = query_to_json(kept, engine.encoder.model_id)
    save_album(service.library, asked.name, text, replace=asked.replace_it)
    response.headers["Location"] = f"/api/v1/albums/{quote(asked.name, safe='')}"
    return _info(service.library, asked.name)


@router.put("/{name:path}/votes/{image_id}", name="vote", responses=errors(400, 404, 422))
def say(service: TheService, name: Name, image_id: Voted, said: Vote) -> AlbumInfo:
    """Say that a picture is right or wrong; the last vote on it counts."""
    vote(service.library, name, *([image_id], []) if said.liked else ([], [image_id]))
    return _info(service.library, name)


@router.delete("/{name:path}/votes/{image_id}", name="forget a vote", responses=errors(404, 422))
def take_back(service: TheService, name: Name, image_id: Voted) -> AlbumInfo:
    """Forget the vote on a picture, if there is one."""
    forget_votes(service.library, name, image_id)
    return _info(service.library, name)


@router.get("/{name:path}", name="ask an album", responses=errors(404, 422))
def show(service: TheService, name: Name, page: Annotated[AlbumPage, Query()]) -> AlbumFound:
    """Ask the query of an album anew."""
    began = time.perf_counter()
    query = album_query(service, name)
    query = replace(query, k=min(page.k or query.k, MOST_K), offset=page.offset)
    fields = found_fields(service, query, None, began)
    fields |= {"album": name, "liked": [*query.liked], "disliked": [*query.disliked]}
    return AlbumFound(**fields)


@router.patch("/{name:path}", name="rename an album", responses=errors(400, 404, 409, 422))
def rename(service: TheService, name: Name, change: AlbumChange) -> AlbumInfo:
    """Give an album another name."""
    rename_album(service.library, name, change.name)
    return _info(service.library, change.name)


@router.delete(
    "/{name:path}",
    name="delete an album",
    status_code=204,
    response_class=Response,
    responses=errors(404, 422),
)
def delete(service: TheService, name: Name) -> None:
    """Forget an album and its votes; no picture is touched."""
    delete_album(service.library, name)


def album_query(service: Service, name: str) -> Wanted:
    """Return what an album asks, with the votes; errors as `read_album` and `query_from_json`."""
    album = read_album(service.library, name)
    with service.engine() as engine:
        query = query_from_json(album.query, engine.encoder.model_id)
    return replace(query, liked=album.liked, disliked=album.disliked)


def _info(library: Library, name: str) -> AlbumInfo:
    return AlbumInfo(**_said(read_album(library, name)))


def _said(album: Album) -> dict[str, Any]:
    said = as_object(album) | {"terms": words_of(album)}
    kept = said["query"].get("terms") if isinstance(said["query"], dict) else None
    for term in kept if isinstance(kept, list) else ():
        if isinstance(term, dict):  # what a model makes of a picture tells nobody anything
            term.pop("embedding", None)
    return said
