"""Probes of whoever keeps the server running: is it alive, can it answer searches."""

from __future__ import annotations

from fastapi import APIRouter, Response

from rwkvsearch.ui.api.problems import problem
from rwkvsearch.ui.api.searching import TheService

router = APIRouter(include_in_schema=False)  # no part of the API: they need no token


@router.head("/healthz")
@router.get("/healthz")
async def alive() -> Response:
    """Whether the process answers; needs no token, and tells nothing else."""
    return _text("alive\n")


@router.head("/readyz")
@router.get("/readyz")
def ready(service: TheService) -> Response:
    """Whether searches are answered: the model is in memory and the library readable; no token."""
    reason = service.readiness.why_not()
    if reason is None:
        return _text("ready\n")
    return problem(503, reason, {"Cache-Control": "no-store"})


def _text(said: str) -> Response:
    return Response(said, headers={"Cache-Control": "no-store"}, media_type="text/plain")
