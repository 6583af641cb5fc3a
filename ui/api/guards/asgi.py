"""What the guards around the server share: messages of ASGI, headers, and refusals."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[str, str]]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY_VIOLATED = 1008
"""Close code of a WebSocket. Source: RFC 6455, section 7.4.1."""


def headers_named(scope: Scope, name: str) -> list[str]:
    """All values of a request header; `name` in lower case."""
    wanted = name.encode("ascii")
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == wanted]


def header(scope: Scope, name: str) -> str | None:
    """The value of a request header; None if it is missing, or there more than once."""
    values = headers_named(scope, name)
    return values[0] if len(values) == 1 else None


def accepts_html(scope: Scope) -> bool:
    """Whether a request is that of a browser that opens a page."""
    accepted = any("text/html" in value for value in headers_named(scope, "accept"))
    return scope["type"] == "http" and scope["method"] in {"GET", "HEAD"} and accepted


def client_of(scope: Scope) -> str:
    """Whom a request counts for: an address, or the network of an IPv6 address."""
    client = scope.get("client")
    if not client:
        return "local"
    try:
        address = ip_address(client[0].split("%")[0])
    except ValueError:
        return str(client[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        # A household or a machine is given 2^64 addresses.
        return str(IPv6Address(int(address) >> 64 << 64))
    return str(address)


async def answer(
    scope: Scope, send: Send, status: int, body: bytes, media_type: str, headers: Headers = ()
) -> None:
    """Send a whole HTTP answer."""
    every = [("Content-Type", media_type), ("Content-Length", str(len(body))), *headers]
    coded = [(name.lower().encode(), value.encode("latin-1")) for name, value in every]
    await send({"type": "http.response.start", "status": status, "headers": coded})
    hidden = scope.get("method") == "HEAD"
    await send({"type": "http.response.body", "body": b"" if hidden else body})


async def refuse(
    scope: Scope, receive: Receive, send: Send, status: int, detail: str, headers: Headers = ()
) -> None:
    """Send a problem document (RFC 9457), or close a WebSocket that asks to be opened."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": POLICY_VIOLATED})
        return
    title = HTTPStatus(status).phrase
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    every = [("Cache-Control", "no-store"), *headers]
    body = json.dumps(problem).encode()
    await answer(scope, send, status, body, "application/problem+json", every)
