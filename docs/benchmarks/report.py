"""What all measurements here report in: tables of one run, and what was left out of it and why."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rwkvsearch.indexer.machine import describe_machine


@dataclass
class Table:
    """Rows of one comparison, each a list as long as `columns`; numbers are kept as measured."""

    title: str
    columns: Sequence[str]
    rows: list[list[Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Peers that could not be run, each with the reason."""

    def markdown(self) -> str:
        """Return the table for `docs/benchmarks.md`."""
        lines = [self.title, ""]
        if self.rows:
            lines += [_line(self.columns), _line(["---"] * len(self.columns))]
            lines += [_line([_cell(value) for value in row]) for row in self.rows]
        lines += [f"left out: {reason}" for reason in self.left_out]
        return "\n".join([*lines, ""])


def machine() -> dict[str, Any]:
    """Return the machine, and how busy it was in the last minutes (runnable processes)."""
    load = [round(value, 1) for value in os.getloadavg()]
    return {**describe_machine(), "load": load, "date": time.strftime("%Y-%m-%d")}


def as_json(tables: Sequence[Table]) -> dict[str, Any]:
    """Return everything as one object."""
    return {"machine": machine(), "tables": [asdict(table) for table in tables]}


def tell(what: str) -> None:
    """Say on stderr what is being measured."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")
    sys.stderr.flush()


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return "" if value is None else str(value)
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
