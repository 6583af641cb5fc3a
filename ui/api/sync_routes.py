"""Routes that start, watch and stop a sync."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.ui.api.replies import reply
from rwkvsearch.ui.api.sync_state import SyncState
from rwkvsearch.ui.api.syncing import Syncs

router = APIRouter(prefix="/api/v1", tags=["library"])


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
    responses={
        403: {"description": "This server cannot write to the library."},
        409: {"description": "A sync runs already, of this server or of another process."},
    },
)
def start_sync(request: Request) -> Response:
    """Bring the library up to date with all folders that were indexed before, in the background."""
    try:
        return reply(_syncs(request).start(), 202)
    except LibraryBusy as error:
        raise HTTPException(409, str(error)) from None
    except LibraryError as error:
        raise HTTPException(403, str(error)) from None


@router.delete("/sync", status_code=202, response_model=SyncState)
def stop_sync(request: Request) -> Response:
    """Stop a sync; what is done is kept. Without one, nothing happens."""
    syncs = _syncs(request)
    syncs.stop()
    return reply(syncs.state(), 202)
