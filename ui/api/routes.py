"""All routes of the API, put into an application."""

from __future__ import annotations

from itertools import takewhile

from fastapi import APIRouter, FastAPI, Request, Security
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.routing import Match

from rwkvsearch.ui.api import album_routes, docs, images, searching
from rwkvsearch.ui.api.problems import add_problems, errors
from rwkvsearch.ui.api.recording import PREFIX
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.api.status import status_router
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
        status_router(service),
    ]


def add_api(app: FastAPI, service: Service) -> None:
    """Put everything into the application, behind the routers that others have put there.

    What is below the prefix and no route is answered here, not by what is mounted behind it.
    """
    app.description = _DESCRIPTION
    locked = service.settings.token is not None
    needed = [Security(HTTPBearer(auto_error=False))] if locked else []
    usual = errors(401, 403, 429) if locked else errors(403, 429)
    for router in routers(service):
        app.include_router(router, prefix=PREFIX, dependencies=needed, responses=usual)
    app.include_router(docs.router)
    add_problems(app)
    app.add_api_route(
        PREFIX + "/{rest:path}", _nowhere, methods=_ALL, include_in_schema=False, name=_NOWHERE
    )


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
