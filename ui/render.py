"""Results as text: for people, for pipes, for programs. Nothing here computes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from rwkvsearch.ui.words import counted, duration, printable

if TYPE_CHECKING:
    from rwkvsearch.data.descriptions.texts import Described
    from rwkvsearch.indexer.protocols import SyncEvent, SyncReport
    from rwkvsearch.indexer.stats import LibraryStats
    from rwkvsearch.retrieval.describing.estimate import Estimate


def report_as_text(report: SyncReport, library: str) -> str:
    """Return what a sync did, in two lines at most."""
    counts = {
        "embedded": report.added,
        "already known": report.reused,
        "unchanged": report.unchanged,
        "gone": report.removed,
        "skipped": len(report.errors),
    }
    texts = f", {counted(report.texts, 'text')} embedded" if report.texts else ""
    shown = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)
    rate = f" ({report.added / report.seconds:.0f} pictures/s)" if report.added else ""
    found = f"{counted(report.scanned, 'file')}: {shown or 'nothing to do'}{texts}"
    return f"{found}; {report.seconds:.1f} s{rate}\nlibrary: {printable(library)}"


def stats_as_text(name: str, stats: LibraryStats) -> str:
    """Return what a library holds, one fact a line."""
    lines = [
        f"library   {printable(name)} ({stats.bytes_on_disk / 1e6:,.1f} MB)",
        f"images    {stats.images:,} different pictures in {stats.files:,} files",
        f"synced    {stats.synced_at:%Y-%m-%d %H:%M} UTC" if stats.synced_at else "synced    never",
        *([f"texts     {stats.captions:,} that belong to pictures"] if stats.captions else []),
        *([f"tags      {stats.tags:,} given by `rwkvsearch tag`"] if stats.tags else []),
        *(f"folder    {printable(root)}" for root in stats.roots),
        *(
            f"model     {model.model_id} ({model.embeddings:,} embeddings)"
            for model in stats.models
        ),
        *(
            f"ann       {ann.kind}, {ann.rows:,} rows, {ann.bytes / 1e6:,.1f} MB"
            + (f", ann_recall {ann.ann_recall:.3f}" if ann.ann_recall is not None else "")
            for ann in stats.anns
        ),
        *([f"gone      {stats.gone:,} files, remembered"] if stats.gone else []),
        f"errors    {stats.errors:,} files that could not be used",
        *(f"          {count:,} {reason}" for reason, count in stats.errors_by_reason.items()),
    ]
    return "\n".join(lines)


def stats_as_json(name: str, stats: LibraryStats) -> str:
    """Return the same as one object."""
    return json.dumps(
        {
            "library": name,
            "images": stats.images,
            "files": stats.files,
            "gone": stats.gone,
            "captions": stats.captions,
            "tags": stats.tags,
            "errors": stats.errors,
            "errors_by_reason": stats.errors_by_reason,
            "roots": [str(root) for root in stats.roots],
            "models": [
                {"id": m.model_id, "dim": m.dim, "embeddings": m.embeddings} for m in stats.models
            ],
            "anns": [
                {
                    "model": ann.model_id,
                    "kind": ann.kind,
                    "rows": ann.rows,
                    "bytes": ann.bytes,
                    "ann_recall": ann.ann_recall,
                }
                for ann in stats.anns
            ],
            "bytes": stats.bytes_on_disk,
            "synced_at": stats.synced_at.isoformat() if stats.synced_at else None,
        },
        indent=2,
    )


@contextmanager
def counting(total: int | None) -> Iterator[Callable[[int], None]]:
    """Give a callback that advances a progress bar on stderr; `total` None when not known."""
    with tqdm(total=total, disable=not sys.stderr.isatty(), leave=False) as bar:
        yield bar.update


class SyncProgress:
    """A progress bar for `sync` on stderr: what is done of a stage, per second, the time left.

    Silent but for bad files when stderr is no terminal.
    """

    def __init__(self) -> None:
        self._stage = ""
        self._bar = tqdm(disable=not sys.stderr.isatty(), leave=False)

    def __call__(self, event: SyncEvent) -> None:
        """Draw an event, and name the file it is about."""
        if event.path is not None:
            self._bar.write(f"skipped {printable(event.path)}: {event.reason}", file=sys.stderr)
        if event.stage != self._stage:  # a pace of its own
            self._stage = event.stage
            units = {"captions": " texts", "mirror": " pictures", "publish": " pictures"}
            self._bar.unit = units.get(event.stage, " files")
            self._bar.reset()
        scanning = event.stage == "scan"
        self._bar.set_description(f"{event.stage}, {counted(event.errors, 'error')}", refresh=False)
        self._bar.total = None if scanning else event.total
        self._bar.update((event.total if scanning else event.done) - self._bar.n)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


class TrainingProgress:
    """A progress bar for `train` on stderr, over steps, with the figures of the last one."""

    def __init__(self, steps: int) -> None:
        shown = sys.stderr.isatty() and os.environ.get("RANK", "0") == "0"  # one of torchrun's
        self._bar = tqdm(total=steps, unit=" steps", disable=not shown)

    def __enter__(self) -> TrainingProgress:
        """The progress itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def __call__(self, step: int, figures: dict[str, float]) -> None:
        """Draw a step; figures of a measurement get a line of their own."""
        if step > self._bar.n + 1:  # a run that goes on
            self._bar.initial = self._bar.n = step - 1
        if any("@" in name for name in figures):
            self.tell(f"step {step}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        else:
            self._bar.set_postfix({"loss": f"{figures['loss']:.3f}"}, refresh=False)
            self._bar.update(step - self._bar.n)

    def tell(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(line, file=sys.stderr)


class DescribeProgress:
    """A progress bar for `describe` on stderr, with a line for each fault, and what was done."""

    def __init__(self, total: int, target: Path) -> None:
        self._target = target
        self._kinds: Counter[str] = Counter()
        self._faults = self._lost = 0
        self._began = time.monotonic()
        self._bar = tqdm(
            total=total, unit=" pictures", disable=not sys.stderr.isatty(), leave=False
        )

    def __enter__(self) -> DescribeProgress:
        """The progress itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        self.close()

    def __call__(self, item: Described) -> None:
        """Count a picture, and name what is wrong with it."""
        if item.error:
            self._faults += 1
            self._lost += not item.sayings
            what = "incomplete" if item.sayings else "skipped"
            line = f"{what} {printable(Path(item.key))}: {item.error}"
            self._bar.write(line, file=sys.stderr)
        self._kinds.update(saying.kind for saying in item.sayings)
        self._bar.update()

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def summary(self) -> str:
        """What was written, in two lines."""
        parts = [f"{self._kinds[kind]:,} {kind}" for kind in ("raw", "synthetic", "generated")]
        parts += [f"{self._lost:,} skipped"] if self._lost else []
        incomplete = self._faults - self._lost
        parts += [f"{incomplete:,} incomplete"] if incomplete else []
        seconds = time.monotonic() - self._began
        done = f"{counted(int(self._bar.total or 0), 'picture')}: {', '.join(parts)}"
        return f"{done}; {seconds:.1f} s\ndescriptions: {printable(self._target)}"


def estimate_as_text(found: Estimate) -> str:
    """Return what describing would take, one fact a line."""
    lines = [
        f"pictures  {found.pictures:,}, of which {found.sampled:,} were looked at",
        f"looking   about {duration(found.looking_seconds)} on this machine",
    ]
    if found.tokens_in:
        how = f"measured on {counted(found.probes, 'request')}" if found.probes else "not measured"
        lines.append(f"tokens    about {found.tokens_in:,} in, {found.tokens_out:,} out ({how})")
    if found.asking_seconds is not None and found.seconds_per_request is not None:
        pace = f"{found.seconds_per_request:.2f} s a request"
        lines.append(f"asking    about {duration(found.asking_seconds)} ({pace})")
    if found.cost is not None:
        digits = ".2f" if found.cost >= 1 else ".2g"
        lines.append(f"cost      about {found.cost:,{digits}} in the currency of the prices")
    return "\n".join(lines)
