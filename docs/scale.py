"""Capacity on paper: what a library of so many pictures takes, from figures measured on small ones.

    python docs/scale.py                      # the tables of docs/scale.md
    python docs/scale.py --images 30000000 --json

Every input is in docs/scale/inputs.toml, with the command that measured it or the word assumption.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rwkvsearch.indexer.ann.kinds import cells, default_kind

INPUTS = Path(__file__).parent / "scale" / "inputs.toml"
SIZES = (1_000_000, 100_000_000, 10_000_000_000)
PROBES, ROUNDS, TRAINING = 16, 10, 16  # cells looked into; of k-means; rows a cell for it

Given = dict[str, dict[str, float]]
Fact = tuple[str, float, str]
"""What, how much, and in which unit: bytes, hours, ms, /s, share, or nothing."""


def given() -> Given:
    """The inputs by section and name."""
    with INPUTS.open("rb") as stream:
        sections = tomllib.load(stream)
    return {
        section: {name: float(entry["value"]) for name, entry in entries.items()}
        for section, entries in sections.items()
    }


@dataclass(frozen=True)
class Ivf:
    """An IVF file of `rows` in one piece, `code` byte (SQ8) or bit (RaBitQ)."""

    rows: int
    code: str
    given: Given
    cells: int

    @classmethod
    def of(cls, rows: int, code: str, given: Given) -> Ivf:
        """With the cells that the library gives so many rows."""
        return cls(rows, code, given, cells(rows))

    @property
    def size(self) -> float:
        """Bytes: codes, ids twice, centres and the table of the cells."""
        per_row = self.given["ann"][f"{self.code}_code"] + 16
        return self.rows * per_row + self.cells * (4 * self.dim + 28)

    @property
    def dim(self) -> int:
        """Numbers an embedding."""
        return round(self.given["embedding"]["dim"])

    @property
    def train(self) -> float:
        """Core seconds of k-means."""
        rows = max(TRAINING * self.cells, 16_384)
        return ROUNDS * self._products(rows) / self.given["ann"]["train_flops"]

    @property
    def assign(self) -> float:
        """Core seconds to find the cell of each row."""
        return self._products(self.rows) / self.given["ann"]["assign_flops"]

    @property
    def build(self) -> float:
        """Core seconds of all."""
        return self.train + self.assign + self.rows * self.given["ann"][f"{self.code}_add"]

    @property
    def search(self) -> float:
        """Core seconds of one query in the file alone."""
        ann = self.given["ann"]
        scanned = PROBES * self.rows / self.cells
        return ann[f"{self.code}_fixed"] + self.coarse + scanned * ann[f"{self.code}_scan"]

    @property
    def coarse(self) -> float:
        """Core seconds to compare a query with all centres: between those measured a line."""
        known = sorted((int(count), value) for count, value in self.given["coarse"].items())
        if self.cells >= known[-1][0]:
            return known[-1][1] * self.cells / known[-1][0]
        low = max((one for one in known if one[0] <= self.cells), default=(0, 0.0))
        high = min(one for one in known if one[0] > self.cells)
        return low[1] + (high[1] - low[1]) * (self.cells - low[0]) / (high[0] - low[0])

    @property
    def resident(self) -> float:
        """Bytes of a process that has read all of it, and keeps the ids once more."""
        return self.size + 8 * self.rows + 1e6 * self.given["ann"]["process"]

    def _products(self, rows: int) -> float:
        return 2.0 * rows * self.cells * self.dim


def storage(n: int, of: Given) -> list[Fact]:
    """What lies on disks."""
    truth, milvus = of["truth"], of["milvus"]
    return [
        ("library.sqlite", n * (truth["row"] + truth["vector"]), "bytes"),
        ("of it the embeddings, 640 x fp16", n * 2 * of["embedding"]["dim"], "bytes"),
        ("thumbnails of 320 pixels", n * truth["thumbnail"], "bytes"),
        ("ann, SQfp16 (exact)", n * of["ann"]["exact"], "bytes"),
        ("ann, RaBitQ,Refine(SQfp16)", n * of["ann"]["refined"], "bytes"),
        ("ann, IVF,SQ8", Ivf.of(n, "byte", of).size, "bytes"),
        ("ann, IVF,RaBitQ", Ivf.of(n, "bit", of).size, "bytes"),
        ("PostgreSQL, tables", n * (truth["row"] + of["postgresql"]["table"]), "bytes"),
        ("PostgreSQL, HNSW", n * of["postgresql"]["hnsw"], "bytes"),
        ("Milvus, object storage", n * (milvus["raw"] + milvus["hnsw"]), "bytes"),
    ]


def memory(n: int, of: Given) -> list[Fact]:
    """What has to be in memory so that no search waits for a disk."""
    return [
        ("a searching process, IVF,SQ8, all of it read", Ivf.of(n, "byte", of).resident, "bytes"),
        ("a searching process, IVF,RaBitQ", Ivf.of(n, "bit", of).resident, "bytes"),
        ("building IVF,SQ8 in one piece", n * of["ann"]["publish_peak"], "bytes"),
        ("PostgreSQL, HNSW", n * of["postgresql"]["hnsw"], "bytes"),
        ("Milvus, HNSW, two replicas", 2 * n * of["milvus"]["hnsw"], "bytes"),
        ("Milvus, IVF_SQ8, two replicas", 2 * n * (of["ann"]["byte_code"] + 8), "bytes"),
        ("Milvus, IVF_RABITQ, two replicas", 2 * n * (of["ann"]["bit_code"] + 8), "bytes"),
        ("memory nodes of 256 GB for the last", milvus_nodes(n, of), ""),
    ]


def milvus_nodes(n: int, of: Given) -> float:
    """Machines whose memory holds two replicas of a bit a number, two thirds full."""
    return max(2, math.ceil(2 * n * (of["ann"]["bit_code"] + 8) / (256e9 * 2 / 3)))


def gpu_rates(of: Given) -> tuple[float, float]:
    """Pictures a second that B/32 could do on one H100, least and most: assumed, not measured."""
    tower = of["embedding"]
    products = 2 * tower["multiplications"] * tower["tokens"] * tower["layers"]
    peak = of["assumed"]["h100_flops"] / products
    return peak * of["assumed"]["h100_least"], peak * of["assumed"]["h100_most"]


def embedding(n: int, of: Given) -> list[Fact]:
    """What it takes to embed all once, with B/32."""
    tower, assumed = of["embedding"], of["assumed"]
    least, most = gpu_rates(of)
    photos, small = (assumed["cores_a_gpu"] / tower[name] for name in ("decode", "decode_small"))
    node = assumed["cores_a_node"]
    hours = n / 3600
    return [
        ("reading files of 4 MB (assumed)", n * assumed["photograph"], "bytes"),
        ("core hours, fp32, JPEG of 12 megapixels", hours / tower["cpu"], "hours"),
        ("core hours, bf16", hours / tower["cpu_bf16"], "hours"),
        ("of them decoding", hours * tower["decode"], "hours"),
        ("hours on 16 nodes of 64 cores, bf16", hours / tower["cpu_bf16"] / node / 16, "hours"),
        ("hours on 1 H100, the model alone, at best (assumed)", hours / most, "hours"),
        ("hours on 1 H100, the model alone, at worst (assumed)", hours / least, "hours"),
        ("hours on 1 H100 fed by 24 cores, 12 megapixels", hours / min(photos, most), "hours"),
        (
            "hours on 64 H100 fed by 24 cores each, 12 megapixels",
            hours / min(photos, most) / 64,
            "hours",
        ),
        (
            "hours on 64 H100 fed by 24 cores each, small pictures",
            hours / min(small, most) / 64,
            "hours",
        ),
    ]


def searching(n: int, of: Given) -> list[Fact]:
    """One query, and how many a second; a core runs one process of the server."""
    file = Ivf.of(n, "byte", of).search
    known = of["api"]["request"] + file
    new = known + of["embedding"]["words"]
    small, large = (of["milvus"][name] for name in ("segment_rows", "large_segment_rows"))
    return [
        ("in the IVF,SQ8 file, core time", 1e3 * file, "ms"),
        ("a whole request, words asked before, core time", 1e3 * known, "ms"),
        ("a whole request, new words (B/32, CPU), core time", 1e3 * new, "ms"),
        ("requests/s of 64 cores, words asked before", 64 / known, "/s"),
        ("requests/s of 64 cores, new words", 64 / new, "/s"),
        ("Milvus, segments of 1 GiB", max(n / small, 1), ""),
        ("Milvus, core time in all of them", 1e3 * in_segments(n, small, of), "ms"),
        ("Milvus, queries/s of 1,000 cores", 1e3 / in_segments(n, small, of), "/s"),
        ("the same with segments of 16 GiB", 1e3 / in_segments(n, large, of), "/s"),
    ]


def in_segments(n: int, most: float, of: Given) -> float:
    """Core seconds of a query in all segments of `most` rows, each an IVF,SQ8 of its own."""
    rows = round(min(n, most))
    return n / rows * Ivf.of(rows, "byte", of).search


def building(n: int, of: Given) -> list[Fact]:
    """Core hours until it can be searched."""
    byte, bit = (Ivf.of(n, code, of) for code in ("byte", "bit"))
    rows = round(min(n, of["milvus"]["segment_rows"]))
    segments = n / rows * Ivf.of(rows, "byte", of).build
    postgresql = of["postgresql"]
    hnsw = n * postgresql["hnsw_build"] * math.log(n) / math.log(1e5)
    return [
        ("entering rows in SQLite, one writer", n * of["truth"]["fill"] / 3600, "hours"),
        ("IVF,SQ8 in one piece", byte.build / 3600, "hours"),
        ("IVF,RaBitQ in one piece", bit.build / 3600, "hours"),
        ("entering rows in PostgreSQL, no index yet", n * postgresql["store"] / 3600, "hours"),
        ("PostgreSQL, HNSW", hnsw / 3600, "hours"),
        ("PostgreSQL, 1 % more into its index", 0.01 * n * postgresql["grow"] / 3600, "hours"),
        ("Milvus, all segments", segments / 3600, "hours"),
    ]


def engine(n: int) -> str:
    """Which engine, at which size."""
    if n <= 20_000_000:
        return f"SQLite + FAISS, {default_kind(n).name}"
    return "PostgreSQL + Milvus" if n <= 300_000_000 else "Milvus; PostgreSQL in parts"


SECTIONS: dict[str, Callable[[int, Given], list[Fact]]] = {
    "On disks": storage,
    "In memory": memory,
    "Embedding once": embedding,
    "Searching": searching,
    "Building, hours of one core": building,
}


def shown(value: float, unit: str) -> str:
    """A number of three figures with its unit."""
    if unit == "bytes":
        for factor, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
            if value >= factor:
                return f"{_figures(value / factor)} {name}"
    return f"{_figures(value)} {unit if unit in {'ms', 'bytes'} else ''}".strip()


def _count(text: str) -> int:
    number = int(text)
    if number < 4:
        raise argparse.ArgumentTypeError("at least 4 pictures")
    return number


def _figures(value: float) -> str:
    if value == 0 or value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def markdown(sizes: tuple[int, ...], of: Given) -> str:
    """All tables, a column for each size."""
    lines = []
    for title, section in SECTIONS.items():
        columns = [section(n, of) for n in sizes]
        lines += [f"| {title} | " + " | ".join(f"{n:,}" for n in sizes) + " |"]
        lines += ["|---|" + "---|" * len(sizes)]
        for row in zip(*columns, strict=True):
            values = (shown(value, unit) for _, value, unit in row)
            lines += [f"| {row[0][0]} | " + " | ".join(values) + " |"]
        lines += [""]
    return "\n".join(lines)


def main() -> None:
    """Print the tables, or JSON."""
    asked = argparse.ArgumentParser(description="Capacity on paper: docs/scale.md")
    asked.add_argument("--images", type=_count, action="append", help="size; repeatable")
    asked.add_argument("--json", action="store_true", help="the figures as JSON, in plain units")
    options = asked.parse_args()
    sizes, of = tuple(options.images or SIZES), given()
    if options.json:
        facts = {
            n: {"engine": engine(n)}
            | {
                f"{name} [{unit}]": value
                for part in SECTIONS.values()
                for name, value, unit in part(n, of)
            }
            for n in sizes
        }
        sys.stdout.write(json.dumps(facts, indent=1) + "\n")
    else:
        sys.stdout.write(markdown(sizes, of))


if __name__ == "__main__":
    main()
