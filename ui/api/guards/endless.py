"""Answers that go on as long as a page is open: they end when the server is to stop."""

from __future__ import annotations

import asyncio

from rwkvsearch.ui.api.guards.asgi import App, Message, Receive, Scope, Send

_PATHS = "/gradio_api/"  # the heartbeat of a page, above all


class EndlessAnswers:
    """Around an application whose endless answers are to be ended with `stop`."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """End them; in the loop of the server."""
        self._stopped.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or not scope["path"].startswith(_PATHS):
            await self.app(scope, receive, send)
            return
        began = complete = False

        async def sent(message: Message) -> None:
            nonlocal began, complete
            began = True
            complete = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        await self.app(scope, lambda: self._next(receive), sent)
        if began and not complete and self._stopped.is_set():
            await send({"type": "http.response.body", "body": b""})

    async def _next(self, receive: Receive) -> Message:
        """What the client says next, or that it has gone once the server is to stop."""
        said = asyncio.ensure_future(receive())
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((said, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not said.done():
                said.cancel()
        return said.result() if said.done() else {"type": "http.disconnect"}
