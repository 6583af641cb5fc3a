"""Which images a search is among, by what the library knows of them.

Light: whoever only asks, such as the command line, imports neither numpy nor SQLAlchemy here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from rwkvsearch.data.errors import QueryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

Orientation = Literal["landscape", "portrait", "square"]

RAW_FORMATS = ("ARW", "CR2", "CR3", "DNG", "NEF", "ORF", "PEF", "RAF", "RW2", "SRW")
_OTHER_NAMES = {
    "JPEG": ("JPG", "JPE", "JFIF"),
    "PNG": ("APNG",),
    "WEBP": (),
    "AVIF": (),
    "GIF": (),
    "TIFF": ("TIF",),
    "BMP": (),
    "HEIF": ("HEIC", "HIF"),
    **{name: () for name in RAW_FORMATS},
}
_FORMATS = {"RAW": RAW_FORMATS} | {
    name: (kind,) for kind, others in _OTHER_NAMES.items() for name in (kind, *others)
}
_PERIOD = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2}([T ][0-9]{2}(:[0-9]{2}(:[0-9]{2})?)?)?)?)?")
_BEGINNING = "0001-01-01T00:00:00"
_MOST = 2**63 - 1  # of an integer in SQLite
_AFTER_ALL = "~"  # behind every time that begins like the one it follows


@dataclass(frozen=True)
class Box:
    """A part of the earth in degrees; `west` is above `east` where it crosses the date line."""

    south: float
    west: float
    north: float
    east: float

    def __post_init__(self) -> None:
        """Refuse what is not on the earth."""
        if not (abs(self.south) <= 90 and abs(self.north) <= 90):
            raise QueryError(f"{self}: a latitude lies between -90 and 90")
        if not (abs(self.west) <= 180 and abs(self.east) <= 180):
            raise QueryError(f"{self}: a longitude lies between -180 and 180")
        if self.south > self.north:
            raise QueryError(f"{self}: its south lies north of its north: write {_BOX}")

    def __str__(self) -> str:
        """As `read` takes it."""
        return ",".join(f"{side:.10g}" for side in (self.south, self.west, self.north, self.east))

    @classmethod
    def read(cls, text: str) -> Self:
        """The box in `text`, such as `47.2,5.9,55.1,15.1`."""
        try:
            south, west, north, east = map(float, text.split(","))
        except ValueError:
            raise QueryError(f"{text!r} is no box: write {_BOX}") from None
        return cls(south, west, north, east)


_BOX = "SOUTH,WEST,NORTH,EAST in degrees, such as 47.2,5.9,55.1,15.1"


@dataclass(frozen=True)
class Filters:
    """What an image has to be; all that is given has to hold, of several names in a field one.

    `QueryError` for a value that no image can have. True if anything is asked for.
    """

    folders: tuple[Path, ...] = ()
    """Absolute; at any depth below them. A file or a shard may stand for a folder."""
    globs: tuple[str, ...] = ()
    """Patterns of paths, as in an ignore file: `*.png`, `2019/**`; see `globs.py`."""
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
    """Such as `JPEG` or its suffix `jpg`, in any case; `RAW` is all of them."""
    captioned: bool | None = None
    """Whether it has a text of its own."""
    box: Box | None = None
    tags: tuple[str, ...] = ()
    """Labels that `rwkvsearch tag` gave, in any case; all of them."""

    def __post_init__(self) -> None:
        """Refuse what no image can be."""
        for one in fields(self):
            given = getattr(self, one.name)
            if isinstance(one.default, tuple) and not isinstance(given, tuple):
                raise QueryError(f"{one.name}: give a tuple, not {given!r}")
        for name in ("globs", "cameras", "formats", "tags"):
            if not all(text.strip() for text in getattr(self, name)):
                raise QueryError(f"{name}: an empty one fits nothing: leave it out")
        first, last = self.taken_from or "", self.taken_to or _AFTER_ALL
        if first > last:
            raise QueryError(f"nothing was taken after {self.after} and before {self.before}")
        least = {"width": self.min_width, "height": self.min_height, "size": self.min_megapixels}
        for what, number in least.items():
            if not 0 <= number <= _MOST:
                raise QueryError(f"the least {what} of a picture cannot be {number}")
        if self.orientation not in (None, *get_args(Orientation)):
            known = ", ".join(get_args(Orientation))
            raise QueryError(f"{self.orientation!r} is no orientation: one of {known}")
        _ = self.format_names

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return self != Filters()

    @property
    def taken_from(self) -> str | None:
        """No image that passes has a `taken_at` below this text."""
        return _period(self.after) if self.after else None

    @property
    def taken_to(self) -> str | None:
        """Every image that passes has a `taken_at` below this text."""
        return _period(self.before) + _AFTER_ALL if self.before else None

    @property
    def format_names(self) -> list[str]:
        """The formats as the catalog names them."""
        found: list[str] = []
        for name in self.formats:
            kinds = _FORMATS.get(name.strip().lstrip(".").upper())
            if kinds is None:
                known = ", ".join([*list(_OTHER_NAMES)[: -len(RAW_FORMATS)], "RAW"])
                raise QueryError(f"{name!r} is no format that is read: one of {known}")
            found.extend(kinds)
        return found


def images_passing(session: Session, filters: Filters) -> NDArray[np.int64]:
    """The ids, ascending, of the images with a live file that pass.

    What is asked of paths has to hold for one and the same live file.

    Raises:
        QueryError: a glob cannot be read, or nothing below a folder was ever indexed.
    """
    from rwkvsearch.indexer.passing import passing

    return passing(session, filters)


def filters_to_json(filters: Filters) -> dict[str, Any]:
    """What is asked for as plain values, for `filters_from_json`."""
    asked = {field.name: getattr(filters, field.name) for field in fields(filters)}
    plain = {name: value for name, value in asked.items() if value != getattr(_NONE, name)}
    for name, value in plain.items():
        if isinstance(value, tuple):
            plain[name] = [str(one) for one in value]
        elif isinstance(value, Box):
            plain[name] = [value.south, value.west, value.north, value.east]
    return plain


def filters_from_json(document: Mapping[str, Any]) -> Filters:
    """The filters in what `filters_to_json` made.

    Raises:
        QueryError: it is something else.
    """
    read: dict[str, Any] = {}
    for name, value in document.items():
        kind = _KINDS.get(name)
        if kind is None:
            raise QueryError(f"{name!r} is no filter: known are {', '.join(_KINDS)}")
        if not _is_kind(value, kind):
            raise QueryError(f"the filter {name} cannot be {value!r}")
        read[name] = value
        if kind is tuple:
            read[name] = tuple(map(Path, value) if name == "folders" else value)
        elif kind is Box:
            read[name] = Box(*value)
    return Filters(**read)


_NONE = Filters()
_KINDS: dict[str, type] = {
    **{field.name: type(field.default) for field in fields(Filters)},
    **dict.fromkeys(("after", "before", "orientation"), str),
    "captioned": bool,
    "box": Box,
}


def _is_kind(value: Any, kind: type) -> bool:
    if kind is tuple:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if kind is Box:
        return isinstance(value, list) and len(value) == 4 and all(_is_number(v) for v in value)
    if kind is float:
        return _is_number(value)
    return type(value) is kind


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _period(text: str) -> str:
    """A year, month, day, hour, minute or second as the beginning of a `taken_at`."""
    text = text.strip()
    how = "write 2019, 2019-06, 2019-06-30 or 2019-06-30T12:00"
    if not _PERIOD.fullmatch(text):
        raise QueryError(f"{text!r} is no time: {how}")
    try:
        datetime.fromisoformat(text + _BEGINNING[len(text) :])
    except ValueError as error:
        raise QueryError(f"{text!r} is no time: {error}; {how}") from None
    return text.replace(" ", "T")
