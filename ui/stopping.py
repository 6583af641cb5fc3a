"""How a long command ends when it is told to."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def stoppable(message: str) -> Iterator[None]:
    """Ctrl-C and a plain kill end the block in good order, with `message` and their exit code."""

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    received: list[int] = []
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(message, err=True)
        raise typer.Exit(128 + (received or [signal.SIGINT])[0]) from None
    finally:
        signal.signal(signal.SIGTERM, before)
