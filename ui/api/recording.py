"""Every request: counted by its route, and a line of JSON in the log without what was asked."""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rwkvsearch.ui.api.metrics import Metrics
from rwkvsearch.ui.api.settings import Settings

LOGGER = "rwkvsearch.access"
PREFIX = "/api/v1"
PAGE = "page"
"""The route of whatever is not ours."""
_OURS = ("/api/", "/docs", "/openapi.json")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

log = logging.getLogger(LOGGER)


class Recording:
    """Wraps an application; the outermost, so that what is refused is seen, too."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics
        self._log_queries = settings.log_queries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - began
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.answered(_route(scope), method, status, seconds)
            log.info(self._line(scope, status, seconds))

    def _line(self, scope: Scope, status: int, seconds: float) -> str:
        target = scope["path"]
        if self._log_queries and scope["query_string"]:
            target += f"?{scope['query_string'].decode('latin-1')}"
        client = scope.get("client")
        return json.dumps(
            {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "client": client[0] if client else None,
                "method": scope["method"],
                "path": target,
                "status": status,
                "ms": round(1000 * seconds, 1),
            }
        )


def start_logging() -> None:
    """Let the lines go to stderr, as they are."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def _route(scope: Scope) -> str:
    """The template of the path, so that ids and names do not each become a series."""
    if not scope["path"].startswith(_OURS):
        return PAGE
    template = getattr(scope.get("route"), "path", None) or "none"
    inside = scope["path"].startswith(PREFIX) and not template.startswith(PREFIX)
    return f"{PREFIX}{template}" if inside and template != "none" else template
