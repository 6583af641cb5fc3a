"""What syncs did and what a library holds, as Prometheus reads it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rwkvsearch.data.errors import RwkvSearchError

try:
    from prometheus_client import (
        CollectorRegistry,
        Counter,
        Gauge,
        disable_created_metrics,
        write_to_textfile,
    )
except ImportError as error:
    raise RwkvSearchError(
        "--metrics needs prometheus_client: run `pip install 'rwkvsearch[ui]'`"
    ) from error

if TYPE_CHECKING:
    from rwkvsearch.indexer.protocols import SyncReport
    from rwkvsearch.indexer.stats import LibraryStats


class LibraryGauges:
    """What a library holds now."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, said: str, *labels: str) -> Gauge:
            return Gauge(f"rwkvsearch_library_{name}", said, labels, registry=registry)

        self._files = gauge("files", "Good files that are there.")
        self._gone = gauge("gone_files", "Files that are not there any more, remembered.")
        self._errors = gauge("bad_files", "Files that could not be used, by reason.", "reason")
        self._embeddings = gauge("embeddings", "Embeddings, by model.", "model")
        self._rows = gauge("ann_rows", "Rows of the published ann, by model.", "model", "kind")
        self._recall = gauge("ann_recall", "ann_recall@10 as measured, by model.", "model")
        self._synced = gauge("synced_timestamp_seconds", "When a sync last came to its end.")

    def set(self, stats: LibraryStats) -> None:
        """Take over what the library holds."""
        for labelled in (self._errors, self._embeddings, self._rows, self._recall):
            labelled.clear()
        self._files.set(stats.files)
        self._gone.set(stats.gone)
        for reason, number in stats.errors_by_reason.items():
            self._errors.labels(reason).set(number)
        for model in stats.models:
            self._embeddings.labels(model.model_id).set(model.embeddings)
        for ann in stats.anns:
            self._rows.labels(ann.model_id, ann.kind).set(ann.rows)
            if ann.ann_recall is not None:
                self._recall.labels(ann.model_id).set(ann.ann_recall)
        if stats.synced_at is not None:
            self._synced.set(stats.synced_at.timestamp())


class SyncMetrics:
    """The syncs of one process, written to a file for node_exporter's textfile collector.

    Counters are since the process started, gauges of its last sync. The file is replaced whole, for
    the first time after the first sync.
    """

    def __init__(self, file: Path) -> None:
        """Raises `RwkvSearchError` if the file cannot be written."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self._registry = CollectorRegistry()
        self._file = file

        def counter(name: str, said: str, label: str) -> Counter:
            return Counter(f"rwkvsearch_index_{name}", said, [label], registry=registry)

        def gauge(name: str, said: str) -> Gauge:
            return Gauge(f"rwkvsearch_index_{name}", said, registry=registry)

        self._syncs = counter("syncs", "Syncs by outcome: done, failed, stopped.", "outcome")
        self._files = counter("files", "Files by what a sync did with them.", "result")
        self._busy = counter("stage_seconds", "Seconds that threads of a stage were busy.", "stage")
        self._seconds = gauge("last_sync_seconds", "How long the last sync took.")
        self._ended = gauge("last_sync_timestamp_seconds", "When the last sync ended.")
        self._library: LibraryGauges | None = None
        for outcome in ("done", "failed", "stopped"):
            self._syncs.labels(outcome)
        with self._errors():
            probe = file.with_name(f"{file.name}.{os.getpid()}")
            probe.touch()
            probe.unlink()

    def count(self, report: SyncReport) -> None:
        """Count what a sync did with the files; `ended` comes next."""
        counts = report.outcomes | {"unreachable": len(report.unreachable)}
        for result, number in counts.items():
            self._files.labels(result).inc(number)
        for stage, seconds in report.profile.busy.items():
            self._busy.labels(stage).inc(seconds)

    def ended(self, outcome: str, seconds: float, stats: LibraryStats | None) -> None:
        """Write how a sync ended, and what the library holds now, if it can be read."""
        self._syncs.labels(outcome).inc()
        self._seconds.set(seconds)
        self._ended.set(time.time())
        if stats is not None:
            self._library = self._library or LibraryGauges(self._registry)
            self._library.set(stats)
        with self._errors():
            write_to_textfile(str(self._file), self._registry)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RwkvSearchError(f"{self._file} cannot be written: {error.strerror}") from error
