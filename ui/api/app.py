"""The routes of the API as one application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from rwkvsearch.ui.api.routes import add_api
from rwkvsearch.ui.api.service import Service


def create_app(service: Service) -> FastAPI:
    """Return the API as an application; it closes the service when it is shut down."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="rwkvsearch",
        version=version("rwkvsearch"),
        docs_url=None,  # they load scripts from elsewhere; see docs.py
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    add_api(app, service)
    return app
