"""Routes of the map: where every picture lies, whether that is current, and what each one is."""

from __future__ import annotations

import base64
import re
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.details import content_hashes
from rwkvsearch.indexer.library import ModelInfo
from rwkvsearch.indexer.maps import CollectionMap
from rwkvsearch.ui.api.mapping import MapState
from rwkvsearch.ui.api.problems import errors
from rwkvsearch.ui.api.replies import reply
from rwkvsearch.ui.api.searching import thumb_of
from rwkvsearch.ui.api.service import Service

MOST_NAMED = 500
"""Pictures that are asked about at a time."""
LARGEST = 65_535
_ID = re.compile(r"[0-9]{1,18}")

router = APIRouter(tags=["map"])


class MapPoints(BaseModel):
    """The map itself: the same picture at the same place of each list."""

    state: MapState
    ids: list[int] = Field(description="Image ids, ascending, each as what it exceeds the last by.")
    x: str = Field(description="Base64 of little-endian uint16: 0 is left, 65535 right.")
    y: str = Field(description="The same: 0 is the top.")


class MapPicture(BaseModel):
    """A picture on the map."""

    image_id: int
    name: str = Field(description="Of its file, without folders.")
    thumb: str = Field(description="Address of its thumbnail.")


class MapPictures(BaseModel):
    """Those of the pictures asked about that are there."""

    pictures: list[MapPicture]


@router.get("/map", response_model=MapPoints)
def read_points(request: Request) -> Response:
    """The map of the collection: what lies near is alike; nothing is started by asking."""
    service, model = _service_and_model(request)
    made, state = service.maps.look(model, service.warm.reopened)
    return reply({"state": vars(state)} | _points(made))


@router.get("/map/state", response_model=MapState)
def read_state(request: Request) -> Response:
    """Whether there is a map, whether it is current, and how far one is that is being made."""
    service, model = _service_and_model(request)
    return reply(service.maps.look(model, service.warm.reopened)[1])


@router.post("/map", status_code=202, response_model=MapState, responses=errors(409))
def make(request: Request, anew: bool = False) -> Response:
    """Bring the map up to date in the background; lay out all pictures `anew` if asked to."""
    service, model = _service_and_model(request)
    service.maps.start(model, anew=anew)
    return reply(service.maps.look(model, service.warm.reopened)[1], 202)


@router.get("/map/pictures", response_model=MapPictures)
def read_pictures(
    request: Request,
    ids: Annotated[str, Query(max_length=8_000, description="Image ids with commas between.")],
) -> Response:
    """The names and thumbnails of some pictures of the map, 500 at most."""
    wanted = _numbers(ids)
    service: Service = request.app.state.service
    paths = service.library.paths_of(wanted)
    hashes = content_hashes(service.library, [*paths])
    found = [
        {
            "image_id": image_id,
            "name": paths[image_id][0].name,
            "thumb": thumb_of(content_hash),
        }
        for image_id, content_hash in hashes.items()
    ]
    return reply({"pictures": found})


def _service_and_model(request: Request) -> tuple[Service, ModelInfo]:
    service: Service = request.app.state.service
    with service.engine() as engine:
        return service, engine.model


def _points(made: CollectionMap | None) -> dict[str, object]:
    if made is None:
        return {"ids": [], "x": "", "y": ""}
    coded = np.rint(made.points * LARGEST).astype("<u2")
    x, y = (base64.b64encode(column.tobytes()).decode() for column in coded.T)
    return {"ids": np.diff(made.ids, prepend=0).tolist(), "x": x, "y": y}


def _numbers(text: str) -> list[int]:
    """Image ids out of a query."""
    parts = text.split(",")
    if len(parts) > MOST_NAMED or not all(map(_ID.fullmatch, parts)):
        raise QueryError(f"ids: up to {MOST_NAMED} image ids with commas between")
    return [int(part) for part in parts]
