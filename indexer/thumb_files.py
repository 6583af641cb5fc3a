"""The files of `thumbs/`: named by the content they show, whole or made anew.

Derived, so nothing is synced to the disk: what a power cut has left empty or cut off is taken for
none. Anyone may write here at any time, the writer of the library or not.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import get_ident
from typing import NamedTuple

SIZES = (320, 1600)
"""The longest side in pixels: of the grid, of the large view."""

_NAME = re.compile(r"(\.?)([0-9a-f]{64})(?:-[0-9]+)?\.webp(\.[0-9]+-[0-9]+\.part)?")
_PART_AGE = 60.0  # seconds; writing one takes milliseconds


class ThumbFile(NamedTuple):
    """A file of ours in `thumbs/`; `part`: one that is not complete."""

    path: Path
    content_hash: str
    part: bool

    def is_left_over(self) -> bool:
        """Whether it is a part that nobody is writing any more."""
        try:
            return self.part and time.time() - self.path.stat().st_mtime > _PART_AGE
        except OSError:
            return False


class ThumbFiles:
    """The thumbnails in the library that lies in the directory `home`."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "thumbs"

    def path(self, content_hash: str, size: int) -> Path:
        """Where the thumbnail lies, made or not."""
        return self.folder / content_hash[:2] / f"{content_hash}-{size}.webp"

    def read(self, content_hash: str, size: int) -> bytes | None:
        """The thumbnail; None if there is none, or what there is was cut off or is no WebP."""
        try:
            data = self.path(content_hash, size).read_bytes()
        except OSError:
            return None
        return data if is_whole(data) else None

    def write(self, content_hash: str, size: int, data: bytes) -> None:
        """Put it in its place, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        path = self.path(content_hash, size)
        part = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}.part")
        try:
            try:
                part.write_bytes(data)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                part.write_bytes(data)
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise

    def lacking(self, content_hashes: Iterable[str], size: int) -> list[str]:
        """Those without a thumbnail of this size."""
        return [one for one in content_hashes if not self._is_there(one, size)]

    def remove(self, content_hashes: Iterable[str]) -> None:
        """Remove the thumbnails of these contents, in each size."""
        for content_hash in content_hashes:
            for size in SIZES:
                with suppress(OSError):
                    self.path(content_hash, size).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[ThumbFile]:
        """Every file of ours; other names are somebody else's."""
        for path in self.folder.rglob("*"):
            name = _NAME.fullmatch(path.name)
            if name and bool(name[1]) == bool(name[3]) and path.is_file():
                yield ThumbFile(path, name[2], part=bool(name[3]))

    def _is_there(self, content_hash: str, size: int) -> bool:
        try:
            return self.path(content_hash, size).stat().st_size > 0
        except OSError:
            return False


def is_whole(data: bytes) -> bool:
    """Whether these are as many bytes as the WebP says it has."""
    length = int.from_bytes(data[4:8], "little") + 8
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP" and length == len(data)
