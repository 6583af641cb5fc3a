"""Errors as `application/problem+json` (RFC 9457): one clear line, never a traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from rwkvsearch.data.errors import (
    DataError,
    ImageError,
    LibraryBusy,
    NameTaken,
    NotThere,
    QueryError,
    RwkvSearchError,
)
from rwkvsearch.ui.words import printable

MEDIA_TYPE = "application/problem+json"

_STATUS: tuple[tuple[type[RwkvSearchError], int], ...] = (
    (NotThere, 404),
    (NameTaken, 409),
    (LibraryBusy, 409),
    (QueryError, 422),
    (DataError, 422),
    (ImageError, 422),
    (RwkvSearchError, 503),
)
"""The first that fits counts; the last is what is wrong with the server: its library, its model."""

_SAID = {
    400: "It cannot be read at all.",
    401: "The token is missing or wrong.",
    403: "Not from this page, or not by this name.",
    404: "There is no such thing in the library.",
    409: "It contradicts what is there.",
    413: "Too much was sent.",
    415: "It cannot be read as what it is said to be.",
    422: "It cannot be answered as asked; `detail` says why.",
    429: "Too many requests: wait.",
    503: "The library or the model cannot be used now.",
}

log = logging.getLogger(__name__)


class Problem(BaseModel):
    """What went wrong."""

    type: str = Field("about:blank", description="`title` and `status` say it all.")
    title: str = Field(description="The name of the status.")
    status: int
    detail: str = Field(description="One line: what is wrong, and what to do.")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer that says what went wrong."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": printable(detail),
    }
    return Response(json.dumps(body), status, {**(headers or {})}, media_type=MEDIA_TYPE)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route declares of the errors it may answer, for `responses=`."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": _SAID[status], "content": content} for status in statuses}


def add_problems(app: FastAPI) -> None:
    """Let the application answer every error so."""
    app.add_exception_handler(RwkvSearchError, _own)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)


def status_of(error: RwkvSearchError) -> int:
    """Return the status that an error is answered with."""
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def _own(_: Request, error: Exception) -> Response:
    assert isinstance(error, RwkvSearchError)
    return problem(status_of(error), str(error))


def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), error.headers)


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(422, "; ".join(dict.fromkeys(map(_line, error.errors()))))


def _line(fault: Mapping[str, Any]) -> str:
    """Such as `k: Input should be less than or equal to 1000`."""
    where: Sequence[Any] = fault["loc"][1:] if len(fault["loc"]) > 1 else fault["loc"]
    said = str(fault["msg"]).removeprefix("Value error, ")
    return f"{'.'.join(map(str, where))}: {said}"


def _unforeseen(_: Request, error: Exception) -> Response:
    return problem(500, "the server failed to answer this: its log says where")
