"""How fast a folder is indexed, from its files to a library that can be searched."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rwkvsearch.indexer.clock import Profile
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.protocols import SyncReport
from rwkvsearch.indexer.sync import SyncOptions, sync
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.speed_times import Json, Tell, rounded, spread


def measure_indexing(encoder: Encoder, folder: Path, rounds: int, tell: Tell) -> Json:
    """Sync a folder into a new library each round, after one that warms up, and then again.

    Files a second of both, and of each stage the seconds that its threads were busy.

    Raises:
        RwkvSearchError: as a sync does.
    """
    first, again = [], []
    for turn in range(rounds + 1):
        tell(f"indexing, round {turn} of {rounds}" if turn else "indexing, to warm up")
        with TemporaryDirectory(prefix="rwkvsearch-") as place, Library.create(Path(place)) as new:
            reports = [sync(new, [folder], encoder, SyncOptions()) for _ in range(2)]
        if turn:
            first.append(reports[0])
            again.append(reports[1])
    last = first[-1]
    return {
        "files": last.scanned,
        "embedded": last.added,
        "unreadable": len(last.errors),
        "files_per_second": _files_per_second(first),
        "again_files_per_second": _files_per_second(again),
        "stages": _stages([report.profile for report in first]),
        "bottleneck": last.profile.bottleneck,
    }


def _files_per_second(reports: Sequence[SyncReport]) -> Json:
    return spread([report.scanned / report.seconds for report in reports])


def _stages(profiles: Sequence[Profile]) -> Json:
    """Of each stage its threads, their busy seconds, and the share of the time they were busy."""
    found: Json = {}
    for stage in profiles[0].busy:
        found[stage] = {
            "threads": profiles[0].threads[stage],
            "busy_seconds": spread([profile.busy[stage] for profile in profiles]),
            "share": rounded(statistics.median(profile.share(stage) for profile in profiles)),
        }
    return found
