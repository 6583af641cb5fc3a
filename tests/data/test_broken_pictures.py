"""Broken files of every format: a picture or an `ImageError` with a reason, soon, and no crash."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("breaking.py")
NEEDS = {"HEIC": "pillow_heif", "DNG": "rawpy"}
COUNT = 50


def read_broken(kind: str, count: int, seed: int) -> list[dict[str, object]]:
    """What became of each file: `name`, `bytes`, `reason` (None: a picture) and `seconds`."""
    done = subprocess.run(
        [sys.executable, SCRIPT, kind, str(count), str(seed)],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"died at {lines[-1:]}:\n{done.stderr[-2000:]}"
    return [named | fate for named, fate in zip(lines[::2], lines[1::2], strict=True)]


def check(files: list[dict[str, object]]) -> None:
    for file in files:
        reason = file["reason"]
        if reason is not None:
            assert isinstance(reason, str) and 0 < len(reason) < 100, file
            assert reason == reason.lower() or reason.startswith("needs pip"), file
            assert "0x" not in reason and "\n" not in reason, file
        assert isinstance(file["seconds"], float) and file["seconds"] < 10, file


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "HEIC", "DNG"]
)
def test_broken_files(kind: str) -> None:
    pytest.importorskip(NEEDS.get(kind, "PIL"))
    files = read_broken(kind, COUNT, 0)
    assert len(files) == COUNT
    check(files)
    # The faults are real ones: a good part of the files cannot be read.
    assert sum(file["reason"] is not None for file in files) > COUNT / 10


def test_bombs() -> None:
    for module in NEEDS.values():
        pytest.importorskip(module)
    files = read_broken("BOMB", 0, 0)
    check(files)
    harmless = {"png exif tags", "jpeg segments", "jpeg profile", "xmp laughs", "dng strip"}
    assert {file["name"] for file in files if file["reason"] is None} <= harmless
    assert len(files) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "HEIC", "DNG"]
)
def test_many_more_broken_files(kind: str, seed: int) -> None:
    pytest.importorskip(NEEDS.get(kind, "PIL"))
    check(read_broken(kind, 1000, seed))
