"""All routes of the API, put into an application."""

from __future__ import annotations

from itertools import takewhile

from fastapi import APIRouter, Depends, FastAPI, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from rwkvsearch.data.errors import QueryError
from rwkvsearch.ui.api import (
    album_routes,
    benchmark_routes,
    docs,
    duplicate_routes,
    health_routes,
    images,
    map_routes,
    probe_routes,
    searching,
    status,
    sync_routes,
)
from rwkvsearch.ui.api.problems import add_problems, errors
from rwkvsearch.ui.api.recording import PREFIX
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.api.texts import texts_router

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_NOWHERE = "nowhere"
_ALL = [*_METHODS, "HEAD", "OPTIONS"]
_DESCRIPTION = """\
Find any picture of the library by describing it, by showing another one, or both; find the words
that fit a picture. Hits have the fields of `rwkvsearch query --json`. Errors are
`application/problem+json`: `detail` is one line that says what is wrong and what to do.
"""


def routers(service: Service) -> list[APIRouter]:
    """Return the routers, without the prefix."""
    return [
        searching.router,
        images.router,
        texts_router(),
        album_routes.router,
        status.router,
        sync_routes.router,
        duplicate_routes.router,
        health_routes.router,
        benchmark_routes.router,
        map_routes.router,
    ]


def add_api(app: FastAPI, service: Service) -> None:
    """Put everything into the application, under the same rules.

    What is below the prefix and no route is answered here, not by what is mounted behind it.
    """
    app.description = _DESCRIPTION
    locked = service.settings.token is not None
    needed = [Depends(only_known), *([Security(HTTPBearer(auto_error=False))] if locked else [])]
    usual = errors(*([401] if locked else []), 403, 422, 429, 503)
    for router in routers(service):
        app.include_router(router, prefix=PREFIX, dependencies=needed, responses=usual)
    app.include_router(docs.router)
    app.include_router(probe_routes.router)
    add_problems(app)
    app.add_api_route(
        PREFIX + "/{rest:path}", _nowhere, methods=_ALL, include_in_schema=False, name=_NOWHERE
    )


async def only_known(request: Request) -> None:
    """Refuse parameters that the route does not take, which may be misspelt."""
    known = _parameters(request.scope["route"].dependant)
    for name in request.query_params:
        if known is not None and name not in known:
            raise QueryError(f"{name}: there is no such parameter here; /docs says which there are")


def _parameters(taken: Dependant) -> set[str] | None:
    """The names of a route's parameters; None where a model says it, and which it refuses."""
    names = set()
    for field in taken.query_params:
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return None
        names.add(field.alias)
    for part in map(_parameters, taken.dependencies):
        if part is None:
            return None
        names |= part
    return names


def _nowhere(request: Request, rest: str) -> None:
    """404, or 405 where another method would have found something ahead of this."""
    scope = dict(request.scope)
    routes = request.app.routes
    ahead = [*takewhile(lambda route: getattr(route, "name", "") != _NOWHERE, routes)]
    allowed = [
        method
        for method in _METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in ahead)
    ]
    if allowed:
        said = f"{request.method} is not for this: {', '.join(allowed)}"
        raise HTTPException(405, said, {"Allow": ", ".join(allowed)})
    raise HTTPException(404, f"there is nothing at {PREFIX}/{rest}; /docs says what there is")
