"""`rwkvsearch daemon`: see, start and stop the process that answers queries at once."""

import json
from datetime import timedelta
from typing import Annotated

import typer

from rwkvsearch.ui.options import JsonOption

daemon_app = typer.Typer(
    no_args_is_help=True, help="The process that answers queries at once: see, start, stop it."
)
IdleOption = Annotated[
    float | None,
    typer.Option("--idle", min=1, help="Stop after so many seconds without a query; default: 900."),
]
UnusedLibraryOption = Annotated[
    str | None,
    typer.Option("--library", help="Taken by every command; the daemon serves all libraries."),
]


@daemon_app.command("status")
def daemon_status(as_json: JsonOption = False, _library: UnusedLibraryOption = None) -> None:
    """Show whether a daemon runs, and what it has done; exit code 1 if there is none."""
    from rwkvsearch.ui.daemon_client import log_file, status
    from rwkvsearch.ui.words import counted

    found = status()
    if as_json:
        typer.echo(json.dumps(found and found | {"log": str(log_file())}, indent=2))
    elif found:
        up, left = (
            timedelta(seconds=round(seconds))
            for seconds in (
                found["uptime_seconds"],
                max(found["stops_after_seconds"] - found["idle_seconds"], 0),
            )
        )
        typer.echo(
            f"running   pid {found['pid']}, for {up}, stops in {left} unless it is asked\n"
            f"answered  {found['answered']:,} queries, {found['refused']:,} refused\n"
            f"open      {counted(found['engines'], 'engine')}, "
            f"{found['reopened']:,} opened again after a change\n"
            f"memory    {found['memory_bytes'] / 1e6:,.0f} MB\n"
            f"log       {log_file()}"
        )
    else:
        typer.echo("rwkvsearch: no daemon runs: `rwkvsearch daemon start`", err=True)
    if not found:
        raise typer.Exit(1)


@daemon_app.command("start")
def daemon_start(idle: IdleOption = None, _library: UnusedLibraryOption = None) -> None:
    """Start the daemon, if there is none; `query` uses it from then on."""
    from rwkvsearch.ui.daemon_client import start

    typer.echo(f"running, pid {start(idle)['pid']}")


@daemon_app.command("stop")
def daemon_stop(_library: UnusedLibraryOption = None) -> None:
    """Stop the daemon; a query that it is answering is answered first."""
    from rwkvsearch.ui.daemon_client import stop

    typer.echo("stopped" if stop() else "no daemon runs")


@daemon_app.command("restart")
def daemon_restart(idle: IdleOption = None, _library: UnusedLibraryOption = None) -> None:
    """Stop the daemon, if there is one, and start another."""
    from rwkvsearch.ui.daemon_client import start, stop

    stop()
    typer.echo(f"running, pid {start(idle)['pid']}")
