"""Metadata of a picture, out of the blocks of EXIF, IPTC and XMP that its file carries.

Every block is read on its own and by bounded readers: a damaged one gives less, never an error.
"""

from __future__ import annotations

from contextlib import suppress

from PIL import Image

from rwkvsearch.data.exif import IPTC, XMP, read_exif, read_tiff, tiff_block
from rwkvsearch.data.fields import Metadata, merge
from rwkvsearch.data.iptc import read_iptc
from rwkvsearch.data.tiff import Tiff
from rwkvsearch.data.xmp import read_xmp

__all__ = ["Metadata", "container_metadata", "image_metadata", "merge"]

_PHOTOSHOP_IPTC = 0x0404


def image_metadata(image: Image.Image) -> Metadata:
    """What Pillow found beside the pixels of an opened image.

    A PNG may carry its blocks behind the pixels: it has to be loaded before.
    """
    info = image.info
    with suppress(Exception):
        photoshop = info.get("photoshop")
        iptc = photoshop.get(_PHOTOSHOP_IPTC) if isinstance(photoshop, dict) else None
        return _combine(_exif_block(image), iptc or b"", info.get("xmp") or b"")
    return Metadata()


def container_metadata(tiff: Tiff) -> Metadata:
    """What the directories of a TIFF or RAW file say."""
    blocks = Metadata()
    with suppress(Exception):
        blocks = _combine(b"", tiff_block(tiff, IPTC), tiff_block(tiff, XMP))
    return merge(read_tiff(tiff), blocks)


def _combine(exif: bytes, iptc: bytes, xmp: bytes | str) -> Metadata:
    found = []
    if exif:
        found.append(read_exif(exif))
    if iptc:
        found.append(Metadata(texts=tuple(read_iptc(iptc))))
    if xmp:
        found.append(read_xmp(xmp))
    return merge(*found)


def _exif_block(image: Image.Image) -> bytes:
    block = image.info.get("exif")
    if isinstance(block, bytes):
        return block
    # ImageMagick wrote it as hexadecimal lines into a text chunk, before PNG had a place for it.
    lines = str(image.info.get("Raw profile type exif", "")).split("\n", 3)
    return bytes.fromhex(lines[3]) if len(lines) == 4 else b""
