"""What a caption set is, what a file of one lists, and the checks that all layouts share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rwkvsearch.data.descriptions.texts import ImageSource
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.files import NamedBytes

EVERY_SPLIT = "*"


@dataclass(frozen=True)
class CaptionedImage:
    """One picture and what is said about it, at least one caption.

    Of a picture `inside` a shard `path` is only a name: that of the shard and the member.
    """

    path: Path
    captions: tuple[str, ...]
    inside: ImageSource | None = None

    def source(self) -> Path | NamedBytes:
        """What `read_image` takes. Raises `DataError` for a shard that cannot be read."""
        return NamedBytes(self.inside.read(), str(self.path)) if self.inside else self.path


@dataclass(frozen=True)
class CaptionSet:
    """The images of one split; `split` is None where the file knows no splits, or for all."""

    name: str
    split: str | None
    images: tuple[CaptionedImage, ...]

    def shortened(self, captions: int) -> CaptionSet:
        """The same images with their first `captions` captions at most."""
        cut = (CaptionedImage(i.path, i.captions[:captions], i.inside) for i in self.images)
        return CaptionSet(self.name, self.split, tuple(cut))


@dataclass(frozen=True)
class Entry:
    """An image as a file lists it; `name` may begin with folders, `id` is the file's own."""

    name: str
    captions: tuple[str, ...]
    split: str | None = None
    id: int | str | None = None
    inside: ImageSource | None = None


@dataclass(frozen=True)
class Listing:
    """All images of a file, and what the set is called."""

    title: str
    entries: list[Entry]


class Gathered:
    """The captions of each image, of files that have a line for every caption, in their order."""

    def __init__(self) -> None:
        self._captions: dict[str, list[str]] = {}
        self._splits: dict[str, str | None] = {}

    def add(self, name: str, captions: Iterable[str], split: str | None, where: str) -> None:
        """Add what a line says; `DataError` for an image in two splits."""
        if self._splits.setdefault(name, split) != split:
            raise DataError(f"{where}: {name} is in two splits, {self._splits[name]} and {split}")
        self._captions.setdefault(name, []).extend(captions)

    def entries(self) -> list[Entry]:
        """An entry for each image."""
        return [
            Entry(name, tuple(found), self._splits[name]) for name, found in self._captions.items()
        ]


def refuse_repeated(what: str, values: Iterable[int | str]) -> None:
    """Raise `DataError` where a value occurs twice."""
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise DataError(f"{what} {repeated[0]!r} occurs twice ({len(repeated)} such)")


def read_text(file: Path) -> str:
    """The text of a file; `DataError` if it cannot be read or is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 at byte {error.start}") from error


def text_of(value: Any, where: str) -> str:
    """A text that is not empty, stripped, else `DataError`."""
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} is not a text or empty")
    return value.strip()


def id_of(value: Any, where: str) -> int | str | None:
    """An id, which may lack, else `DataError`."""
    if value is None or isinstance(value, int | str):
        return value
    raise DataError(f"{where}: the id {value!r} is neither a number nor a text")


def list_of(value: Any, where: str) -> list[Any]:
    """A list, else `DataError`."""
    if not isinstance(value, list):
        raise DataError(f"{where}: expected a list")
    return value
