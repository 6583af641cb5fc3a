"""How a long command ends when it is told to."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import typer


@contextmanager
def stoppable(message: str, tell: Callable[[str], None] | None = None) -> Iterator[None]:
    """Ctrl-C and a plain kill end the block in good order, with `message` and their exit code.

    The message goes to stderr unless there is another one to `tell`.
    """

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    received: list[int] = []
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        (tell or partial(typer.echo, err=True))(message)
        raise typer.Exit(128 + (received or [signal.SIGINT])[0]) from None
    finally:
        signal.signal(signal.SIGTERM, before)
