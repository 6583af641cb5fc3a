"""The peers beside ours, all in one run: `python docs/benchmarks/peers.py [--quick] [--json]`.

Prints the tables of `docs/benchmarks.md`. Every round runs each contender once, in turn, and a
ratio is the median of the ratios within the rounds, since timings on a shared machine drift.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch and faiss are imported

import encoders  # noqa: E402
import folders  # noqa: E402
import searches  # noqa: E402
from report import Table, as_json, machine  # noqa: E402

from rwkvsearch.retrieval.speed import MODELS  # noqa: E402
from rwkvsearch.retrieval.speed_times import Effort  # noqa: E402

PARTS = ("encoders", "folders", "searches")
SAMPLES = folders.ROOT / "data" / "samples" / "photos"


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, small sizes: minutes")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--data", type=Path, default=SAMPLES, help="folder of pictures to index")
    parser.add_argument("--pictures", type=int, help="at most so many of them")
    for name in ("rclip", "clip-retrieval"):
        parser.add_argument(f"--{name}", metavar="PYTHON", help="of the environment it is in")
    asked = parser.parse_args()
    peers = {"rclip": asked.rclip, "clip-retrieval": asked.clip_retrieval}
    known = {name: str(Path(path).absolute()) for name, path in peers.items() if path}
    if missing := [path for path in (asked.data, *known.values()) if not Path(path).exists()]:
        parser.error(f"{missing[0]}: there is no such file or folder")
    tables = []
    for part in asked.only:
        tables += measure(part, asked.quick, asked.data, asked.pictures, known)
        if not asked.json:
            sys.stdout.write("\n".join(table.markdown() for table in tables[-2:]) + "\n")
    if asked.json:
        sys.stdout.write(json.dumps(as_json(tables), indent=2) + "\n")
    else:
        sys.stdout.write(json.dumps(machine()) + "\n")


def measure(
    part: str, quick: bool, data: Path, pictures: int | None, peers: dict[str, str]
) -> list[Table]:
    """Return the tables of one part."""
    if part == "encoders":
        batches, effort = ((1, 16), Effort(0, 3)) if quick else ((1, 16, 64), Effort(60, 5))
        shapes = {"B/32": MODELS["b32"]} | ({} if quick else {"B/16": MODELS["b16"]})
        return [encoders.measure(shapes, batches, effort, plain_upto=16)]
    if part == "folders":
        number, rounds, queries = (64, 1, 3) if quick else (800, 3, 7)
        return folders.measure(data, pictures or number, rounds, queries, peers)
    return [searches.measure(10_000 if quick else 100_000, 50 if quick else 200)]


if __name__ == "__main__":
    main()
