"""Indexing 12-megapixel photographs end to end: `python -m rwkvsearch.retrieval.index_speed`.

Ours beside the loop that everybody writes first: a full decode by Pillow, CLIP's transform, a
ViT-B/32 in batches of 64. Timings on a shared machine drift, so the photographs are cut into
rounds, and every contender takes each round; ratios are of the sums over all rounds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageChops
from torch.nn import functional

from rwkvsearch.data.preprocess import preprocess
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import SyncOptions, sync
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.models import ModelCard, Precision
from rwkvsearch.retrieval.rwkv_clip.config import B32
from rwkvsearch.retrieval.speed import ClipImage, random_model

SAMPLES = Path(__file__).parents[1] / "data" / "samples" / "photos"
SIZE = (4000, 3000)
_PLAIN = "plain loop, ViT-B/32"

Contender = Callable[[Path], int]


def make_photographs(folder: Path, number: int) -> None:
    """So many JPEG files of 4000 x 3000 pixels: crops of the sample photographs, with noise."""
    sources = sorted(SAMPLES.glob("*.jpg"))
    grain = np.random.default_rng(0).integers(0, 13, (*SIZE[::-1], 3), np.uint8)
    noise = Image.fromarray(grain)
    folder.mkdir(parents=True, exist_ok=True)

    def make(at: int) -> None:
        random = np.random.default_rng(at)
        with Image.open(sources[at % len(sources)]) as opened:
            photo = _crop(opened.convert("RGB"), random).resize(SIZE, Image.Resampling.BICUBIC)
        moved = ImageChops.offset(
            noise, int(random.integers(SIZE[0])), int(random.integers(SIZE[1]))
        )
        ImageChops.add(photo, moved, offset=-6).save(folder / f"{at:05}.jpg", quality=90)

    with ThreadPoolExecutor(4) as pool:
        missing = (at for at in range(number) if not (folder / f"{at:05}.jpg").exists())
        list(pool.map(make, missing))


def _crop(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A part of the shape of 4:3, between 60 and 100 percent of what fits."""
    unit = min(image.width / 4, image.height / 3) * random.uniform(0.6, 1)
    width, height = int(4 * unit), int(3 * unit)
    left = int(random.integers(image.width - width + 1))
    top = int(random.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def ours(encoder: Encoder) -> Contender:
    """A first sync of a folder into a new library, with all that belongs to it."""

    def run(folder: Path) -> int:
        with TemporaryDirectory(prefix="rwkvsearch-") as place, Library.create(Path(place)) as new:
            report = sync(new, [folder], encoder, SyncOptions())
            return report.added

    return run


def plain(tower: ClipImage, batch: int = 64) -> Contender:
    """Embeddings of a folder, one step after the other; nothing is kept."""

    @torch.inference_mode()
    def run(folder: Path) -> int:
        paths = sorted(folder.iterdir())
        found = []
        for start in range(0, len(paths), batch):
            pixels = [_full(path) for path in paths[start : start + batch]]
            found.append(functional.normalize(tower(torch.from_numpy(np.stack(pixels)))))
        return len(torch.cat(found))

    return run


def _full(path: Path) -> Any:
    with Image.open(path) as opened:
        return preprocess(opened.convert("RGB"), 224)


def command(words: list[str]) -> Contender:
    """Another program, run inside the folder; `{new}` in a word is a new folder for its data."""

    def run(folder: Path) -> int:
        with TemporaryDirectory(prefix="rwkvsearch-") as new:
            called = [word.replace("{new}", new) for word in words]
            subprocess.run(called, cwd=folder, check=True, capture_output=True)
            return sum(1 for _ in folder.iterdir())

    return run


def main() -> None:
    """Read the options and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the photographs there, for another run")
    parser.add_argument("--other", nargs="+", help="a further contender: a command, see `command`")
    parser.add_argument("--make-only", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(TemporaryDirectory(prefix="rwkvsearch-")))
        folder = options.folder or temporary / "photographs"
        make_photographs(folder, options.photographs)
        if options.make_only:
            return
        parts = _parts(folder, options.photographs, options.rounds, temporary)
        times = _race(_contenders(options.other), parts)
    rows = _rows(times, options.photographs)
    sys.stdout.write(json.dumps(rows, indent=2) + "\n" if options.json else _table(rows))


def _contenders(other: list[str] | None) -> dict[str, Contender]:
    found: dict[str, Contender] = {_PLAIN: plain(ClipImage(32).eval())}
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        found[f"ours, starter, {precision}"] = ours(Encoder.load(precision=precision))
    for precision in precisions:
        card = ModelCard("random-b32", "0" * 64, "", B32.to_dict(), "random", "none")
        encoder = Encoder(random_model(B32), card, torch.device("cpu"), precision)
        found[f"ours, B/32, {precision}"] = ours(encoder)
    if other:
        found[other[0].rpartition("/")[2]] = command(other)
    return found


def _parts(folder: Path, number: int, rounds: int, temporary: Path) -> list[Path]:
    """The photographs dealt out into one folder a round, by hard links or copies."""
    parts = [temporary / f"round-{turn}" for turn in range(rounds + 1)]
    for part in parts:
        part.mkdir()
    for at in range(number):
        _link(folder / f"{at:05}.jpg", parts[1 + at % rounds])
    for at in range(min(number, 4)):  # the first one warms up
        _link(folder / f"{at:05}.jpg", parts[0])
    return parts


def _link(file: Path, folder: Path) -> None:
    try:
        (folder / file.name).hardlink_to(file)
    except OSError:
        shutil.copy2(file, folder)


def _race(contenders: dict[str, Contender], parts: list[Path]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn, part in enumerate(parts):
        expected = sum(1 for _ in part.iterdir())
        for name, run in contenders.items():
            began = time.perf_counter()
            done = run(part)
            if done != expected:
                raise RuntimeError(f"{name}: {done} of {expected} photographs")
            spent = time.perf_counter() - began
            sys.stderr.write(f"round {turn}: {name}: {done} photographs in {spent:.2f} s\n")
            if turn:
                times[name].append(spent)
    return times


def _rows(times: dict[str, list[float]], number: int) -> list[dict[str, Any]]:
    first = times[_PLAIN]
    return [
        {
            "contender": name,
            "files_per_second": round(number / sum(spent), 2),
            "ratio": round(sum(first) / sum(spent), 3),
            "ratios_of_rounds": [round(a / b, 3) for a, b in zip(first, spent, strict=True)],
            "seconds": round(sum(spent), 2),
        }
        for name, spent in times.items()
    ]


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'':<24}{'files/s':>9}{'ratio':>8}   rounds"]
    for row in rows:
        low, high = min(row["ratios_of_rounds"]), max(row["ratios_of_rounds"])
        lines.append(
            f"{row['contender']:<24}{row['files_per_second']:>9.1f}{row['ratio']:>8.2f}"
            f"   {low:.2f} to {high:.2f}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
