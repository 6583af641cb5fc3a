"""Of the routes that Gradio brings along only those its pages need."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from rwkvsearch.ui.api.guards.asgi import App, Message, Receive, Scope, Send, header, refuse

_READ, _WRITE, _MCP = ({"GET", "HEAD"}, {"POST"}, {"GET", "POST", "DELETE"})
_OPEN: tuple[tuple[set[str], str], ...] = (
    (_READ, r"/(config/?|theme\.css|favicon\.ico|manifest\.json|robots\.txt)"),
    (_READ, r"/(assets|static)/[\w./@+-]{1,200}"),
    (_READ, r"/gradio_api/(info|app_id|theme\.css|queue/data|heartbeat/[\w-]{1,100})/?"),
    (_WRITE, r"/gradio_api/(run/[\w.-]{1,200}|queue/join|cancel|reset)/?"),
    (_MCP, r"/gradio_api/mcp/?"),
)
_FILE = "gradio.FileData"


class GradioDoor:
    """Stands in front of Gradio: pages, their scripts and events, and MCP; the rest is 404.

    Closed are its uploads, files, proxy, streams, functions of components, deep links, run history,
    monitoring, login and whatever a later version adds. An event is JSON, and must not hold the
    description of a file: Gradio would fetch its address, or read it from its cache, before any
    function of ours sees it.
    """

    def __init__(self, app: App, pages: Iterable[str]) -> None:
        self.app = app
        named = "|".join(re.escape(page) for page in pages if page)
        page = (_READ, rf"/({named})?/?" if named else "/")
        self._open = [(methods, re.compile(pattern)) for methods, pattern in (*_OPEN, page)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http" or not self._is_open(scope):
            await refuse(scope, receive, send, 404, "there is nothing at this address")
        elif scope["method"] == "POST":
            await self._event(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        found = (methods for methods, pattern in self._open if pattern.fullmatch(path))
        return any(scope["method"] in methods for methods in found)

    async def _event(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = (header(scope, "content-type") or "").split(";")[0].strip().lower()
        if kind != "application/json":
            await refuse(scope, receive, send, 415, "an event is application/json")
            return
        body = await _whole(receive)
        if body is None:
            return
        try:
            allowed = not names_a_file(json.loads(body))
        except (ValueError, RecursionError):
            await refuse(scope, receive, send, 400, "the body is not JSON")
            return
        if not allowed:
            detail = "files are not taken here: POST /api/v1/uploads"
            await refuse(scope, receive, send, 400, detail)
            return
        await self.app(scope, _Again(body, receive).receive, send)


class _Again:
    """Gives a body that was read already, then what comes behind it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def receive(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def names_a_file(value: Any) -> bool:
    """Whether JSON holds what Gradio takes for a file, at any depth."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            meta = value.get("meta")
            if isinstance(meta, dict) and meta.get("_type") == _FILE:
                return True
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
    return False


async def _whole(receive: Receive) -> bytes | None:
    """The body of a request; None if the client has gone."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
