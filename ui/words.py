"""Numbers, times and names as a person reads them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from rwkvsearch.data.remote import shown


def duration(seconds: float) -> str:
    """Return seconds as a person says them: `40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def printable(path: Path | str) -> str:
    """Return a path or a text on one line, whatever is in it."""
    text = shown(path)
    return text if text.isprintable() else repr(text)[1:-1]


def csv_line(values: Iterable[object]) -> str:
    """Return one line of CSV; a value with a line feed or carriage return in it is quoted."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(values)  # quotes what is in its line end
    return f"{line.getvalue()[:-2]}\n"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 file`, `2,000 files`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
