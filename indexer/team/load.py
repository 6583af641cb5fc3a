"""Many writers and readers of one library: `python -m rwkvsearch.indexer.team.load ADDRESS`.

Writers change their folders and sync them, readers search; a part of the pictures and of the texts
is the same for all writers. In the end the library is compared with the folders, row by row. What
an outage of the server breaks off is tried again, so it may be killed and started in the middle.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sqlalchemy import func, select, text

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.indexer.address import place_of
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import EmbeddingRow, FileRow, ImageRow, RootRow
from rwkvsearch.indexer.team.load_roles import content

_TWICE = {
    "images": "content_hash",
    "files": "root_id, path",
    "embeddings": "image_id, model",
    "texts": "text",
    "text_embeddings": "text_id, model",
    "captions": "image_id, file_id, text_id, source",
}


def run(
    address: str, folder: Path, *, writers: int = 4, readers: int = 8, seconds: float = 300
) -> dict[str, Any]:
    """Let them work, then compare; what was met, as one object.

    `errors` and `wrong` name every error and everything that was not as it has to be; `lost` and
    `doubled` are rows; `outages` counts what was broken off because the server was down.
    """
    with Library.create(place_of(address)) as library:
        if library.stats().files:
            raise RwkvSearchError(f"{address} holds pictures already; name an empty database")
    until = time.time() + seconds
    roles = [("writer", n) for n in range(writers)] + [("reader", n) for n in range(readers)]
    said = list(_results(address, folder, roles, until))
    with Library.open(place_of(address)) as library:
        lost, doubled, files = _compare(library, folder, writers)
    counts: Counter[str] = sum((Counter(one["counts"]) for one in said), Counter())
    return {
        "writers": writers,
        "readers": readers,
        "seconds": seconds,
        "files": files,
        "counts": dict(counts),
        "latencies": _latencies(said),
        "outages": sum(one["outages"] for one in said),
        "errors": [error for one in said for error in one["errors"]],
        "wrong": [what for one in said for what in one["wrong"]],
        "lost": lost,
        "doubled": doubled,
    }


def _results(
    address: str, folder: Path, roles: Sequence[tuple[str, int]], until: float
) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "rwkvsearch.indexer.team.load_roles"]
    started = [
        (
            f"{role} {number}",
            subprocess.Popen(
                [*command, role, address, folder / f"w{number}", str(number), str(until)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ),
        )
        for role, number in roles
    ]
    for name, process in started:
        output, trouble = process.communicate()
        if process.returncode:
            last = trouble.decode(errors="replace").strip().splitlines()[-1:]
            yield {"counts": {}, "seconds": {}, "outages": 0, "wrong": [], "errors": [name, *last]}
        else:
            yield json.loads(output)


def _compare(library: Library, folder: Path, writers: int) -> tuple[list[str], dict[str, int], int]:
    """What was acknowledged and is not there as it was, rows that are there twice, the files."""
    wanted: dict[str, str] = {}
    for number in range(writers):
        root = folder / f"w{number}"
        holds = json.loads(root.with_suffix(".json").read_text())
        wanted |= {str(root / name): content(seed) for name, seed in holds.items()}
    row = (
        select(RootRow.path, FileRow.path, ImageRow.content_hash, func.count(EmbeddingRow.id))
        .join_from(FileRow, RootRow, RootRow.id == FileRow.root_id)
        .join(ImageRow, ImageRow.id == FileRow.image_id)
        .outerjoin(EmbeddingRow, EmbeddingRow.image_id == ImageRow.id)
        .where(FileRow.gone_at.is_(None))
        .group_by(FileRow.id, RootRow.path, FileRow.path, ImageRow.content_hash)
    )
    with library.read() as session:
        there = {str(root / path): (key, each) for root, path, key, each in session.execute(row)}
        doubled = {table: _twice(session, table, key) for table, key in _TWICE.items()}
    lost = [path for path, key in wanted.items() if there.get(path) != (key, 1)]
    lost += [f"{path}: not acknowledged" for path in there.keys() - wanted.keys()]
    return lost, {table: number for table, number in doubled.items() if number}, len(wanted)


def _twice(session: Any, table: str, key: str) -> int:
    groups = f"SELECT 1 FROM {table} GROUP BY {key} HAVING count(*) > 1"
    return int(session.scalar(text(f"SELECT count(*) FROM ({groups}) AS g")))


def _latencies(said: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Milliseconds by what was done."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for one in said:
        for what, values in one["seconds"].items():
            seconds[what] += values
    names = ("p50", "p95", "p99", "max")
    return {
        what: {"number": len(values)}
        | dict(zip(names, np.round(1e3 * np.percentile(values, [50, 95, 99, 100]), 1), strict=True))
        for what, values in seconds.items()
    }


def as_text(found: dict[str, Any]) -> str:
    """A table of the latencies, and the counts."""
    lines = [f"{'ms':<20}{'number':>8}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}"]
    for what, one in sorted(found["latencies"].items()):
        number, *times = one.values()
        lines.append(f"{what:<20}{number:>8,}" + "".join(f"{time:>9,.1f}" for time in times))
    lines.append(f"{found['files']} files in the end; {found['counts']}")
    for name in ("outages", "errors", "wrong", "lost", "doubled"):
        value = found[name]
        lines.append(f"{name:<9}{value if isinstance(value, int) else len(value)}")
        lines += [f"  {one}" for one in (value if isinstance(value, list) else [])[:10]]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the options, and print a table or JSON; exit code 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="postgresql://USER@HOST:PORT/DATABASE, empty")
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="rwkvsearch-") as folder:
        seconds = 60 * options.minutes
        found = run(
            options.address,
            Path(folder).resolve(),
            writers=options.writers,
            readers=options.readers,
            seconds=seconds,
        )
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if options.json else as_text(found))
    sys.exit(any(found[name] for name in ("errors", "wrong", "lost", "doubled")))


if __name__ == "__main__":
    main()
