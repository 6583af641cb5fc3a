import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rwkvsearch.indexer.clock import Clock
from rwkvsearch.indexer.library import ModelInfo
from rwkvsearch.indexer.protocols import SyncEvent, SyncReport
from rwkvsearch.indexer.stats import AnnInfo, LibraryStats
from rwkvsearch.ui import render

STATS = LibraryStats(
    images=1234,
    files=1235,
    gone=2,
    captions=17,
    errors=3,
    errors_by_reason={"not an image": 2, "empty file": 1},
    roots=[Path("/photos")],
    models=[ModelInfo(1, "starter-abc-fp32", "p-112", 256, "0" * 64, 1234)],
    anns=[AnnInfo("starter-abc-fp32", "SQfp16", 1234, 700_000, 0.9951)],
    bytes_on_disk=2_500_000,
    synced_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
)


def report(**counts: int) -> SyncReport:
    names = ("scanned", "added", "reused", "unchanged", "removed", "texts")
    values = dict.fromkeys(names, 0) | counts
    return SyncReport(
        **values, errors=[], unreachable=[], faults=[], seconds=2, profile=Clock().profile()
    )


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"scanned": 1, "unchanged": 1}, "1 file: 1 unchanged; 2.0 s"),
        ({"scanned": 2000, "added": 2000}, "2,000 files: 2,000 embedded; 2.0 s (1000 pictures/s)"),
        ({"removed": 4}, "0 files: 4 gone; 2.0 s"),
        ({"texts": 3}, "0 files: nothing to do, 3 texts embedded; 2.0 s"),
        ({}, "0 files: nothing to do; 2.0 s"),
    ],
)
def test_report(counts: dict[str, int], expected: str) -> None:
    lines = render.report_as_text(report(**counts), Path("/library")).splitlines()
    assert lines == [expected, "library: /library"]


def test_stats() -> None:
    text = render.stats_as_text("/library", STATS)
    assert text.splitlines() == [
        "library   /library (2.5 MB)",
        "images    1,234 different pictures in 1,235 files",
        "synced    2026-01-02 03:04 UTC",
        "texts     17 that belong to pictures",
        "folder    /photos",
        "model     starter-abc-fp32 (1,234 embeddings)",
        "ann       SQfp16, 1,234 rows, 0.7 MB, ann_recall 0.995",
        "gone      2 files, remembered",
        "errors    3 files that could not be used",
        "          2 not an image",
        "          1 empty file",
    ]
    values = json.loads(render.stats_as_json("/library", STATS))
    assert values["synced_at"] == "2026-01-02T03:04:00+00:00"
    assert values["models"] == [{"id": "starter-abc-fp32", "dim": 256, "embeddings": 1234}]


def test_progress_names_bad_files_and_is_silent_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = render.SyncProgress()
    progress(SyncEvent("scan", total=256))
    progress(SyncEvent("embed", 10, 5, 1, 4, Path("/a/b\n.jpg"), "empty file"))
    progress(SyncEvent("embed", 10, 10, 1, 9))
    progress.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "skipped /a/b\\n.jpg: empty file\n"
    with render.counting(10) as advance:
        advance(3)
    assert capsys.readouterr().err == ""
