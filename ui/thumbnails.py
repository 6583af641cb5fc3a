"""Hits as a table with small pictures, for terminals."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.ui import terminal as terminals
from rwkvsearch.ui.results import rows, table_head
from rwkvsearch.ui.terminal import Terminal
from rwkvsearch.ui.words import printable

if TYPE_CHECKING:
    from PIL import Image

    from rwkvsearch.indexer.library import Library
    from rwkvsearch.retrieval.query import Hit

WIDTH, HEIGHT = 36, 9
"""Of the largest thumbnail, in cells."""


def require() -> None:
    """Raise `RwkvSearchError` if what draws pictures in a terminal is not installed."""
    if find_spec("textual_image") is None:
        raise RwkvSearchError(
            "textual-image is not installed: pip install 'rwkvsearch[terminal]', or do without "
            "--thumbnails"
        )


def are_usual() -> bool:
    """Whether a terminal gets thumbnails without asking for them."""
    usual = os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")
    return usual and find_spec("textual_image") is not None


def table_with_thumbnails(hits: Sequence[Hit], library: Library) -> Iterator[str]:
    """Give the table in parts: its head, then each hit with its picture below its lines."""
    terminal = terminals.look()
    yield table_head() + "\n"
    for hit in hits:
        lines = "".join(f"{line}\n" for line in rows(hit))
        yield lines + _thumbnail(hit, library, terminal)


def _thumbnail(hit: Hit, library: Library, terminal: Terminal) -> str:
    from rwkvsearch.data.images import read_image

    try:
        with library.open_image(hit.image_id) as stream:
            return draw(read_image(stream, min_side=128), terminal)
    except RwkvSearchError as error:
        return f"{'':>24}{printable(str(error))}\n"


def draw(image: Image.Image, terminal: Terminal) -> str:
    """Return what shows an RGB image, whole lines, at most `WIDTH` and `HEIGHT` cells large."""
    width, height = _cells(image, terminal)
    with _terminal_held(terminal) as written:
        from rich.console import Console
        from textual_image import renderable

        kinds = {
            "kitty": renderable.TGPImage,
            "sixel": renderable.SixelImage,
            "blocks": renderable.HalfcellImage,
        }
        console = Console(
            file=written, force_terminal=True, no_color=False, width=terminal.columns, height=HEIGHT
        )
        console.print(kinds[terminal.graphics](image, width, height), end="")
    return written.getvalue()


def _cells(image: Image.Image, terminal: Terminal) -> tuple[int, int]:
    """Columns and lines that hold the image in its shape."""
    wide, high = image.width / terminal.cell[0], image.height / terminal.cell[1]
    scale = min(min(WIDTH, terminal.columns) / wide, HEIGHT / high)
    return max(1, round(wide * scale)), max(1, round(high * scale))


@contextmanager
def _terminal_held(terminal: Terminal) -> Iterator[io.StringIO]:
    """Give what is written to the terminal, which textual-image otherwise asks and changes itself.

    It does so from its import on, also where the answer would come too late, or stop the process.
    """
    written, kept = io.StringIO(), sys.__stdout__
    size = dict(zip(("TEXTUAL_CELL_WIDTH", "TEXTUAL_CELL_HEIGHT"), terminal.cell, strict=True))
    os.environ.update({name: str(pixels) for name, pixels in size.items()})
    sys.__stdout__ = written  # type: ignore[misc, assignment]
    try:
        yield written
    finally:
        sys.__stdout__ = kept  # type: ignore[misc]
        for name in size:
            os.environ.pop(name, None)
