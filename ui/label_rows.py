"""The labels of pictures as lines of text, one picture after the other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rwkvsearch.data.errors import ImageError
from rwkvsearch.ui.words import csv_line, printable

if TYPE_CHECKING:
    from rwkvsearch.data.descriptions.texts import Tag

Classified = tuple[Path, "list[Tag] | ImageError"]
Row = tuple[Path, "list[Tag]"]


class Seen:
    """The pictures that have labels; those that cannot be used are told on stderr."""

    def __init__(self, found: Iterable[Classified]) -> None:
        self._found = found
        self.bad: dict[Path, str] = {}

    def __iter__(self) -> Iterator[Row]:
        """Go through them, once."""
        for path, tags in self._found:
            if isinstance(tags, ImageError):
                self.bad[path] = tags.reason
                tell_bad(path, tags.reason)
            else:
                yield path, tags


def as_lines(seen: Seen) -> Iterator[str]:
    """Such as `cat.jpg: cat 0.91, animal 0.85`; a dash where nothing is sure enough."""
    for path, tags in seen:
        said = ", ".join(f"{tag.name} {tag.confidence:.2f}" for tag in tags)
        yield f"{printable(path)}: {said or '-'}"


def as_jsonl(seen: Seen) -> Iterator[str]:
    """One object a picture."""
    for row in seen:
        yield json.dumps(_object(row))


def as_json(seen: Seen, model_id: str) -> Iterator[str]:
    """One object for all: the model, `pictures`, and what was `skipped`."""
    pictures = [*map(_object, seen)]
    skipped = [{"path": str(path), "reason": reason} for path, reason in seen.bad.items()]
    about = {"model": model_id, "pictures": pictures, "skipped": skipped}
    yield json.dumps(about, indent=2)


def as_csv(seen: Seen) -> Iterator[str]:
    """One label a line, below a header."""
    yield "path,rank,label,confidence"
    for path, tags in seen:
        for rank, tag in enumerate(tags, start=1):
            values = (path, rank, tag.name, f"{tag.confidence:.3f}")
            yield csv_line(values).removesuffix("\n")


def tell_bad(path: Path, reason: str) -> None:
    """Name what cannot be used."""
    typer.echo(f"skipped {printable(path)}: {reason}", err=True)


def _object(row: Row) -> dict[str, Any]:
    path, tags = row
    labels = [{"label": tag.name, "confidence": tag.confidence} for tag in tags]
    return {"path": str(path), "labels": labels}
