"""What an XMP packet says: title, description, keywords, date, camera, lens and position.

Source: XMP specification, part 1 (RDF) and part 2 (the schemas dc, xmp, exif, tiff, photoshop).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import fromstring

from rwkvsearch.data.fields import Metadata, camera_name, position, read_moment
from rwkvsearch.data.texts import clean, join_keywords, tidy

MAX_BYTES = 1 << 20
"""Packets beyond this size are not read."""

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_XMP = "{http://ns.adobe.com/xap/1.0/}"
_EXIF = "{http://ns.adobe.com/exif/1.0/}"
_EXIF_EX = "{http://cipa.jp/exif/1.0/}"
_TIFF = "{http://ns.adobe.com/tiff/1.0/}"
_AUX = "{http://ns.adobe.com/exif/1.0/aux/}"
_PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"
_TAKEN = (
    f"{_EXIF}DateTimeOriginal",
    f"{_PHOTOSHOP}DateCreated",
    f"{_EXIF}DateTimeDigitized",
    f"{_XMP}CreateDate",
)
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_COORDINATE = re.compile(r"\s*(\d+)(?:,(\d+(?:\.\d+)?))?(?:,(\d+(?:\.\d+)?))?\s*([NSEW])")


def read_xmp(packet: bytes | str) -> Metadata:
    """Read an XMP packet. A damaged or oversized one gives nothing, and no error."""
    with suppress(Exception):
        return parse_xmp(packet)
    return Metadata()


def parse_xmp(packet: bytes | str) -> Metadata:
    """`read_xmp`, but raises what is wrong with the packet; `ValueError` among others."""
    if len(packet) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MB")
    # Entities and outer documents raise: a packet needs none.
    stripped = packet.strip() if isinstance(packet, str) else packet.strip(b"\0 \t\r\n")
    fields = _fields(fromstring(stripped, forbid_dtd=True))

    def first(*names: str) -> str:
        return next((values[0] for name in names if (values := fields.get(name))), "")

    orientation = first(f"{_TIFF}Orientation")
    captions = [clean(first(f"{_DC}{name}")) for name in ("title", "description")]
    texts = [
        *(("xmp", caption) for caption in captions),
        ("keywords", join_keywords(fields.get(f"{_DC}subject", []))),
    ]
    moments = (read_moment(first(name)) for name in _TAKEN)
    latitude, longitude = position(
        _coordinate(first(f"{_EXIF}GPSLatitude")), _coordinate(first(f"{_EXIF}GPSLongitude"))
    )
    return Metadata(
        taken_at=next(filter(None, moments), None),
        camera=camera_name(tidy(first(f"{_TIFF}Make")), tidy(first(f"{_TIFF}Model"))),
        lens=clean(first(f"{_EXIF_EX}LensModel", f"{_AUX}Lens")) or None,
        latitude=latitude,
        longitude=longitude,
        texts=tuple((source, text) for source, text in texts if text),
        orientation=int(orientation) if orientation in {*"12345678"} else None,
    )


def _fields(root: Element) -> dict[str, list[str]]:
    """The properties of the descriptions by name; those of a list have several values."""
    fields: dict[str, list[str]] = {}
    rdf = next(root.iter(f"{_RDF}RDF"), root)
    for description in rdf.findall(f"{_RDF}Description"):
        for name, value in description.attrib.items():
            fields.setdefault(name, [value])
        for element in description:
            fields.setdefault(str(element.tag), []).extend(_values(element))
    return fields


def _values(element: Element) -> Iterator[str]:
    items = list(element.iter(f"{_RDF}li"))
    # Of the same text in several languages the default one comes first.
    items.sort(key=lambda item: item.get(_LANGUAGE) != "x-default")
    yield from (item.text for item in items if item.text)
    if not items and element.text:
        yield element.text


def _coordinate(text: str) -> float | None:
    match = _COORDINATE.match(text)
    if match is None:
        return None
    degrees, minutes, seconds, letter = match.groups()
    value = int(degrees) + float(minutes or 0) / 60 + float(seconds or 0) / 3600
    return -value if letter in "SW" else value
