"""Answers of the API whose texts may hold file names of any bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse


class AsciiJson(JSONResponse):
    """JSON in ASCII, so that undecodable bytes of a name pass as surrogates; not to be kept."""

    def render(self, content: Any) -> bytes:
        """As the command line prints it."""
        return json.dumps(content, allow_nan=False).encode()

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Of an answer that is another one tomorrow."""
        super().init_headers({"Cache-Control": "no-store", **(headers or {})})


def reply(value: Any, status: int = 200) -> Response:
    """A dataclass, or what JSON has, as such JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    return AsciiJson(value, status)
