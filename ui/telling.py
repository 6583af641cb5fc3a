"""What a long command is doing, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

Stages = Callable[[str, int, int], None]
"""Is told a stage, how much of it is done, and how much there is; 0 where that is not known."""


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


@contextmanager
def stages(unit: str = "", *, scaled: bool = False) -> Iterator[Stages]:
    """On a terminal a bar, for one stage after the other; `scaled` shortens large numbers."""
    from tqdm import tqdm

    shown = sys.stderr.isatty()
    with tqdm(unit=unit, unit_scale=scaled, disable=not shown, leave=False) as bar:

        def tell(stage: str, done: int, total: int) -> None:
            bar.set_description_str(stage, refresh=False)
            bar.total = max(done, total) or None
            bar.update(done - bar.n)

        yield tell
