"""Nobody gets in without the token: every path and every kind of connection but the login page."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from urllib.parse import parse_qs

from rwkvsearch.ui.api.guards.asgi import (
    App,
    Headers,
    Receive,
    Scope,
    Send,
    accepts_html,
    answer,
    client_of,
    header,
    headers_named,
    refuse,
)
from rwkvsearch.ui.api.guards.buckets import Buckets
from rwkvsearch.ui.api.guards.login_page import login_address, login_page, logout_page, safe_next
from rwkvsearch.ui.api.settings import Settings

SESSION = 14 * 24 * 3600
"""Seconds after which a browser has to sign in again."""
GUESSES, GUESSES_PER_SECOND = 5, 0.1
"""Wrong tokens a client may give at once, and from then on."""

_MOST_SESSIONS = 1000
_MOST_FORM = 16 << 10  # bytes
_FORM_TIME = 10.0  # seconds
_HTML = "text/html; charset=utf-8"
_SLOW_DOWN = "too many wrong tokens: wait a little"


class Sessions:
    """Who has signed in, by a secret that only the browser holds; gone when the server stops."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._ends: OrderedDict[bytes, float] = OrderedDict()
        self._clock = clock

    def begin(self) -> str:
        """Return the secret of a new session."""
        secret = secrets.token_urlsafe(32)
        self._ends[_digest(secret)] = self._clock() + SESSION
        if len(self._ends) > _MOST_SESSIONS:
            self._ends.popitem(last=False)
        return secret

    def is_open(self, secret: str) -> bool:
        """Whether `secret` is that of a session which has not ended."""
        return self._ends.get(_digest(secret), 0.0) > self._clock()

    def end(self, secret: str) -> None:
        """End a session."""
        self._ends.pop(_digest(secret), None)


class Access:
    """Lets requests pass that carry `Authorization: Bearer TOKEN` or the cookie of a session.

    A browser that opens a page is sent to `/login`, everybody else is told 401. Wrong tokens are
    counted for each client; beyond `GUESSES` the right one has to wait as well, so that a guess
    tells nothing. The token is never part of an address, of a cookie or of the log.
    """

    def __init__(self, app: App, settings: Settings) -> None:
        assert settings.token is not None
        self.app = app
        self._token = _digest(settings.token)
        # Browsers keep one set of cookies for all ports of a name.
        self._cookie = f"rwkvsearch-{settings.port}"
        self._sessions = Sessions()
        self._failures = Buckets(GUESSES, GUESSES_PER_SECOND)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == "/login":
            await self._login(scope, receive, send)
        elif self._session(scope) is not None:
            if scope["type"] == "http" and scope["path"] == "/logout":
                await self._logout(scope, send)
            else:
                await self.app(scope, receive, send)
        else:
            await self._by_header(scope, receive, send)

    async def _by_header(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = header(scope, "authorization")
        if given is None and accepts_html(scope):
            query = scope.get("query_string", b"").decode("latin-1")
            await _redirect(scope, send, login_address(scope["path"], query))
            return
        kind, _, token = (given or "").partition(" ")
        detail = "a token is needed: send the header 'Authorization: Bearer TOKEN'"
        if kind.lower() == "bearer":
            if seconds := self._failures.wait(client_of(scope)):
                retry = [("Retry-After", str(seconds))]
                await refuse(scope, receive, send, 429, _SLOW_DOWN, retry)
                return
            if self._is_token(scope, token.strip()):
                await self.app(scope, receive, send)
                return
            detail = "the token is wrong"
        asked = [("WWW-Authenticate", 'Bearer realm="rwkvsearch"')]
        await refuse(scope, receive, send, 401, detail, asked)

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method in {"GET", "HEAD"}:
            asked = parse_qs(scope.get("query_string", b"").decode("latin-1"))
            wanted = safe_next(asked.get("next", ["/"])[0])
            if self._session(scope) is not None:
                await _redirect(scope, send, wanted)
            else:
                await _show(scope, send, 200, login_page(wanted))
        elif method == "POST":
            await self._sign_in(scope, receive, send)
        else:
            detail = f"{method} is not possible here"
            await refuse(scope, receive, send, 405, detail, [("Allow", "GET, HEAD, POST")])

    async def _sign_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(_FORM_TIME):
                form = await _form(receive)
        except TimeoutError:
            await refuse(scope, receive, send, 408, "the form did not arrive in time")
            return
        wanted = safe_next(form.get("next"))
        if seconds := self._failures.wait(client_of(scope)):
            again = f"Too many wrong tokens: try again in {seconds} seconds."
            retry = [("Retry-After", str(seconds))]
            await _show(scope, send, 429, login_page(wanted, again), retry)
        elif self._is_token(scope, form.get("token", "").strip()):
            cookie = self._set_cookie(scope, self._sessions.begin(), SESSION)
            await _redirect(scope, send, wanted, [("Set-Cookie", cookie)])
        else:
            await _show(scope, send, 401, login_page(wanted, "This is not the token."))

    async def _logout(self, scope: Scope, send: Send) -> None:
        if scope["method"] != "POST":
            await _show(scope, send, 200, logout_page())
            return
        if (secret := self._session(scope)) is not None:
            self._sessions.end(secret)
        await _redirect(scope, send, "/login", [("Set-Cookie", self._set_cookie(scope, "", 0))])

    def _is_token(self, scope: Scope, given: str) -> bool:
        right = hmac.compare_digest(_digest(given), self._token)
        if not right:
            self._failures.take(client_of(scope))
        return right

    def _session(self, scope: Scope) -> str | None:
        """The secret of the open session whose cookie a request carries."""
        pairs = [pair for text in headers_named(scope, "cookie") for pair in text.split(";")]
        for name, _, secret in (pair.strip().partition("=") for pair in pairs):
            if name == self._cookie and self._sessions.is_open(secret):
                return secret
        return None

    def _set_cookie(self, scope: Scope, secret: str, seconds: int) -> str:
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        rest = f"Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{secure}"
        return f"{self._cookie}={secret}; {rest}"


def _digest(secret: str) -> bytes:
    """Of one length, so that a comparison tells nothing about the length either."""
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()


async def _form(receive: Receive) -> dict[str, str]:
    """The fields of a small form; none if it is not one."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _MOST_FORM or message["type"] != "http.request":
            return {}
        if not message.get("more_body", False):
            break
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=8, encoding="utf-8")
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


async def _show(scope: Scope, send: Send, status: int, page: bytes, headers: Headers = ()) -> None:
    await answer(scope, send, status, page, _HTML, [("Cache-Control", "no-store"), *headers])


async def _redirect(scope: Scope, send: Send, path: str, headers: Headers = ()) -> None:
    every = [("Location", path), ("Cache-Control", "no-store"), *headers]
    await answer(scope, send, 303, b"", _HTML, every)
