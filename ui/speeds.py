"""What `bench speed` has measured, as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rwkvsearch.ui.words import counted, duration

Json = dict[str, Any]
_HEADS = ("p50, ms", "p99, ms", "processor, ms")


def speed_as_text(found: Json) -> str:
    """Return a section for each part that was measured, below one line about the machine."""
    sections = {"encoder": _encoder, "indexing": _indexing, "queries": _queries, "ann": _anns}
    parts = [[*lines(found[name])] for name, lines in sections.items() if name in found]
    parts += [[f"{name} left out: {why}" for name, why in found.get("left_out", {}).items()]]
    end = f"median [lowest, highest] of the rounds; {duration(found['seconds'])} in all"
    shown = [[_machine(found["machine"])], *filter(None, parts), [end]]
    return "\n\n".join("\n".join(lines) for lines in shown)


def _machine(machine: Json) -> str:
    memory = machine["memory_bytes"]
    facts = [
        f"{machine['processor']}, {machine['cores']} cores",
        *([f"{memory / 2**30:.0f} GiB"] if memory else []),
        *([f"on {machine['device']}"] if machine["device"] != "cpu" else []),
        *(
            f"{name} {machine[name]}"
            for name in ("python", "torch", "openvino", "faiss")
            if machine[name]
        ),
        f"load {machine['load']} to {machine['load_after']}",
    ]
    return ", ".join(facts)


def _encoder(found: Json) -> Iterator[str]:
    for model in found["models"].values():
        yield _row(model["id"], "images/s", "texts/s")
        for batch, images in model["images"].items():
            yield _row(f"  batch {batch}", _spread(images), _spread(model["texts"][batch]))
    for name, one in found.items():
        if name != "models":
            vit = next(key for key in one if key.startswith("vit_"))
            yield _row(f"{name}, {one['engine']}", "ours/s", "ViT/s", "ratio")
            for batch, ours in one["ours"].items():
                cells = (ours, one[vit][batch], one[f"ratio_to_{vit}_spread"][batch])
                yield _row(f"  batch {batch}", *map(_spread, cells))


def _indexing(found: Json) -> Iterator[str]:
    unreadable = f", {found['unreadable']:,} unreadable" if found["unreadable"] else ""
    yield f"indexing {found['files']:,} files{unreadable}: {found['pictures']}"
    yield _row("  first, files/s", _spread(found["files_per_second"]))
    yield _row("  again, nothing new, files/s", _spread(found["again_files_per_second"]))
    for stage, one in found["stages"].items():
        name = f"  {stage}, busy s of {counted(one['threads'], 'thread')}"
        yield _row(name, _spread(one["busy_seconds"]), f"{one['share']:.0%}")
    yield f"  bottleneck: {found['bottleneck']}"


def _queries(found: Json) -> Iterator[str]:
    yield _row("queries to the sample photographs", *_HEADS)
    rows = {f"new process, {name}": one for name, one in found["cold"].items()}
    rows |= {f"by a daemon, {name}": one for name, one in found["daemon"].items()}
    rows |= {f"in one process, {name}": one for name, one in found["warm"].items()}
    for name, one in rows.items():
        yield _row(f"  {name}", *_times(one))


def _anns(found: Json) -> Iterator[str]:
    for one in found.values():
        recall = one["ann_recall@10"]
        yield f"{one['rows']:,} made-up embeddings of {one['dim']} numbers, {one['kind']}"
        yield _row("  build, s", _spread(one["build_seconds"]))
        yield _row("  build, measure and publish, s", _spread(one["publish_seconds"]))
        yield _row("  ann_recall@10 of images, texts", recall["images"], recall["texts"])
        yield _row("  bytes a picture, whole library", *map(_number, _bytes(one)))
        yield _row("  one query", *_HEADS)
        for name in (key for key in one if key.startswith(("index", "query"))):
            yield _row(f"  {name}", *_times(one[name]))


def _row(name: str, *cells: object) -> str:
    shown = f"{name.replace('_', ' '):<36}" + "".join(f"{cell:>22}" for cell in cells)
    return shown.rstrip()


def _bytes(one: Json) -> tuple[float, float]:
    return one["bytes_per_image"], one["library_bytes_per_image"]


def _times(one: Json) -> Iterator[str]:
    for name in ("p50_ms", "p99_ms", "processor_ms"):
        value = one[name]
        if value is None:  # too few to tell
            yield f"at most {_number(one['highest_ms'])}"
        else:
            yield _spread(value) if isinstance(value, dict) else _number(value)


def _spread(value: Json) -> str:
    low, high = _number(value["low"]), _number(value["high"])
    return f"{_number(value['median'])} [{low}, {high}]"


def _number(value: float) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"
