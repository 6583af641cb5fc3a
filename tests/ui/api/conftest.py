"""Ask an ASGI application, as a server would, with nothing tidied up on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

Application = Callable[..., Awaitable[None]]


@dataclass
class Reply:
    """What came back; header names in lower case. `status` 0: nothing did."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    closed: int | None = None
    """Close code of a WebSocket."""

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document, which it has to be."""
        assert self.headers["content-type"] == "application/problem+json"
        document = json.loads(self.body)
        assert document["status"] == self.status
        assert isinstance(document, dict)
        return document


class Ask(Protocol):
    def __call__(
        self,
        app: Application,
        method: str = "GET",
        path: str = "/",
        headers: dict[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | Iterable[bytes] = b"",
        *,
        query: str = "",
        client: str = "127.0.0.1",
        kind: str = "http",
    ) -> Reply: ...


@pytest.fixture
def ask() -> Ask:
    """Send one request, `path` decoded already; `Host` is that of the server unless given."""

    def send_one(
        app: Application,
        method: str = "GET",
        path: str = "/",
        headers: dict[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | Iterable[bytes] = b"",
        *,
        query: str = "",
        client: str = "127.0.0.1",
        kind: str = "http",
    ) -> Reply:
        pairs = list(headers.items() if isinstance(headers, dict) else headers)
        if not any(name.lower() == "host" for name, _ in pairs):
            pairs.append(("Host", "127.0.0.1:7860"))
        scope = {
            "type": kind,
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http" if kind == "http" else "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
            "client": (client, 50000),
            "server": ("127.0.0.1", 7860),
        }
        return asyncio.run(_asked(app, scope, body))

    return send_one


async def _asked(app: Application, scope: dict[str, Any], body: bytes | Iterable[bytes]) -> Reply:
    parts = [body] if isinstance(body, bytes) else list(body)
    reply = Reply()

    async def receive() -> dict[str, Any]:
        if scope["type"] == "websocket":
            return {"type": "websocket.connect"}
        if not parts:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert reply.status == 0, "two answers"
            reply.status = message["status"]
            reply.headers = {key.decode(): value.decode() for key, value in message["headers"]}
        elif message["type"] == "http.response.body":
            reply.body += message.get("body", b"")
        elif message["type"] == "websocket.close":
            reply.closed = message["code"]

    await app(scope, receive, send)
    return reply
