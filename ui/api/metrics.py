"""What a server has done and holds, for Prometheus."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.ui.sync_metrics import LibraryGauges

if TYPE_CHECKING:
    from rwkvsearch.ui.api.service import Service

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Counted by one server; safe among threads."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "rwkvsearch_requests",
            "Requests by route, method and status.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._latency = Histogram(
            "rwkvsearch_request_seconds",
            "Time to the end of the answer, by route.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._stages = Histogram(
            "rwkvsearch_search_seconds",
            "Time of searches, by stage: encode and search.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._syncs = Counter(
            "rwkvsearch_syncs",
            "Syncs that this server has started, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self._library = LibraryGauges(registry)
        self._images = self._gauge("library_images", "Images that are searched.")
        self._ready = self._gauge("ready", "1 while /readyz says so.")
        self._reopened = self._gauge("library_reopened", "How often the library was opened anew.")
        self._uploads = self._gauge("uploads", "Pictures of clients that are held in memory.")
        self._thumbs = self._gauge("thumbnails_made", "Thumbnails made since the start.")

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, method, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def searched(self, encode: float, search: float) -> None:
        """Count a search and the seconds of its stages."""
        self._stages.labels("encode").observe(encode)
        self._stages.labels("search").observe(search)

    def synced(self, outcome: str) -> None:
        """Count a sync of the server that has ended."""
        self._syncs.labels(outcome).inc()

    def as_text(self, service: Service) -> bytes:
        """Return everything as Prometheus reads it, with what the service holds now."""
        with suppress(RwkvSearchError):  # the figures of before stay, and it is not ready
            with service.engine() as engine:
                self._images.set(engine.size)
            self._library.set(service.stats())
        self._ready.set(service.readiness.why_not() is None)
        self._reopened.set(service.warm.reopened)
        self._uploads.set(len(service.uploads))
        self._thumbs.set(service.thumbs.made)
        return generate_latest(self._registry)

    def _gauge(self, name: str, said: str) -> Gauge:
        return Gauge(f"rwkvsearch_{name}", said, registry=self._registry)
