"""Read pictures: RGB, upright and whole, or an `ImageError`."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from rwkvsearch.data.colour import to_rgb
from rwkvsearch.data.decode import open_picture
from rwkvsearch.data.errors import ImageError
from rwkvsearch.data.metadata import Metadata
from rwkvsearch.data.raw import RAW_SUFFIXES

IMAGE_SUFFIXES: frozenset[str] = RAW_SUFFIXES | {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".gif", ".bmp"),
    *(".tif", ".tiff", ".heic", ".heif", ".hif"),
}
MAX_MEGAPIXELS = 128.0
MAX_BYTES = 1 << 30

_CUT_OFF = ("truncated", "unexpected end of file", "insufficient input data")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """A decoded picture and what its file said: upright `width` and `height` in pixels, `format`.

    `image` may be smaller than `width` x `height` when the decoder was asked to scale, or when the
    file is a RAW with a smaller preview. `frames` beyond 1: `image` is the first of them.
    """

    image: Image.Image
    width: int
    height: int
    format: str
    frames: int = 1
    metadata: Metadata = Metadata()


def read_image(
    source: Path | BinaryIO,
    *,
    min_side: int | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    max_bytes: int = MAX_BYTES,
) -> Image.Image:
    """Read one picture as upright 8-bit sRGB, transparency over white.

    With `min_side` it may come out smaller where its format can be decoded so (JPEG, RAW, HEIC
    with a preview), its short side never below `2 * min_side` pixels unless the file is.
    `max_megapixels` and `max_bytes` are checked before decoding.

    Raises:
        ImageError: the picture cannot be used; `reason` is short and stable.
    """
    return read_picture(
        source, min_side=min_side, max_megapixels=max_megapixels, max_bytes=max_bytes
    ).image


def read_picture(
    source: Path | BinaryIO,
    *,
    min_side: int | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    max_bytes: int = MAX_BYTES,
    before_decoding: Callable[[int], None] | None = None,
) -> Picture:
    """`read_image`, with what the file declares and says about the picture.

    `before_decoding` is told about how many bytes of memory decoding will take, and may wait.
    """
    name = _name(source)
    try:
        if isinstance(source, Path):
            with source.open("rb") as stream:
                return _read(name, stream, min_side, max_megapixels, max_bytes, before_decoding)
        return _read(name, source, min_side, max_megapixels, max_bytes, before_decoding)
    except ImageError:
        raise
    # Decoders raise whatever a malformed file leads them to: SyntaxError, struct.error, zlib.error.
    except Exception as error:
        raise ImageError(name, _reason(error)) from error


def read_metadata(source: Path | BinaryIO) -> Metadata:
    """What the file of a picture says about it, as `Picture.metadata`; empty if it says nothing.

    The picture is not decoded (of a PNG, what comes behind its pixels is not seen). Never raises.
    """
    name = _name(source)
    try:
        if isinstance(source, Path):
            with source.open("rb") as stream:
                return open_picture(name, stream, source.suffix.lower(), MAX_MEGAPIXELS).metadata()
        return open_picture(name, source, Path(name).suffix.lower(), MAX_MEGAPIXELS).metadata()
    except Exception:
        return Metadata()


def system_reason(error: OSError) -> str:
    """What the operating system said, as a short lower-case phrase."""
    known = {PermissionError: "permission denied", FileNotFoundError: "file not found"}
    return known.get(type(error), f"unreadable: {(error.strerror or str(error)).lower()}")


def _read(
    name: str,
    stream: BinaryIO,
    min_side: int | None,
    max_megapixels: float,
    max_bytes: int,
    before_decoding: Callable[[int], None] | None = None,
) -> Picture:
    _check_bytes(name, stream, max_bytes)
    opened = open_picture(name, stream, Path(name).suffix.lower(), max_megapixels)
    image = opened.image
    if min_side is not None and hasattr(image, "draft"):
        image.draft("RGB", (2 * min_side, 2 * min_side))
    if before_decoding is not None:
        before_decoding(_memory(image, opened.width * opened.height))
    image.load()
    metadata = opened.metadata()
    orientation = opened.orientation(metadata)
    width, height = opened.upright_size(orientation)
    turn = _UPRIGHT.get(orientation)
    upright = image if turn is None else image.transpose(turn)
    rgb = to_rgb(upright, image.info.get("icc_profile"))
    return Picture(rgb, width, height, opened.format, opened.frames(), metadata)


def _memory(image: Image.Image, declared: int) -> int:
    """Bytes: four a pixel and one copy, and all coefficients of a progressive JPEG."""
    coefficients = 6 * declared if "progressive" in image.info else 0
    return 8 * image.width * image.height + coefficients


def _check_bytes(name: str, stream: BinaryIO, limit: int) -> None:
    size = stream.seek(0, 2)
    if size > limit:
        raise ImageError(
            name,
            f"too large: {size >> 20} megabytes (limit {limit >> 20}, raise with --max-megabytes)",
        )


def _name(source: Path | BinaryIO) -> str:
    return str(source if isinstance(source, Path) else getattr(source, "name", "<stream>"))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return system_reason(error)
    if isinstance(error, MemoryError):
        return "unreadable: not enough memory"
    if isinstance(error, Image.DecompressionBombError):
        return "too large: over the decoder's own limit"
    text = " ".join(str(error).lower().split())
    if isinstance(error, EOFError) or any(sign in text for sign in _CUT_OFF):
        return "truncated file"
    # What Python says of a decoder that was led astray tells a person nothing.
    if not text or "0x" in text or isinstance(error, LookupError | ArithmeticError | struct.error):
        return "unreadable: damaged file"
    # Without the details that make the same fault a new reason in every file.
    parts = re.sub(r"\s*\(.*", "", text).split(": ")
    return f"unreadable: {': '.join(parts[:2])[:60]}"
