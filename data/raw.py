"""RAW files of cameras: tell them by their content, and take the preview that each one carries.

A RAW is never developed: the camera's own JPEG is quicker by far, and it is what its owner saw.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from rwkvsearch.data.errors import ImageError
from rwkvsearch.data.texts import clean
from rwkvsearch.data.tiff import Tiff, open_tiff

if TYPE_CHECKING:
    from rawpy import RawPy

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
# By LibRaw's flip. Source: LibRaw API, libraw_image_sizes_t.
_ORIENTATION_OF_FLIP = {1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}


@dataclass(frozen=True)
class Preview:
    """The largest preview of a RAW: a JPEG file, or an `image`; and what else LibRaw knows.

    `width` and `height` are those of the RAW itself, as the sensor lies; `orientation`, as in
    EXIF, turns that upright.
    """

    jpeg: bytes
    image: Image.Image | None
    width: int
    height: int
    orientation: int
    taken_at: str | None
    lens: str | None


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
        is_jpeg = thumb.format == rawpy.ThumbFormat.JPEG
        return Preview(
            jpeg=bytes(thumb.data) if is_jpeg else b"",
            image=None if is_jpeg else Image.fromarray(thumb.data),
            width=sizes.width,
            height=sizes.height,
            orientation=_ORIENTATION_OF_FLIP.get(sizes.flip, 1),
            taken_at=_moment(raw),
            lens=_lens(raw),
        )


def open_container(stream: BinaryIO, prefix: bytes) -> Tiff | None:
    """The TIFF that holds a RAW's own metadata; CR3 and RAF have none at their start."""
    if prefix.startswith(b"FUJIFILMCCD-RAW") or prefix[4:8] == b"ftyp":
        return None
    return open_tiff(stream)


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


def _moment(raw: RawPy) -> str | None:
    with suppress(Exception):
        moment = raw.other.timestamp
        return moment.replace(microsecond=0).isoformat() if moment.year > 1980 else None
    return None


def _lens(raw: RawPy) -> str | None:
    with suppress(Exception):
        return clean(raw.lens.model) or None
    return None


def _said(error: Exception) -> str:
    detail = error.args[0] if error.args else type(error).__name__
    text = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
    return " ".join(text.lower().split())[:80] or "damaged raw file"
