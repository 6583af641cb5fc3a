"""Syncs that nobody watches: log lines for programs, and a file for Prometheus."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.ui.logs import FIELDS, LogFormat, start_logging

if TYPE_CHECKING:
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.indexer.protocols import SyncEvent, SyncReport
    from rwkvsearch.indexer.stats import LibraryStats
    from rwkvsearch.ui.sync_metrics import SyncMetrics

PAUSE = 5.0
"""Seconds between two lines that only say how far a sync is."""

log = logging.getLogger("rwkvsearch.sync")


@dataclass(frozen=True)
class UnattendedOptions:
    """How a sync tells of itself where no person looks."""

    log_format: Annotated[
        LogFormat | None,
        typer.Option(
            "--log-format", help="Log to stderr, for runs that nobody watches: progress every 5 s."
        ),
    ] = None
    metrics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.prom", help="Write what was done for Prometheus, after each sync."
        ),
    ] = None


class Record:
    """What is told of the syncs of one command; `log` is None where a person is told."""

    def __init__(self, options: UnattendedOptions) -> None:
        """Raises `RwkvSearchError` if the file for Prometheus cannot be written."""
        self.log: SyncLog | None = None
        self._metrics: SyncMetrics | None = None
        if options.log_format is not None:
            start_logging(options.log_format, log)
            self.log = SyncLog()
        if options.metrics is not None:
            from rwkvsearch.ui.sync_metrics import SyncMetrics

            with self.errors():
                self._metrics = SyncMetrics(options.metrics)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Let the log say what is wrong, if there is one; the exit code is the usual one."""
        try:
            yield
        except (RwkvSearchError, OSError) as error:
            if self.log is None:
                raise
            log.error("%s", error)
            raise typer.Exit(1) from None

    def sync(
        self,
        library: Library,
        run: Callable[[], SyncReport],
        uncounted: tuple[type[RwkvSearchError], ...] = (),
    ) -> SyncReport:
        """Run a sync and tell how it ended; one that ends with an `uncounted` error is none."""
        began, outcome = time.monotonic(), "failed"
        try:
            report = run()
            outcome = "done"
            if self._metrics is not None:
                self._metrics.count(report)
        except uncounted:
            outcome = ""
            raise
        except KeyboardInterrupt:
            outcome = "stopped"
            raise
        finally:
            if self._metrics is not None and outcome:
                self._metrics.ended(outcome, time.monotonic() - began, _held(library))
        if self.log is not None:
            self.log.done(report)
        return report


def _held(library: Library) -> LibraryStats | None:
    """What the library holds; None if it cannot be read, which is why a sync may have failed."""
    try:
        return library.stats()
    except RwkvSearchError:
        return None


class SyncLog:
    """Logs a sync: every file that is skipped, how far it is, and what came of it."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, event: SyncEvent) -> None:
        """Log an event, unless it is only a count and another one was just logged."""
        if event.path is not None:
            skipped = {"event": "skipped", "path": str(event.path), "reason": event.reason}
            log.warning("skipped %s: %s", event.path, event.reason, extra={FIELDS: skipped})
        elif (now := time.monotonic()) - self._told >= PAUSE:
            self._told = now
            counts = {"done": event.done, "total": event.total, "errors": event.errors}
            fields = {"event": "progress", "stage": event.stage, **counts}
            log.info("%s: %s of %s", event.stage, event.done, event.total, extra={FIELDS: fields})

    def done(self, report: SyncReport) -> None:
        """Log what a sync did."""
        counts = {"files": report.scanned} | report.outcomes
        fields = {"event": "synced", **counts, "seconds": round(report.seconds, 1)}
        said = ", ".join(f"{number:,} {name}" for name, number in counts.items())
        log.info("synced: %s; %.1f s", said, report.seconds, extra={FIELDS: fields})

    def tell(self, line: str) -> None:
        """Log a line for a person."""
        log.warning("%s", line)

    def close(self) -> None:
        """Nothing is held."""
