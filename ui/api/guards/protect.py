"""What stands around the whole server: page, API, MCP, thumbnails and everything mounted."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.routing import Mount

from rwkvsearch.ui.api.guards.access import Access
from rwkvsearch.ui.api.guards.answer_headers import AnswerHeaders
from rwkvsearch.ui.api.guards.asgi import App, Receive, Scope, Send
from rwkvsearch.ui.api.guards.gradio_door import GradioDoor
from rwkvsearch.ui.api.guards.limits import Bodies, Rate
from rwkvsearch.ui.api.guards.origins import Names, OtherSites
from rwkvsearch.ui.api.guards.probes import Probes
from rwkvsearch.ui.api.settings import Settings


class Protected:
    """A server with its guards; `app` is what they protect."""

    def __init__(self, app: FastAPI, guarded: App) -> None:
        self.app = app
        self._guarded = guarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self._guarded(scope, receive, send)


def protect(app: FastAPI, settings: Settings) -> Protected:
    """Put the guards around `app`, once all of it is mounted.

    A request passes them in this order: its headers for security are promised, then its name, how
    often it comes, where it comes from, the token, and the size of its body are looked at. Of a
    probe only where it comes from is.
    """
    _close_gradio(app)
    guarded: App = Bodies(app, settings)
    if settings.token is not None:
        guarded = Access(guarded, settings)
    guarded = OtherSites(guarded)
    if settings.rate is not None:
        guarded = Rate(guarded, settings)
    every = Probes(OtherSites(app), Names(guarded, settings))
    return Protected(app, AnswerHeaders(every, near=settings.is_loopback))


def _close_gradio(app: FastAPI) -> None:
    from gradio.routes import App as GradioApp

    for route in app.routes:
        if isinstance(route, Mount) and isinstance(route.app, GradioApp):
            pages = [page for page, *_ in route.app.get_blocks().pages]
            route.app = GradioDoor(route.app, pages)
