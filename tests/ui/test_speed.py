"""`--profile` and `--estimate` as text, and `--nice` as it is."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rwkvsearch.indexer.clock import Clock
from rwkvsearch.indexer.estimate import SyncEstimate
from rwkvsearch.ui.speed import estimate_as_text, profile_as_text

SAMPLES = Path(__file__).parents[2] / "data" / "samples" / "photos"


def test_profile() -> None:
    cores = len(os.sched_getaffinity(0))
    empty = Clock().profile()
    profile = replace(
        empty,
        busy=empty.busy | {"scan": 0.5, "decode": 16.0, "encode": 4.0},
        threads=empty.threads | {"decode": cores},
        waited={"for pictures": 5.0, "for the writer": 0.0},
        files=100,
        pipeline=9.0,
        seconds=10.0,
    )
    lines = profile_as_text(profile).splitlines()
    assert lines[0].split() == ["stage", "threads", "busy", "s", "of", "wall", "files/s"]
    table = {line.split()[0]: line.split()[1:] for line in lines[1:10]}
    assert table["scan"] == ["1", "0.50", "5%", "-"]
    assert table["decode"] == [str(cores), "16.00", f"{1.6 / cores:.0%}", f"{6.25 * cores:,.0f}"]
    assert table["encode"] == ["1", "4.00", "40%", "25"]
    assert lines[10].split() == ["wall", "clock", "10.00", "10"]
    assert lines[11] == "the model waited 5.00 s for pictures, 0.00 s for the writer"
    assert lines[12].startswith("bottleneck: decode: decoding is what the model waits for; every")
    few = replace(profile, threads=profile.threads | {"decode": cores - 1})
    if cores > 1:
        assert f"try --workers {cores}" in profile_as_text(few)
    assert "bottleneck" not in profile_as_text(empty)


def test_estimate() -> None:
    found = SyncEstimate(1500, 1000, 200, 2, 125.0, 2_500_000, Clock().profile())
    assert estimate_as_text(found).splitlines() == [
        "pictures  1,500 found, 500 known and unchanged, 1,000 new",
        "sample    200 files read, 2 of them bad",
        "time      about 2 min on this machine (8 files/s)",
        "space     about 2.50 MB more in the library",
    ]
    assert "0 files/s" in estimate_as_text(replace(found, new=0, seconds=0.0, bytes=0))


NICE = """
import sys
from pathlib import Path
from rwkvsearch.ui import cli, render

def watched(*arguments):
    tasks = [*Path("/proc/self/task").iterdir()]
    nice = {(task / "stat").read_text().rpartition(")")[2].split()[16] for task in tasks}
    print(len(tasks), *nice, file=sys.stderr)
    return report_as_text(*arguments)

report_as_text, render.report_as_text = render.report_as_text, watched
assert "torch" not in sys.modules and "numpy" not in sys.modules
sys.argv[1:] = ["index", *sys.argv[1:], "--nice", "--profile"]
cli.main()
"""


@pytest.mark.slow  # at the lowest priority, minutes on a busy machine
def test_every_thread_is_nice(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NICE, SAMPLES, "--library", tmp_path / "library"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    threads, *levels = done.stderr.split()
    assert int(threads) > 1
    assert levels == ["19"]
    assert "bottleneck: " in done.stdout
