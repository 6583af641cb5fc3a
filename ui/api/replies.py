"""Answers of the API whose texts may hold file names of any bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from typing import Any

from fastapi import Response


def reply(value: Any, status: int = 200) -> Response:
    """A dataclass as JSON; ASCII only, so that undecodable bytes of a name pass as surrogates."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    headers = {"Cache-Control": "no-store"}
    return Response(json.dumps(value), status, headers, media_type="application/json")
