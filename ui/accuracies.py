"""Accuracies as text and as JSON: of `bench classify` and `bench probe`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from rwkvsearch.ui.words import counted, printable

if TYPE_CHECKING:
    from rwkvsearch.data.errors import ImageError
    from rwkvsearch.retrieval.accuracy import Accuracy, Figure

_LONGEST = 40


def tell_unreadable(unreadable: Sequence[ImageError]) -> None:
    """Name the pictures that could not be read, on stderr."""
    for error in unreadable:
        typer.echo(f"skipped {printable(error.path)}: {error.reason}", err=True)


def figures_as_text(accuracy: Accuracy) -> str:
    """Return the three accuracies with their intervals on one line."""
    figures = {
        "top-1": accuracy.top1,
        "top-5": accuracy.top5,
        "mean per class": accuracy.mean_per_class,
    }
    return ", ".join(f"{name} {_as_text(figure)}" for name, figure in figures.items())


def left_out(unreadable: Sequence[ImageError]) -> str:
    """Return how many pictures are not part of the figures, if any."""
    return f"; {len(unreadable):,} unreadable left out" if unreadable else ""


def confusions_as_text(accuracy: Accuracy) -> Iterator[str]:
    """Yield the pairs of classes with most mistakes, a line each, if there are any."""
    if accuracy.confusions:
        yield "most often mixed up:"
    for one in accuracy.confusions:
        pair = f"{_short(one.name)} taken for {_short(one.taken_for)}"
        yield f"  {one.count:>4} of {one.images:>4}  {pair}"


def classes_as_text(accuracy: Accuracy) -> Iterator[str]:
    """Yield a table of all classes, the worst first."""
    yield f"{'top-1':>7}{'top-5':>7}{'images':>8}  class, and what it is most often taken for"
    for one in accuracy.by_class:
        rival = f" ({_short(one.rival)}: {one.mistaken})" if one.rival else ""
        figures = f"{one.top1:>7.1f}{one.top5:>7.1f}{one.images:>8,}"
        yield f"{figures}  {_short(one.name)}{rival}"


def accuracy_object(
    accuracy: Accuracy, unreadable: Sequence[ImageError], per_class: bool
) -> dict[str, Any]:
    """Return what `--json` prints and `--save` keeps; percentages to two places."""
    figures = {
        "top1": accuracy.top1,
        "top5": accuracy.top5,
        "mean_per_class": accuracy.mean_per_class,
    }
    values: dict[str, Any] = {name: round(figure.value, 2) for name, figure in figures.items()}
    values["interval_95"] = {
        name: [round(end, 2) for end in figure.interval] for name, figure in figures.items()
    }
    values |= {"images": accuracy.images, "classes": accuracy.classes}
    values["unreadable"] = [{"picture": e.path, "reason": e.reason} for e in unreadable]
    values["mixed_up"] = [
        {"class": o.name, "taken_for": o.taken_for, "count": o.count, "images": o.images}
        for o in accuracy.confusions
    ]
    if per_class:
        values["per_class"] = [
            {
                "class": one.name,
                "images": one.images,
                "top1": round(one.top1, 2),
                "top5": round(one.top5, 2),
                "taken_for": one.rival,
                "count": one.mistaken,
            }
            for one in accuracy.by_class
        ]
    return values


def classes_of(accuracy: Accuracy) -> str:
    """Return how many classes there are, and how many of them have no picture."""
    bare = accuracy.classes - len(accuracy.by_class)
    also = f", {bare:,} of them without a picture" if bare else ""
    return f"{accuracy.classes:,} classes{also}"


def shown(lines: Sequence[str], accuracy: Accuracy, per_class: bool) -> str:
    """Return the lines and below them what is mixed up, and all classes if asked for."""
    below = [*confusions_as_text(accuracy), *(classes_as_text(accuracy) if per_class else [])]
    return "\n".join([*lines, *below])


def pictures_of(accuracy: Accuracy) -> str:
    """Return how many pictures were classified."""
    return counted(accuracy.images, "image")


def _as_text(figure: Figure) -> str:
    low, high = figure.interval
    return f"{figure.value:.1f} % [{low:.1f}, {high:.1f}]"


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..."
