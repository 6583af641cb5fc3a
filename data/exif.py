"""What an EXIF block says about a picture. Source: EXIF 2.32 (CIPA DC-008); Windows' XP fields."""

from __future__ import annotations

import io
from contextlib import suppress
from math import isfinite

from rwkvsearch.data.fields import Metadata, camera_name, position, read_moment
from rwkvsearch.data.texts import clean, decode, join_keywords, tidy
from rwkvsearch.data.tiff import Entry, Tiff, open_tiff

ORIENTATION, XMP, IPTC = 0x0112, 0x02BC, 0x83BB
_DESCRIPTION, _MAKE, _MODEL = 0x010E, 0x010F, 0x0110
_EXIF, _GPS = 0x8769, 0x8825
_TAKEN, _DIGITIZED, _USER_COMMENT, _LENS = 0x9003, 0x9004, 0x9286, 0xA434
_XP_TITLE, _XP_COMMENT, _XP_KEYWORDS, _XP_SUBJECT = 0x9C9B, 0x9C9C, 0x9C9E, 0x9C9F
_NO_ENTRIES: dict[int, Entry] = {}


def read_exif(block: bytes) -> Metadata:
    """Read an EXIF block, with or without its `Exif` mark. A damaged one gives less, no error."""
    start = 6 if block.startswith(b"Exif\0\0") else 0
    return read_tiff(open_tiff(io.BytesIO(block), start))


def read_part(block: bytes) -> Metadata:
    """Read a block that is one part of EXIF by itself, as CR3 stores main, inner and GPS part."""
    with suppress(Exception):
        tiff = open_tiff(io.BytesIO(block))
        if tiff is not None:
            part = tiff.directory(tiff.first)
            return _read(tiff, part, part, part)
    return Metadata()


def read_tiff(tiff: Tiff | None) -> Metadata:
    """Read the EXIF fields of a TIFF, which may be a whole TIFF or RAW file."""
    with suppress(Exception):
        if tiff is not None:
            main = tiff.directory(tiff.first)
            inner, gps = (_inner(tiff, main, tag) for tag in (_EXIF, _GPS))
            return _read(tiff, main, inner, gps)
    return Metadata()


def tiff_block(tiff: Tiff, tag: int, limit: int = 1 << 20) -> bytes:
    """The block of XMP or IPTC in the first directory of a TIFF."""
    with suppress(Exception):
        return tiff.value(tiff.directory(tiff.first).get(tag), limit)
    return b""


def _read(
    tiff: Tiff, main: dict[int, Entry], inner: dict[int, Entry], gps: dict[int, Entry]
) -> Metadata:
    orientation = tiff.number(main.get(ORIENTATION))
    make, model = (tidy(tiff.value(main.get(tag))) for tag in (_MAKE, _MODEL))
    moments = (read_moment(decode(tiff.value(inner.get(tag)))) for tag in (_TAKEN, _DIGITIZED))
    place = _position(tiff, gps)
    return Metadata(
        taken_at=next(filter(None, moments), None),
        camera=camera_name(make, model),
        lens=clean(tiff.value(inner.get(_LENS))) or None,
        latitude=place[0],
        longitude=place[1],
        texts=tuple(
            (source, text)
            for source, text in _texts(tiff, main, inner)
            if text not in (make, model)
        ),
        orientation=orientation if 1 <= orientation <= 8 else None,
    )


def _inner(tiff: Tiff, main: dict[int, Entry], tag: int) -> dict[int, Entry]:
    offset = tiff.number(main.get(tag))
    return tiff.directory(offset) if offset > 0 else _NO_ENTRIES


def _texts(tiff: Tiff, main: dict[int, Entry], inner: dict[int, Entry]) -> list[tuple[str, str]]:
    def wide(tag: int) -> str:
        return tiff.value(main.get(tag)).decode("utf-16-le", "replace")

    comment = _user_comment(tiff.value(inner.get(_USER_COMMENT)), tiff.order)
    texts = [
        ("exif", clean(tiff.value(main.get(_DESCRIPTION)))),
        *(("exif", clean(wide(tag))) for tag in (_XP_TITLE, _XP_SUBJECT, _XP_COMMENT)),
        ("exif", clean(comment)),
        ("keywords", join_keywords(wide(_XP_KEYWORDS).partition("\0")[0].split(";"))),
    ]
    return [(source, text) for source, text in texts if text]


def _user_comment(value: bytes, order: str) -> str:
    """The first 8 bytes name the encoding; JIS is rare enough to be left out."""
    mark, text = value[:8], value[8:]
    if mark.startswith(b"UNICODE"):
        if text[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            # The standard leaves the order open, and programs differ: ASCII has its zeros in one.
            little = text[1:64:2].count(0) - text[0:64:2].count(0)
            name = "utf-16-le" if little > 0 or (little == 0 and order == "<") else "utf-16-be"
            return text.decode(name, "replace")
        return text.decode("utf-16", "replace")
    if mark.startswith(b"JIS"):
        return ""
    if mark.startswith(b"ASCII") or mark == bytes(8):
        return decode(text)
    return decode(value)


def _position(tiff: Tiff, gps: dict[int, Entry]) -> tuple[float | None, float | None]:
    return position(_degrees(tiff, gps, 1, "S"), _degrees(tiff, gps, 3, "W"))


def _degrees(tiff: Tiff, gps: dict[int, Entry], tag: int, negative: str) -> float | None:
    """Degrees, minutes and seconds beside a letter. Zero without its letter is a blank field."""
    parts = tiff.numbers(gps.get(tag + 1), 3)
    letter = decode(tiff.value(gps.get(tag)))[:1].upper().strip("\0 ")
    if not parts or not isfinite(parts[0]):
        return None
    value = sum(part / float(60**power) for power, part in enumerate(parts) if isfinite(part))
    if value == 0 and not letter:
        return None
    return -value if letter == negative else value
