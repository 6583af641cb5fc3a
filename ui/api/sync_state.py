"""How far a sync is, as a server tells it: each line of the process that syncs is one step."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

Running = Literal["idle", "running", "stopping"]
Outcome = Literal["done", "stopped", "busy", "failed"]
MOST_SKIPPED = 100
"""Files named in the state; all are in the library's errors."""
_WINDOW = 30.0  # seconds over which the pace is measured

STOPPED = "stopped; what is done is kept, start it again to go on"


@dataclass(frozen=True)
class Skipped:
    """A file that could not be used, or a folder that could not be read."""

    path: str
    reason: str


@dataclass(frozen=True)
class SyncState:
    """A sync that runs, or the last one. In stage `scan`, `total` is what has been found so far.

    `message` is the report in words once it has ended; `refused` why this server cannot sync.
    `seconds_left` is of its stage, None where it cannot be known; `seconds` is how long it took.
    """

    state: Running = "idle"
    stage: str | None = None
    done: int = 0
    total: int = 0
    errors: int = 0
    per_second: float | None = None
    seconds_left: float | None = None
    seconds: float | None = None
    outcome: Outcome | None = None
    message: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    skipped: tuple[Skipped, ...] = ()
    refused: str | None = None


@dataclass
class Pace:
    """How many a second, of late."""

    marks: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, moment: float, done: int) -> float | None:
        """Take in how many are done at a moment, in seconds; None until it can be said."""
        if self.marks and done < self.marks[-1][1]:
            self.marks.clear()
        self.marks.append((moment, done))
        while moment - self.marks[0][0] > _WINDOW:
            self.marks.popleft()
        began, before = self.marks[0]
        return (done - before) / (moment - began) if done > before and moment > began else None


def started() -> SyncState:
    """A sync that has just begun."""
    return SyncState("running", started_at=now())


def after(state: SyncState, line: dict[str, Any], pace: Pace, moment: float) -> SyncState:
    """The state after a line of the process, which came at a moment of a clock in seconds."""
    if line["event"] == "skipped":
        skipped = (*state.skipped, Skipped(line["path"], line["reason"]))[-MOST_SKIPPED:]
        return replace(state, skipped=skipped)
    if line["event"] == "end":
        return replace(state, outcome=line["outcome"], message=line["message"])
    if line["stage"] != state.stage:
        pace.marks.clear()
    scanning = line["stage"] == "scan"
    per_second = pace.add(moment, line["total" if scanning else "done"])
    left = None
    if per_second and not scanning:
        left = round((line["total"] - line["done"]) / per_second, 1)
    return replace(
        state,
        **{name: line[name] for name in ("stage", "done", "total", "errors")},
        per_second=per_second and round(per_second, 1),
        seconds_left=left,
    )


def now() -> str:
    """This moment, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
