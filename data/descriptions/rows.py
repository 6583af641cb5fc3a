"""A described picture as a JSON object, and back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rwkvsearch.data.descriptions.texts import KINDS, Described, ImageSource, Look, Tag, Text
from rwkvsearch.data.errors import DataError


def to_row(item: Described, home: Path | None) -> dict[str, Any]:
    """The object of a picture; with `home`, its place too, relative to that folder if below it."""
    row: dict[str, Any] = {"key": item.key}
    if home is not None:
        row |= {"path": _relative(item.image.path, home)}
        row |= {"offset": item.image.offset, "size": item.image.size}
    return row | {
        "sha256": item.sha256,
        "texts": [asdict(saying) for saying in item.sayings],
        "tags": [asdict(tag) for tag in item.tags],
        "colours": list(item.look.colours),
        "light": item.look.light,
        "error": item.error,
    }


def from_row(row: Any, where: str, *, home: Path, image: ImageSource | None = None) -> Described:
    """The picture of an object made by `to_row`; `image` is its place where that is not inside.

    Raises:
        DataError: not such an object; names `where`.
    """
    try:
        if image is None:
            image = ImageSource(home / row["path"], row["offset"] or 0, row["size"])
        sayings = tuple(Text(**saying) for saying in row["texts"] or ())
        if wrong := [saying.kind for saying in sayings if saying.kind not in KINDS]:
            raise ValueError(f"no kind of text is called {wrong[0]!r}")
        return Described(
            key=row["key"],
            image=image,
            sha256=row["sha256"],
            sayings=sayings,
            tags=tuple(Tag(**tag) for tag in row["tags"] or ()),
            look=Look(tuple(row["colours"] or ()), row["light"]),
            error=row["error"],
        )
    except (KeyError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{where}: not a row of `rwkvsearch describe`: {reason}") from error


def _relative(path: Path, home: Path) -> str:
    absolute, home = path.absolute(), home.resolve()
    absolute = absolute.parent.resolve() / absolute.name  # a link to a picture stays one
    return str(absolute.relative_to(home) if absolute.is_relative_to(home) else absolute)
