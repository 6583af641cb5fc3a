"""`rwkvsearch serve`: the page in the browser, and the JSON API beside it."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.ui.logs import LogFormat
from rwkvsearch.ui.options import flat, library_folder
from rwkvsearch.ui.query import EngineOptions

if TYPE_CHECKING:
    from rwkvsearch.ui.api.settings import Settings

TOKEN = "RWKVSEARCH_TOKEN"
_LEAST_TOKEN = 16


@flat
def serve(
    where: EngineOptions,
    host: Annotated[
        str, typer.Option(help="Address to listen at; any but this computer's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one that is free.")] = 7860,
    host_name: Annotated[
        list[str] | None,
        typer.Option(help="A name it is also reached by, such as that of a proxy; repeatable."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the token that everybody has to know; else ${TOKEN}."),
    ] = None,
    rate: Annotated[
        int | None, typer.Option(min=1, help="Requests a minute and client; default: no limit.")
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option(help="How the log on stderr is written: a line for each request.")
    ] = "json",
    log_queries: Annotated[
        bool, typer.Option("--log-queries", help="Write what is asked into the log.")
    ] = False,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser of this computer.")
    ] = False,
) -> None:
    """Search in the browser, and by a JSON API for programs.

    The page, the API below /api/v1 and its description at /docs are for this computer only, unless
    --host says otherwise. Stop with Ctrl-C.
    """
    _require()
    from rwkvsearch.ui.api.settings import Settings

    settings = Settings(
        library=library_folder(where.library),
        model=where.model,
        device=where.device,
        precision=where.precision,
        ann=where.ann,
        host=host,
        port=port,
        hosts=tuple(host_name or ()),
        token=_token(token_file),
        rate=rate,
        log_queries=log_queries,
        log_format=log_format,
    )
    if not settings.is_loopback and settings.token is None:
        raise RwkvSearchError(
            f"--host {host} can be reached from other computers: put a token into a file and give "
            f"it with --token-file, or set ${TOKEN}"
        )
    _serve(settings, open_page)


def _require() -> None:
    from importlib.util import find_spec

    needed = (
        "fastapi",
        "fastapi_offline",
        "gradio",
        "prometheus_client",
        "python_multipart",
        "uvicorn",
    )
    if missing := [name for name in needed if find_spec(name) is None]:
        raise RwkvSearchError(f"{missing[0]} is not installed: pip install 'rwkvsearch[ui]'")


def _token(file: Path | None) -> str | None:
    """The token, None if there is none; `RwkvSearchError` if it cannot be read or is too short."""
    token, origin = os.environ.get(TOKEN, "").strip(), f"${TOKEN}"
    if file is not None:
        origin = str(file)
        try:
            token = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise RwkvSearchError(f"{file}: the token cannot be read: {error}") from error
    elif not token:
        return None
    if len(token) < _LEAST_TOKEN:
        how = "such as the output of `openssl rand -hex 16`"
        raise RwkvSearchError(f"{origin}: a token has at least {_LEAST_TOKEN} characters, {how}")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise RwkvSearchError(f"{origin}: a token is one line of ASCII without spaces")
    return token


def _serve(settings: Settings, open_page: bool) -> None:
    from dataclasses import replace

    listener = _listen(settings.host, settings.port)
    settings = replace(settings, port=listener.getsockname()[1])
    from rwkvsearch.ui.api.running import run

    address = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{address}:{settings.port}/"

    def on_ready() -> None:
        typer.echo(f"{url}  (the API: {url}docs; stop with Ctrl-C)")
        if open_page:
            typer.launch(url)

    with listener:
        run(settings, listener, on_ready)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as undo:
            listener = undo.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            undo.pop_all()
    except OSError as error:
        reason = error.strerror or str(error)
        raise RwkvSearchError(
            f"cannot listen at {host} port {port}: {reason}; choose another with --host or --port"
        ) from error
    return listener
