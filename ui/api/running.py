"""The server as a process: started once its library is open, stopped in good order."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import closing

import uvicorn

from rwkvsearch.ui.api.app import create_app
from rwkvsearch.ui.api.guards.endless import EndlessAnswers
from rwkvsearch.ui.api.guards.protect import protect
from rwkvsearch.ui.api.recording import Recording, log
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.api.settings import Settings
from rwkvsearch.ui.logs import start_logging
from rwkvsearch.ui.web.page import build, mount

GRACE = 5
"""Seconds for what is being answered when the server is told to stop."""


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, endless: EndlessAnswers, on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._endless = endless
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._endless.stop()
        logging.getLogger("uvicorn.error").addFilter(_is_trouble)
        await super().shutdown(sockets)


def assemble(service: Service) -> Recording:
    """Return the whole server: the API, then the pages, around both the guards and the log."""
    whole = mount(create_app(service), build(service))
    return Recording(protect(whole, service.settings), service.settings, service.metrics)


def run(settings: Settings, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C, a `KeyboardInterrupt`, or SIGTERM, which ends the process with 0.

    `on_ready` is called when requests are answered. What is being answered has `GRACE` seconds.

    Raises:
        LibraryError: there is no library, or the model has no embeddings in it.
        ModelError: the model is unknown, not installed or damaged.
    """
    signal.signal(signal.SIGTERM, _end)  # uvicorn raises it again once it has stopped
    start_logging(settings.log_format, log)
    with closing(Service(settings)) as service:
        app = EndlessAnswers(assemble(service))
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE,
        )
        _Server(config, app, on_ready).run([listener])


def _is_trouble(record: logging.LogRecord) -> bool:
    """False for what is cut off at the end of the grace: nobody can do anything about it."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, asyncio.CancelledError) or record.msg.startswith("Cancel "))


def _end(_number: int, _frame: object) -> None:
    raise SystemExit(0)
