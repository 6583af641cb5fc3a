"""Many tiny pictures, an encoder that costs nothing: `python -m rwkvsearch.indexer.benchmark`.

What is left is the library itself: files/s of a first sync, seconds of a second one that finds
nothing new, bytes and memory. Each size runs in a process of its own, for its peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync

_A_FOLDER = 1000


@dataclass(frozen=True)
class Free:
    """An encoder that copies 256 of its pixels: its embeddings are distinct and cost nothing."""

    model_id: str = "free"
    preprocessing_id: str = "free-16"
    dim: int = 256
    image_size: int = 16
    weights_sha256: str = "0" * 64

    def preprocess(self, image: Image.Image) -> NDArray[np.float32]:
        """The picture at 16 x 16 pixels."""
        pixels = np.asarray(image.resize((16, 16)), np.float32)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def encode_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Its first channel, normalised."""
        values = pixels[:, 0].reshape(len(pixels), self.dim) + 1
        unit: NDArray[np.float32] = values / np.linalg.norm(values, axis=1, keepdims=True)
        return unit

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """There are none beside these pictures."""
        raise NotImplementedError


def make_pictures(folder: Path, number: int) -> None:
    """PNG files of 4 x 4 pixels, no two alike, a thousand in a folder."""
    for at in range(number):
        parent = folder / f"{at // _A_FOLDER:04}"
        if at % _A_FOLDER == 0:
            parent.mkdir(parents=True)
        (parent / f"{at:07}.png").write_bytes(tiny_png(at))


def tiny_png(seed: int) -> bytes:
    """A picture of 4 x 4 pixels, another one for each seed."""
    rows = np.random.default_rng(seed).integers(0, 256, (4, 12), np.uint8)
    scanlines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(scanlines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def measure(pictures: Path, library: Path) -> dict[str, Any]:
    """One sync of a folder, with what it took of this process since it started."""
    with Library.create(library) as opened:
        began, busy = time.perf_counter(), time.process_time()
        report = sync(opened, [pictures], Free())
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
    size = sum(file.stat().st_size for file in library.rglob("*") if file.is_file())
    return {
        "pictures": report.scanned,
        "embedded": report.added,
        "errors": len(report.errors),
        "seconds": round(seconds, 3),
        "processor_seconds": round(busy, 3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "library_bytes": size,
    }


def main() -> None:
    """Read the options and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(measure(*options.one)))
        return
    rows = [row for number in options.pictures for row in _measure_apart(number)]
    sys.stdout.write(json.dumps(rows, indent=2) + "\n" if options.json else _table(rows))


def _measure_apart(number: int) -> list[dict[str, Any]]:
    """A first and a second sync of so many pictures, each in a new process."""
    with TemporaryDirectory(prefix="rwkvsearch-") as folder:
        pictures, library = Path(folder) / "pictures", Path(folder) / "library"
        make_pictures(pictures, number)
        command = [sys.executable, "-m", "rwkvsearch.indexer.benchmark", "--one"]
        rows = []
        for run in ("first", "again"):
            done = subprocess.run([*command, pictures, library], capture_output=True, check=True)
            rows.append({"run": run} | json.loads(done.stdout))
        return rows


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'pictures':>9} {'run':<6}{'embedded':>9}{'seconds':>9}{'cpu s':>8}{'files/s':>9}"
        f"{'peak MB':>9}{'bytes/picture':>15}"
    ]
    for row in rows:
        lines.append(
            f"{row['pictures']:>9,} {row['run']:<6}{row['embedded']:>9,}{row['seconds']:>9.1f}"
            f"{row['processor_seconds']:>8.1f}{row['pictures'] / row['seconds']:>9,.0f}"
            f"{row['peak_mb']:>9.0f}{row['library_bytes'] / row['pictures']:>15,.0f}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
