"""RAW files of cameras: tell them by their content, and take the preview that each one carries.

A RAW is never developed: the camera's own JPEG is quicker by far, and it is what its owner saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from rwkvsearch.data.errors import ImageError
from rwkvsearch.data.exif import read_part
from rwkvsearch.data.metadata import Metadata, container_metadata, merge
from rwkvsearch.data.tiff import Tiff, open_tiff

RAW_SUFFIXES: frozenset[str] = frozenset(
    {".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"}
)

_MAGICS = {
    b"IIRO": "ORF",
    b"IIRS": "ORF",
    b"MMOR": "ORF",
    b"IIU\0": "RW2",
    b"FUJIFILMCCD-RAW": "RAF",
}
_SUBFILE_TYPE, _COMPRESSION, _PHOTOMETRIC, _MAKE = 0x00FE, 0x0103, 0x0106, 0x010F
_SUB_DIRECTORIES, _DNG_VERSION = 0x014A, 0xC612
_COLOUR_FILTER_ARRAY = 32803
# ARW, NEF, SRW and PEF, each with a scheme of its maker.
_MAKERS_COMPRESSION = frozenset({32767, 34713, 32770, 32772, 65535})
# The boxes of a CR3 that hold its EXIF lie in its first box but one, before any picture.
_CR3_HEAD = 1 << 16
# By LibRaw's flip. Source: LibRaw API, libraw_image_sizes_t.
_ORIENTATION_OF_FLIP = {1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}


@dataclass(frozen=True)
class Preview:
    """The largest preview of a RAW: a JPEG file, or an `image`.

    `width` and `height` are those of the RAW itself, as the sensor lies; `orientation`, as in
    EXIF, turns that upright.
    """

    jpeg: bytes
    image: Image.Image | None
    width: int
    height: int
    orientation: int


def raw_format(stream: BinaryIO, prefix: bytes, suffix: str) -> str | None:
    """Which RAW this is, as `NEF`, or None; `suffix` decides where the content leaves it open."""
    by_suffix = suffix[1:].upper() if suffix in RAW_SUFFIXES else None
    for magic, kind in _MAGICS.items():
        if prefix.startswith(magic):
            return kind
    if prefix[4:12] == b"ftypcrx ":
        return "CR3"
    tiff = open_tiff(stream)
    if tiff is None:
        return None
    if prefix[8:11] == b"CR\x02":
        return "CR2"
    return _tiff_format(tiff, by_suffix)


def read_preview(name: str, stream: BinaryIO) -> Preview:
    """The largest preview in a RAW.

    Raises:
        ImageError: rawpy is not installed, or the RAW has no preview that can be used.
    """
    try:
        import rawpy
    except ImportError as error:
        raise ImageError(name, "needs pip install 'rwkvsearch[raw]'") from error
    stream.seek(0)
    with rawpy.RawPy() as raw:
        try:
            raw.open_buffer(stream)
            thumb = raw.extract_thumb()
        except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError) as error:
            raise ImageError(name, "no embedded preview") from error
        except rawpy.LibRawError as error:
            raise ImageError(name, f"unreadable: {_said(error)}") from error
        sizes = raw.sizes
        data = thumb.data
        return Preview(
            jpeg=data if isinstance(data, bytes) else b"",
            # A copy: the array ends with the RAW.
            image=None if isinstance(data, bytes) else Image.fromarray(data.copy()),
            width=sizes.width,
            height=sizes.height,
            orientation=_ORIENTATION_OF_FLIP.get(sizes.flip, 1),
        )


def raw_metadata(stream: BinaryIO, kind: str) -> Metadata:
    """What a RAW says outside of its preview; empty for RAF, whose preview says it all."""
    if kind == "RAF":
        return Metadata()
    if kind != "CR3":
        tiff = open_tiff(stream)
        return container_metadata(tiff) if tiff else Metadata()
    stream.seek(0)
    head = stream.read(_CR3_HEAD)
    parts = [head.find(name) for name in (b"CMT1", b"CMT2", b"CMT4")]
    return merge(*(read_part(head[at + 4 :]) for at in parts if at >= 0))


def _tiff_format(tiff: Tiff, by_suffix: str | None) -> str | None:
    main = tiff.directory(tiff.first)
    if _DNG_VERSION in main:
        return "DNG"
    thumbnail_first = tiff.number(main.get(_SUBFILE_TYPE)) & 1 and _SUB_DIRECTORIES in main
    if (
        by_suffix
        or tiff.number(main.get(_COMPRESSION)) in _MAKERS_COMPRESSION
        or tiff.number(main.get(_PHOTOMETRIC)) == _COLOUR_FILTER_ARRAY
        or (thumbnail_first and _MAKE in main)
    ):
        return by_suffix or "RAW"
    return None


def _said(error: Exception) -> str:
    detail = error.args[0] if error.args else type(error).__name__
    text = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
    return " ".join(text.lower().split())[:80] or "damaged raw file"
