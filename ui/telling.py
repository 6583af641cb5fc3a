"""What a long measurement is doing, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer


@contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """On a terminal, what is being measured and for how long; elsewhere a line each."""
    from tqdm import tqdm

    shown = sys.stderr.isatty()
    with tqdm(bar_format="{desc} ({elapsed})", disable=not shown, leave=False) as bar:

        def tell(what: str) -> None:
            if shown:
                bar.set_description_str(f"measuring {what}")
            else:
                typer.echo(f"measuring {what}", err=True)

        yield tell
