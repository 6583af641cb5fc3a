"""Read pictures: RGB, upright and whole, or an `ImageError`.

The decoders are asked for directly instead of through `PIL.Image.open`: only the formats promised
here can ever run (no PostScript, no fonts), and Pillow's bomb warning, which depends on the warning
filters and the pixel limit of the whole process, is replaced by a limit per call.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from rwkvsearch.data.errors import ImageError

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"}
)
MAX_MEGAPIXELS = 128.0

_DECODERS: tuple[type[ImageFile], ...] = (
    JpegImageFile,
    PngImageFile,
    WebPImageFile,
    AvifImageFile,
    GifImageFile,
    BmpImageFile,
    TiffImageFile,
)
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

    `image` may be smaller than `width` x `height` when the decoder was asked to scale.
    """

    image: Image.Image
    width: int
    height: int
    format: str


def read_image(
    source: Path | BinaryIO, *, min_side: int | None = None, max_megapixels: float = MAX_MEGAPIXELS
) -> Image.Image:
    """Read one picture as upright RGB, transparency over white.

    With `min_side` a JPEG may come out smaller, its short side never below `2 * min_side` pixels
    unless the file is. `max_megapixels` is checked against the header before decoding.

    Raises:
        ImageError: the picture cannot be used; `reason` is short and stable.
    """
    return read_picture(source, min_side=min_side, max_megapixels=max_megapixels).image


def read_picture(
    source: Path | BinaryIO, *, min_side: int | None = None, max_megapixels: float = MAX_MEGAPIXELS
) -> Picture:
    """`read_image`, with the size and format that the file declares."""
    name = str(source if isinstance(source, Path) else getattr(source, "name", "<stream>"))
    try:
        if isinstance(source, Path):
            with source.open("rb") as stream:
                return _decode(name, stream, min_side, max_megapixels)
        return _decode(name, source, min_side, max_megapixels)
    except ImageError:
        raise
    # Decoders raise whatever a malformed file leads them to: SyntaxError, struct.error, zlib.error.
    except Exception as error:
        raise ImageError(name, _reason(error)) from error


def system_reason(error: OSError) -> str:
    """What the operating system said, as a short lower-case phrase."""
    known = {PermissionError: "permission denied", FileNotFoundError: "file not found"}
    return known.get(type(error), f"unreadable: {(error.strerror or str(error)).lower()}")


def _decode(name: str, stream: BinaryIO, min_side: int | None, max_megapixels: float) -> Picture:
    image = _open(name, stream)
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        raise ImageError(name, f"too large: {megapixels:.4g} megapixels (limit {max_megapixels:g})")
    width, height = image.size
    if min_side is not None:
        image.draft("RGB", (2 * min_side, 2 * min_side))
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    if turn in (
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    ):
        width, height = height, width
    upright = image if turn is None else image.transpose(turn)
    return Picture(_to_rgb(upright), width, height, image.format or "")


def _open(name: str, stream: BinaryIO) -> ImageFile:
    prefix = stream.read(16)
    stream.seek(0)
    if not prefix:
        raise ImageError(name, "empty file")
    for decoder in _DECODERS:
        accept = Image.OPEN[decoder.format or ""][1]
        if accept is not None and accept(prefix) is True:
            return decoder(stream)
    raise ImageError(name, "not an image")


def _orientation(image: Image.Image) -> int:
    # A damaged EXIF block says nothing about the picture: take it as upright.
    with suppress(Exception):
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _to_8_bit(image)
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        white = Image.new("RGBA", colour.size, "white")
        return Image.alpha_composite(white, colour).convert("RGB")
    if image.mode != "RGB":
        return image.convert("RGB")
    # The result must not hold on to the file behind it.
    return image.copy() if isinstance(image, ImageFile) else image


def _to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit grey by its high byte; Pillow's own conversion clips everything above 255 to white."""
    values = np.asarray(image)
    if image.mode != "I" or values.max(initial=0) > 255:
        values = values >> 8
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return system_reason(error)
    if isinstance(error, MemoryError):
        return "unreadable: not enough memory"
    if isinstance(error, Image.DecompressionBombError):
        return "too large: over the decoder's own limit"
    text = " ".join(str(error).lower().split())
    if "truncated" in text or isinstance(error, EOFError):
        return "truncated file"
    if not text or "0x" in text:
        text = type(error).__name__.lower()
    return f"unreadable: {text[:80]}"
