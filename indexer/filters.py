"""Which images a search is among, by what the library knows of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Orientation = Literal["landscape", "portrait", "square"]


@dataclass(frozen=True)
class Box:
    """A part of the earth in degrees; `west` is above `east` where it crosses the date line."""

    south: float
    west: float
    north: float
    east: float


@dataclass(frozen=True)
class Filters:
    """What an image has to be; all that is given has to hold, of several names in a field one."""

    folders: tuple[Path, ...] = ()
    """Absolute; at any depth below them."""
    globs: tuple[str, ...] = ()
    """Patterns of paths, as in an ignore file: `*.png`, `2019/**`."""
    after: str | None = None
    """Taken at or after the beginning of this time: `2019`, `2019-06`, `2019-06-30T12:00`."""
    before: str | None = None
    """Taken before the end of this time."""
    min_width: int = 0
    """Pixels, upright."""
    min_height: int = 0
    min_megapixels: float = 0.0
    orientation: Orientation | None = None
    cameras: tuple[str, ...] = ()
    """Parts of the name of the camera, in any case."""
    formats: tuple[str, ...] = ()
    """Such as `JPEG`, in any case."""
    captioned: bool | None = None
    """Whether it has a text of its own."""
    box: Box | None = None
    tags: tuple[str, ...] = ()
    """Labels that `rwkvsearch tag` gave; all of them."""
