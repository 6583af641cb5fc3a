"""The headers every answer carries, whatever made it."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

from rwkvsearch.ui.api.guards.asgi import App, Message, Receive, Scope, Send, accepts_html

# Gradio compiles the templates and scripts of gr.HTML, and Vega its plots: 'unsafe-eval'. Both
# write style elements. There is no 'unsafe-inline' for scripts: what a file name could bring into
# the page, such as an onerror attribute, does not run.
_PAGE = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'{inline}; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; manifest-src 'self'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_OTHER = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: with it browsers send `Origin: null` with a form of our own.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-permitted-cross-domain-policies": "none",
    "permissions-policy": (
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), "
        "magnetometer=(), microphone=(), midi=(), payment=(), usb=()"
    ),
}
# What Gradio names by a hash of its content, and what browsers ask for after every search.
_CACHED = (
    (re.compile(r"/assets/[\w./@+-]*-[\w-]{8}\.\w+"), "private, max-age=31536000, immutable"),
    (re.compile(r"/favicon\.ico"), "private, max-age=86400"),
    (re.compile(r".*"), "private, no-cache"),
)
_DROPPED = {b"server", b"x-powered-by", b"content-security-policy", *map(str.encode, _ALWAYS)}
_SCRIPT = re.compile(rb"<script\b([^>]*)>(.*?)</script\s*>", re.IGNORECASE | re.DOTALL)


class AnswerHeaders:
    """Sets the headers for security, and takes those away that would let other sites read.

    The scripts that stand in a page itself are allowed by their hash, so a page is sent only once
    it is whole. Nothing is packed where `near`, on the same computer: that takes longer than to
    send it. What is named by its content a browser asks for once.
    """

    def __init__(self, app: App, *, near: bool) -> None:
        self.app = app
        self._near = near

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._near or accepts_html(scope):  # a packed page could not be read here
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        await self.app(scope, receive, _Answer(send, scope["path"]).send)


class _Answer:
    def __init__(self, send: Send, path: str) -> None:
        self._send = send
        self._path = path
        self._start: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._start = message
            if not _is_page(message):
                await self._begin()
        elif kind == "http.response.body" and self._start is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._begin()
                await self._send({"type": "http.response.body", "body": self._body})
        else:
            await self._send(message)

    async def _begin(self) -> None:
        assert self._start is not None
        start, self._start = self._start, None
        path = self._path if start["status"] in (200, 304) else ""
        start["headers"] = _secured(start.get("headers", []), self._body, path)
        await self._send(start)


def _is_page(start: Message) -> bool:
    found = {key.lower(): value for key, value in start.get("headers", [])}
    kind = found.get(b"content-type", b"")
    return kind.startswith(b"text/html") and b"content-encoding" not in found


def _secured(
    headers: list[tuple[bytes, bytes]], page: bytes, path: str
) -> list[tuple[bytes, bytes]]:
    kept = [
        (key.lower(), value)
        for key, value in headers
        if key.lower() not in _DROPPED and not key.lower().startswith(b"access-control-")
    ]
    names = dict(kept)
    added = {**_ALWAYS, "content-security-policy": _policy(names.get(b"content-type", b""), page)}
    if b"cache-control" not in names:
        added["cache-control"] = next(how for name, how in _CACHED if name.fullmatch(path))
    return kept + [(name.encode(), value.encode()) for name, value in added.items()]


def _policy(media_type: bytes, page: bytes) -> str:
    """Of a page, or of a script, which may run as a worker; of nothing else."""
    if b"html" not in media_type and b"javascript" not in media_type:
        return _OTHER
    scripts = [match[2] for match in _SCRIPT.finditer(page) if b"src=" not in match[1]]
    hashes = dict.fromkeys(b64encode(sha256(script).digest()).decode() for script in scripts)
    return _PAGE.format(inline="".join(f" 'sha256-{value}'" for value in hashes))
