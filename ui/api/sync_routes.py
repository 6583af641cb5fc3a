"""Routes that start, watch and stop a sync."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response

from rwkvsearch.data.errors import LibraryBusy, LibraryError, ServerGone
from rwkvsearch.ui.api.problems import errors
from rwkvsearch.ui.api.replies import reply
from rwkvsearch.ui.api.sync_state import SyncState
from rwkvsearch.ui.api.syncing import Syncs

router = APIRouter(tags=["library"])


def _syncs(request: Request) -> Syncs:
    syncs: Syncs = request.app.state.service.syncs
    return syncs


@router.get("/sync", response_model=SyncState)
def sync_state(request: Request) -> Response:
    """How far a sync is, or how the last one of this server ended."""
    return reply(_syncs(request).state())


@router.post(
    "/sync",
    status_code=202,
    response_model=SyncState,
    responses=errors(409),
)
def start_sync(request: Request) -> Response:
    """Bring the library up to date with all folders that were indexed before, in the background.

    Refused with 409 while a sync runs, of this server or of another process, with 403 if this
    server cannot write to the library, and with 503 while its database does not answer.
    """
    try:
        return reply(_syncs(request).start(), 202)
    except (LibraryBusy, ServerGone):
        raise
    except LibraryError as error:
        raise HTTPException(403, str(error)) from None


@router.delete("/sync", status_code=202, response_model=SyncState)
def stop_sync(request: Request) -> Response:
    """Stop a sync; what is done is kept. Without one, nothing happens."""
    syncs = _syncs(request)
    syncs.stop()
    return reply(syncs.state(), 202)
