"""Which names a server answers to, and which other pages may make a browser ask it."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from rwkvsearch.ui.api.guards.asgi import (
    SAFE_METHODS,
    App,
    Receive,
    Scope,
    Send,
    header,
    headers_named,
    refuse,
)
from rwkvsearch.ui.api.settings import Settings, is_loopback

# Gradio makes addresses out of them, and its MCP server would send requests there.
_UNTRUSTED = (b"x-forwarded-", b"x-gradio-", b"forwarded", b"x-original-", b"x-rewrite-")
_ANYWHERE = {"0.0.0.0", "::", ""}


class Names:
    """Answers only to names of its own, so that another site's name cannot be bound to it.

    (DNS rebinding: a page of `evil.example`, which suddenly resolves to 127.0.0.1, asks with
    `Host: evil.example`.) The port is not compared: behind a tunnel it is another, and no attack
    needs it. Addresses of the network cannot be rebound, so a server for all of its addresses
    answers to any. Headers of proxies are taken away but for the https that one may speak.
    """

    def __init__(self, app: App, settings: Settings) -> None:
        self.app = app
        self._loopback = settings.is_loopback
        self._anywhere = settings.host in _ANYWHERE
        self._hosts = {name.lower() for name in settings.hosts}
        if self._anywhere:
            own = socket.gethostname().lower()
            self._hosts |= {own, own.split(".")[0], f"{own.split('.')[0]}.local"}
        elif not self._loopback:
            self._hosts.add(settings.host.strip("[]").lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        name = host_name(header(scope, "host"))
        if name is None or not self._is_own(name):
            detail = "this server is not called so: use the address that `serve` printed"
            await refuse(scope, receive, send, 403, detail)
        elif not is_plain(scope["path"]):
            await refuse(scope, receive, send, 404, "there is nothing at this address")
        else:
            if headers_named(scope, "x-forwarded-proto") == ["https"]:
                scope["scheme"] = {"http": "https", "ws": "wss"}.get(
                    scope["scheme"], scope["scheme"]
                )
            scope["headers"] = [
                pair for pair in scope["headers"] if not pair[0].lower().startswith(_UNTRUSTED)
            ]
            await self.app(scope, receive, send)

    def _is_own(self, name: str) -> bool:
        if name in self._hosts:
            return True
        if self._loopback or self._anywhere:
            return is_loopback(name) or (self._anywhere and _is_address(name))
        return False


class OtherSites:
    """Refuses what the page of another site makes a browser ask.

    Changes need `Sec-Fetch-Site: same-origin` or an `Origin` equal to `Host`. A program that sends
    neither is let through if it carries a Bearer token, or if nothing of a browser is there at all
    (no `Referer`, no cookie). A link may open a page; no other site may load, frame or time
    anything, pictures and searches included.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in {"http", "websocket"} or _is_welcome(scope):
            await self.app(scope, receive, send)
        else:
            detail = "requests of other sites are refused: open the page of this server itself"
            await refuse(scope, receive, send, 403, detail)


def _is_welcome(scope: Scope) -> bool:
    sites, origins = headers_named(scope, "sec-fetch-site"), headers_named(scope, "origin")
    if scope["type"] == "http" and scope["method"] in SAFE_METHODS:
        return sites in ([], ["same-origin"], ["none"]) or _opens_a_page(scope)
    if origins and not _same(origins, scope):
        return False
    if sites:
        return sites in (["same-origin"], ["none"])
    if origins:
        return True
    bearer = (header(scope, "authorization") or "").lower().startswith("bearer ")
    return bearer or not (headers_named(scope, "referer") or headers_named(scope, "cookie"))


def _opens_a_page(scope: Scope) -> bool:
    """Whether a person followed a link of another site."""
    return (
        scope["method"] == "GET"
        and headers_named(scope, "sec-fetch-mode") == ["navigate"]
        and headers_named(scope, "sec-fetch-dest") == ["document"]
    )


def _same(origins: list[str], scope: Scope) -> bool:
    host = header(scope, "host")
    try:
        origin = urlsplit(origins[0])
    except ValueError:
        return False
    known = origin.scheme in {"http", "https"} and len(origins) == 1 and host is not None
    return known and origin.netloc.lower() == str(host).lower()


def host_name(host: str | None) -> str | None:
    """The name or the address in a `Host` header, in lower case; None if it is malformed."""
    if not host or any(letter in host for letter in "/\\@?# \t,"):
        return None
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    return (parts.hostname or "").rstrip(".") or None


def is_plain(path: str) -> bool:
    """Whether a path, decoded once, is one that a browser of good faith asks for."""
    if not path.startswith("/") or path.startswith("//"):
        return False
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in path):
        return False
    return not any(part in {".", ".."} for part in path.split("/"))


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
