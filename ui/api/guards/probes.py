"""The two addresses that answer without a token, by any name, and as often as they are asked."""

from __future__ import annotations

from rwkvsearch.ui.api.guards.asgi import App, Receive, Scope, Send

PROBES = frozenset({"/healthz", "/readyz"})


class Probes:
    """Lets the probes of a supervisor pass: it has no token and calls the server as it likes.

    They say one word; what they answer with must not tell anything of the library.
    """

    def __init__(self, app: App, guarded: App) -> None:
        self.app = app
        self._guarded = guarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        probes = scope["type"] == "http" and scope["path"] in PROBES
        if probes and scope["method"] in {"GET", "HEAD"}:
            await self.app(scope, receive, send)
        else:
            await self._guarded(scope, receive, send)
