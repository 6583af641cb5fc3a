"""Recall as text and as JSON: of `bench recall`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rwkvsearch.ui.words import counted, printable

if TYPE_CHECKING:
    from rwkvsearch.data.captions import CaptionSet
    from rwkvsearch.retrieval.published import PublishedRecall
    from rwkvsearch.retrieval.ranks import Direction, Figures
    from rwkvsearch.retrieval.recall import RecallResult, Recalls

Json = dict[str, Any]
ARROWS: dict[Direction, str] = {
    "text_to_image": "text -> image",
    "image_to_text": "image -> text",
}


@dataclass(frozen=True)
class MeasuredRecall:
    """What was measured of one model, with what and where."""

    model_id: str
    name: str
    precision: str
    device: str
    result: RecallResult


@dataclass(frozen=True)
class Beside:
    """The set, and the published rows that may stand beside a result on it, or why none may."""

    name: str
    split: str | None
    published: Sequence[PublishedRecall]
    note: str


def beside(captions: CaptionSet, captions_per_image: int | None) -> Beside:
    """What is known of a set."""
    from rwkvsearch.retrieval.published import comparable

    found, note = comparable(captions.name, captions.split, len(captions.images))
    if found and captions_per_image is not None:
        note = f"the published rows of {found.name} are of all captions of an image"
        found = None
    return Beside(captions.name, captions.split, found.rows if found else (), note)


def recall_as_text(measured: Sequence[MeasuredRecall], about: Beside) -> str:
    """Return a table for each direction, with a row a model and what each step costs below it."""
    lines = [headline(measured[0].result, about)]
    for direction, arrow in ARROWS.items():
        rows = list(_rows(measured, about, direction))
        width = max(len(label) for label, _ in rows) + 2
        heads = "".join(f"{name:<19}" for name in ("R@1", "R@5", "R@10"))
        lines += ["", f"{arrow:<{width}}{heads}{'median':>6}{'mean':>9}{'MRR':>8}"]
        lines += [f"{label:<{width}}{cells}".rstrip() for label, cells in rows]
    return "\n".join([*lines, *(["", about.note] if about.note else [])])


def headline(result: RecallResult, about: Beside) -> str:
    """Return what was measured on, and how."""
    least, most = result.per_image
    each = f"{least}" if least == most else f"{least} to {most}"
    counts = f"{counted(result.images, 'image')}, {counted(result.captions, 'caption')}"
    name = printable(" ".join(filter(None, (about.name, about.split))))
    return (
        f"{name}: {counts} ({each} an image); recall in percent, ties count against the model, "
        "[95 % interval over images]"
    )


def steps(result: RecallResult, direction: Direction) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the recalls that differ from the model's in one thing, and in what."""
    yield "ties count for it", result.figures["strict"][direction].recall
    if searched := result.searched:
        yield "in a library, exact search", searched.exact[direction]
        yield f"in a library, {searched.how[direction][0]}", searched.ann[direction]
    smaller = f"{result.scaled.pictures:,} of {result.images:,} pictures smaller"
    yield f"scaled decoding, {smaller}", result.scaled.recall[direction]


def whole_object(measured: Sequence[MeasuredRecall], about: Beside) -> Json:
    """Return what `--json` prints: the object of the model, or `models` with one for each."""
    objects = [recall_object(one, about) for one in measured]
    return objects[0] if len(objects) == 1 else {"models": objects}


def recall_object(one: MeasuredRecall, about: Beside) -> Json:
    """Return what `--json` prints and `--save` keeps of one model."""
    result = one.result
    searched, folds = result.searched, result.folds
    model, strict = result.figures["pessimistic"], result.figures["strict"]
    values: Json = {
        "model": one.model_id,
        "precision": one.precision,
        "device": one.device,
        "set": about.name,
        "split": about.split,
        "images": result.images,
        "captions": result.captions,
        "captions_per_image": list(result.per_image),
        "prefix": result.prefix,
        "ties": "pessimistic",
        **{direction: _rounded(model[direction].recall) for direction in ARROWS},
        "ranks": {direction: _ranks(model[direction]) for direction in ARROWS},
        "interval_95": {
            direction: {
                name: [round(end, 2) for end in ends]
                for name, ends in result.intervals[direction].items()
            }
            for direction in ARROWS
        },
        "strict": {d: _rounded(strict[d].recall) | _ranks(strict[d]) for d in ARROWS},
        "library": None,
        "scaled_decoding": {"pictures": result.scaled.pictures, **_both(result.scaled.recall)},
        "folds": None,
        "published": [
            {
                "model": row.model,
                "trained_on": row.trained_on,
                "same_weights": row.ours == one.name,
                "source": row.source,
                "text_to_image": row.text_to_image,
                "image_to_text": row.image_to_text,
            }
            for row in about.published
        ],
        "published_note": about.note or None,
    }
    if searched:
        how = {d: {"faiss": f, "search": s} for d, (f, s) in searched.how.items()}
        values["library"] = {
            "exact": _both(searched.exact),
            "ann": _both(searched.ann) | {"kind": searched.kind, "made": how},
        }
    if folds:
        means = folds.figures["pessimistic"]
        values["folds"] = {"number": folds.number, "images": folds.images} | {
            d: _rounded(means[d].recall) | _ranks(means[d]) for d in ARROWS
        }
    return values


def published_label(row: PublishedRecall, measured: Sequence[MeasuredRecall]) -> str:
    """Return the name of a published row, and whether it is of one of these models."""
    same = ", the same weights" if any(row.ours == one.name for one in measured) else ""
    return f"published: {row.model}, {row.trained_on}{same}"


def _rows(
    measured: Sequence[MeasuredRecall], about: Beside, direction: Direction
) -> Iterator[tuple[str, str]]:
    for one in measured:
        result = one.result
        figures, ends = result.figures["pessimistic"][direction], result.intervals[direction]
        cells = (f"{v:.1f} [{ends[k][0]:.1f}, {ends[k][1]:.1f}]" for k, v in figures.recall.items())
        prefix = f"prefix {result.prefix!r}" if result.prefix else "no prefix"
        yield f"{one.model_id}, {one.device}, {prefix}", _cells(cells) + _ranks_as_text(figures)
        for name, recall in steps(result, direction):
            changed = (f"{v:.1f} ({v - figures.recall[k]:+.2f})" for k, v in recall.items())
            yield f"  {name}", _cells(changed)
        if folds := result.folds:
            mean = folds.figures["pessimistic"][direction]
            label = f"  mean of {folds.number} folds of {folds.images:,} images"
            yield label, _cells(f"{v:.1f}" for v in mean.recall.values()) + _ranks_as_text(mean)
    for row in about.published:
        values: dict[str, float] = getattr(row, direction)
        yield published_label(row, measured), _cells(f"{v:.1f}" for v in values.values())


def _cells(texts: Iterator[str]) -> str:
    return "".join(f"{text:<19}" for text in texts)


def _ranks_as_text(figures: Figures) -> str:
    return f"{figures.median_rank:>6g}{figures.mean_rank:>9.1f}{figures.mrr:>8.3f}"


def _ranks(figures: Figures) -> dict[str, float]:
    return {
        "median_rank": round(figures.median_rank, 2),
        "mean_rank": round(figures.mean_rank, 2),
        "mrr": round(figures.mrr, 4),
    }


def _both(recalls: Recalls) -> dict[str, Any]:
    return {direction: _rounded(recalls[direction]) for direction in ARROWS}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}
