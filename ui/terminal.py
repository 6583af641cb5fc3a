"""What the terminal can show, found out without waiting long for one that does not answer."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import struct
import sys
import termios
import time
import tty
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Graphics = Literal["kitty", "sixel", "blocks"]

PATIENCE = 1.0
"""Seconds for an answer; over a slow line it takes as long as a key press takes to show."""
_PLACES_PICTURES = re.compile("kitty|ghostty")  # by Unicode placeholders, which others lack
_NEVER_ASKED = ("", "dumb", "linux")
_QUESTION = b"\x1b[16t\x1b[c"  # the size of a cell; then, as every terminal answers it, what it is
_CELL = re.compile(rb"\x1b\[6;(\d+);(\d+)t")
_FEATURES = re.compile(rb"\x1b\[\?([\d;]*)c")
_SIXEL = b"4"  # among the features
_USUAL_CELL = (10, 20)


@dataclass(frozen=True)
class Terminal:
    """The best way to draw a picture, the width in cells, and a cell's width and height in pixels.

    `blocks` is half a cell a pixel, which every terminal with colours shows.
    """

    graphics: Graphics = "blocks"
    columns: int = 80
    cell: tuple[int, int] = _USUAL_CELL


instead: Callable[[], Terminal] | None = None
"""What finds out about the terminal where it is another process's: the daemon has its own."""


def look() -> Terminal:
    """Find out about the terminal behind stdout, by its name and by asking it.

    It is asked only where it is ours to ask: it is stdin as well, and no other process is in its
    foreground. What is typed within the time of the answer is lost.
    """
    if instead is not None:
        return instead()
    columns = shutil.get_terminal_size().columns
    name = os.environ.get("TERM", "")
    inside = "TMUX" in os.environ or name.startswith(("tmux", "screen"))
    if not inside and _PLACES_PICTURES.search(name + os.environ.get("TERM_PROGRAM", "")):
        return Terminal("kitty", columns, _cell_size() or _USUAL_CELL)
    answer = b"" if name in _NEVER_ASKED else _ask()
    features = _FEATURES.search(answer)
    if not features or _SIXEL not in features[1].split(b";"):
        return Terminal("blocks", columns)
    said = _CELL.search(answer)
    size = (int(said[2]), int(said[1])) if said else None
    return Terminal("sixel", columns, size or _cell_size() or _USUAL_CELL)


def _ask() -> bytes:
    """What the terminal answers; nothing if it is not ours, or does not answer in time."""
    try:
        source, target = sys.stdin.fileno(), sys.stdout.fileno()
        # From the background, changing the terminal would stop this process.
        if not os.isatty(target) or os.tcgetpgrp(source) != os.getpgrp():
            return b""
        before = termios.tcgetattr(source)
    except (AttributeError, OSError, ValueError, termios.error):  # closed, or no terminal
        return b""
    try:
        tty.setcbreak(source, termios.TCSANOW)
        sys.stdout.flush()
        os.write(target, _QUESTION)
        return _read(source, time.monotonic() + PATIENCE)
    finally:
        termios.tcsetattr(source, termios.TCSANOW, before)


def _read(source: int, end: float) -> bytes:
    answer = b""
    while not _FEATURES.search(answer) and (left := end - time.monotonic()) > 0:
        if select.select([source], [], [], left)[0]:
            part = os.read(source, 1024)
            if not part:
                break
            answer += part
    return answer


def _cell_size() -> tuple[int, int] | None:
    """Pixels, as the kernel was told; None if it was not."""
    try:
        found = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, bytes(8))
    except (AttributeError, OSError, ValueError):
        return None
    lines, columns, width, height = struct.unpack("HHHH", found)
    if not (lines and columns and width >= columns and height >= lines):
        return None
    return width // columns, height // lines
