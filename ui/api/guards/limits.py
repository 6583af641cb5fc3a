"""How much and how often a client may ask."""

from __future__ import annotations

import asyncio

from rwkvsearch.ui.api.guards.asgi import (
    App,
    Message,
    Receive,
    Scope,
    Send,
    client_of,
    header,
    refuse,
)
from rwkvsearch.ui.api.guards.buckets import Buckets
from rwkvsearch.ui.api.settings import Settings

SMALL = 1 << 20
"""Bytes of the body of a request that carries no picture."""
FORM = 1 << 20
"""Bytes around a picture: the other fields and the boundaries of a form."""
UPLOADS = 8
"""Requests with a large or endless body that are read at one time."""
PATIENCE = 10.0
"""Seconds that the next such request waits for its turn."""
SILENCE = 20.0
"""Seconds that a client may take for the next part of a body."""

_API = "/api/v1/"
# A search page asks for dozens of them at once, and they cost little.
_FREE = ("/assets/", "/static/", "/theme.css", "/api/v1/thumbs/")


class Rate:
    """So many requests a minute for each client, all of a minute at once if it likes.

    The page's own files and thumbnails do not count.
    """

    def __init__(self, app: App, settings: Settings) -> None:
        assert settings.rate is not None
        self.app = app
        self._buckets = Buckets(settings.rate, settings.rate / 60)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        counts = scope["type"] in {"http", "websocket"} and not scope["path"].startswith(_FREE)
        if counts and (seconds := self._buckets.take(client_of(scope))):
            retry = [("Retry-After", str(seconds))]
            await refuse(scope, receive, send, 429, "too many requests: wait a little", retry)
        else:
            await self.app(scope, receive, send)


class Bodies:
    """Counts the bytes of a body as they arrive, whatever `Content-Length` says, and their pace.

    Below `/api/v1` a body may be as large as a picture, JSON and everything else `SMALL`.
    """

    def __init__(self, app: App, settings: Settings) -> None:
        self.app = app
        self._most = settings.max_upload_bytes + FORM
        self._uploads = asyncio.Semaphore(UPLOADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit, declared = self._limit(scope), _declared(scope)
        if declared is not None and declared > limit:
            await refuse(scope, receive, send, 413, _too_large(limit))
        elif declared is None or declared > SMALL:
            await self._upload(scope, receive, send, limit)
        else:
            await _Counted(self.app, receive, send, limit).run(scope)

    async def _upload(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        try:
            await asyncio.wait_for(self._uploads.acquire(), PATIENCE)
        except TimeoutError:
            detail = "too many uploads at one time: wait a little"
            await refuse(scope, receive, send, 503, detail, [("Retry-After", "5")])
            return
        try:
            await _Counted(self.app, receive, send, limit).run(scope)
        finally:
            self._uploads.release()

    def _limit(self, scope: Scope) -> int:
        kind = (header(scope, "content-type") or "").split(";")[0].strip().lower()
        small = kind.endswith("json") or kind == "application/x-www-form-urlencoded"
        return SMALL if small or not scope["path"].startswith(_API) else self._most


class _Stopped(Exception):
    """The rest of a body is not read."""


class _Counted:
    """One request; what its application says about a body that was cut off is not sent."""

    def __init__(self, app: App, receive: Receive, send: Send, limit: int) -> None:
        self._app = app
        self._receive = receive
        self._send = send
        self._limit = limit
        self._bytes = 0
        self._whole = self._begun = False
        self._refusal: tuple[int, str] | None = None

    async def run(self, scope: Scope) -> None:
        try:
            await self._app(scope, self.receive, self.send)
        except Exception:
            if self._refusal is None:
                raise
        if self._refusal is not None and not self._begun:
            status, detail = self._refusal
            close = [("Connection", "close")]
            await refuse(scope, self._receive, self._send, status, detail, close)

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        if self._refusal is None:
            message = await self._next()
            if self._refusal is None:
                return message
        raise _Stopped

    async def _next(self) -> Message:
        try:
            message = await asyncio.wait_for(self._receive(), SILENCE)
        except TimeoutError:
            self._refusal = 408, f"nothing came for {SILENCE:g} seconds"
            return {}
        self._bytes += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._bytes > self._limit:
            self._refusal = 413, _too_large(self._limit)
        return message

    async def send(self, message: Message) -> None:
        if self._refusal is None or self._begun:
            self._begun = True
            await self._send(message)


def _declared(scope: Scope) -> int | None:
    """Bytes of the body that are announced; None if their number is not known."""
    if header(scope, "transfer-encoding") is not None:
        return None
    length = header(scope, "content-length")
    if length is None:
        return 0
    return int(length) if length.isascii() and length.isdigit() else None


def _too_large(limit: int) -> str:
    return f"the request is too large: at most {limit >> 20} megabytes"
