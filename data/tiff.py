"""The directories of a TIFF: the container of TIFF files, of EXIF blocks and of most RAW files.

Reads the few values that are asked for, each bounded, so that damaged or hostile tables cost
nothing. Source: TIFF 6.0, section 2; BigTIFF by its 64-bit fields.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, nan
from typing import BinaryIO

# Bytes of one value of each type: BYTE, ASCII, SHORT, LONG, RATIONAL, ... IFD, and BigTIFF's.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 11: "f", 12: "d", 13: "L"}
_CODES |= {16: "Q", 17: "q", 18: "Q"}
# The last three are Olympus (ORF) and Panasonic (RW2), TIFF but for their magic.
_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")
_MAX_ENTRIES = 4096
_MAX_DIRECTORIES = 10_000


@dataclass(frozen=True)
class Entry:
    """A row of a directory; `where` is the offset of its value from the start of the TIFF."""

    type: int
    count: int
    where: int

    @property
    def size(self) -> int:
        """Length of the value in bytes."""
        return self.count * _SIZES.get(self.type, 0)


@dataclass
class Tiff:
    """A TIFF in `stream`, from byte `start` on; see `open_tiff`."""

    stream: BinaryIO
    start: int
    order: str
    big: bool
    first: int

    def directory(self, offset: int) -> dict[int, Entry]:
        """The entries of the directory at `offset` by tag; what is cut off or odd is left out."""
        entries: dict[int, Entry] = {}
        count = self._count(offset)
        length, inline = (20, 8) if self.big else (12, 4)
        where = offset + (8 if self.big else 2)
        rows = self._read(where, length * min(count, _MAX_ENTRIES))
        for number in range(len(rows) // length):
            row = rows[number * length : (number + 1) * length]
            tag, kind, amount = struct.unpack_from(self.order + ("HHQ" if self.big else "HHL"), row)
            entry = Entry(kind, amount, where + number * length + length - inline)
            if entry.size > inline:
                (at,) = struct.unpack_from(self.order + ("Q" if self.big else "L"), row, -inline)
                entry = Entry(kind, amount, at)
            if entry.size:
                entries.setdefault(tag, entry)
        return entries

    def directories(self) -> Iterator[int]:
        """The offsets of the directories in the main chain: of a TIFF file, one for each page."""
        seen: set[int] = set()
        offset = self.first
        while offset and offset not in seen and len(seen) < _MAX_DIRECTORIES:
            seen.add(offset)
            count = self._count(offset)
            if not count:
                return
            yield offset
            size, code = (8, "Q") if self.big else (4, "L")
            link = offset + (8 + 20 * count if self.big else 2 + 12 * count)
            raw = self._read(link, size)
            offset = struct.unpack(self.order + code, raw)[0] if len(raw) == size else 0

    def value(self, entry: Entry | None, limit: int = 1 << 16) -> bytes:
        """The first `limit` bytes of a value; empty where there is none."""
        return self._read(entry.where, min(entry.size, limit)) if entry else b""

    def numbers(self, entry: Entry | None, limit: int = 16) -> list[float]:
        """A value as numbers, none if it has another type; a fraction over zero is a NaN."""
        if entry is None:
            return []
        if entry.type in (5, 10):
            raw = self.value(entry, 8 * limit)
            code = self.order + ("LL" if entry.type == 5 else "ll")
            pairs = struct.iter_unpack(code, raw[: len(raw) // 8 * 8])
            return [top / bottom if bottom else nan for top, bottom in pairs]
        if entry.type not in _CODES:
            return []
        size = _SIZES[entry.type]
        raw = self.value(entry, size * limit)
        count = len(raw) // size
        return list(struct.unpack(f"{self.order}{count}{_CODES[entry.type]}", raw[: count * size]))

    def number(self, entry: Entry | None) -> int:
        """The first number of a value as an integer, 0 where there is none."""
        numbers = self.numbers(entry, 1)
        return int(numbers[0]) if numbers and isfinite(numbers[0]) else 0

    def _count(self, offset: int) -> int:
        size, code = (8, "Q") if self.big else (2, "H")
        raw = self._read(offset, size)
        return int(struct.unpack(self.order + code, raw)[0]) if len(raw) == size else 0

    def _read(self, offset: int, size: int) -> bytes:
        if size <= 0 or offset >= 1 << 62:
            return b""
        self.stream.seek(self.start + offset)
        return self.stream.read(size)


def open_tiff(stream: BinaryIO, start: int = 0) -> Tiff | None:
    """The TIFF that begins at byte `start` of `stream`, or None."""
    stream.seek(start)
    head = stream.read(16)
    if not is_tiff(head):
        return None
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    code, at = ("Q", 8) if big else ("L", 4)
    if len(head) < 16 and (big or len(head) < 8):
        return None
    return Tiff(stream, start, order, big, struct.unpack_from(order + code, head, at)[0])


def is_tiff(prefix: bytes) -> bool:
    """Whether a file that begins with `prefix` is a TIFF or one of the RAWs that are nearly one."""
    return prefix[:4] in _MAGICS
