"""Every request: counted by its route, and a line in the log without what was asked."""

from __future__ import annotations

import logging
import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rwkvsearch.ui.api.guards.probes import PROBES
from rwkvsearch.ui.api.metrics import Metrics
from rwkvsearch.ui.api.settings import Settings
from rwkvsearch.ui.logs import FIELDS, request_id

LOGGER = "rwkvsearch.access"
PREFIX = "/api/v1"
PAGE = "page"
"""The route of whatever is not ours."""
_OURS = ("/api/", "/docs", "/openapi.json", *PROBES)
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_ID = b"x-request-id"
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")

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
        number = _number(scope)
        request_id.set(number)  # a request has a task, and so a context, of its own

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                others = [pair for pair in message.get("headers", ()) if pair[0] != _ID]
                message["headers"] = [*others, (_ID, number.encode())]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - began
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = _route(scope)
            self._metrics.answered(route, method, status, seconds)
            self._log(scope, route, status, round(1000 * seconds, 1))

    def _log(self, scope: Scope, route: str, status: int, ms: float) -> None:
        target = scope["path"]
        if self._log_queries and scope["query_string"]:
            target += f"?{scope['query_string'].decode('latin-1')}"
        client = scope["client"][0] if scope.get("client") else None
        fields = {
            "client": client,
            "method": scope["method"],
            "path": target,
            "route": route,
            "status": status,
            "ms": ms,
        }
        said = (scope["method"], target, status, ms, client)
        log.info("%s %s %s, %.1f ms, %s", *said, extra={FIELDS: fields})


def _number(scope: Scope) -> str:
    """What the request is called by whoever sent it, such as a proxy; else a name of its own."""
    given = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == _ID]
    if len(given) == 1 and _PLAIN.fullmatch(given[0]):
        return str(given[0])
    return secrets.token_hex(8)


def _route(scope: Scope) -> str:
    """The template of the path, so that ids and names do not each become a series."""
    if not scope["path"].startswith(_OURS):
        return PAGE
    template = getattr(scope.get("route"), "path", None) or "none"
    inside = scope["path"].startswith(PREFIX) and not template.startswith(PREFIX)
    return f"{PREFIX}{template}" if inside and template != "none" else template
