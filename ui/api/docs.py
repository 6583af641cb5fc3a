"""/docs: the description of the API to read and try, without anything from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

# Swagger UI comes with fastapi-offline, of which nothing else is used.
_ASSETS = {
    "swagger-ui.css": ("fastapi_offline", "text/css"),
    "swagger-ui-bundle.js": ("fastapi_offline", "text/javascript"),
    "docs.js": ("rwkvsearch.ui.api", "text/javascript"),
}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def docs() -> Response:
    """The page."""
    return Response(_read("rwkvsearch.ui.api", "docs.html"), media_type="text/html")


@router.get("/docs/{name}")
def asset(name: str) -> Response:
    """A script or style of the page."""
    if name not in _ASSETS:
        raise HTTPException(404, f"there is no {name!r} here")
    package, media_type = _ASSETS[name]
    headers = {"Cache-Control": "private, max-age=3600"}
    return Response(_read(package, name), 200, headers, media_type)


def _read(package: str, name: str) -> bytes:
    return files(package).joinpath("static", name).read_bytes()
