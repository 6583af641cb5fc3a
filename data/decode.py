"""Open a picture by what its file holds, whatever its name says.

The decoders are asked for directly instead of through `PIL.Image.open`: only the formats promised
here can ever run (no PostScript, no fonts), and Pillow's bomb warning, which depends on the warning
filters and the pixel limit of the whole process, is replaced by a limit per call.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from rwkvsearch.data.errors import ImageError
from rwkvsearch.data.frames import count_gif_frames
from rwkvsearch.data.metadata import Metadata, container_metadata, image_metadata, merge
from rwkvsearch.data.raw import Preview, raw_format, raw_metadata, read_preview
from rwkvsearch.data.tiff import Tiff, is_tiff, open_tiff

SIDEWAYS = frozenset({5, 6, 7, 8})
"""The EXIF orientations that swap width and height."""

_DECODERS: tuple[type[ImageFile], ...] = (
    JpegImageFile,
    PngImageFile,
    WebPImageFile,
    GifImageFile,
    BmpImageFile,
    TiffImageFile,
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
# Each scan of a progressive JPEG costs a pass over all pixels; encoders write about ten.
_MAX_SCANS = 100
_MAX_BLOCKS = 50_000


@dataclass
class Opened:
    """A picture whose header has been read; `image` is not decoded before it is loaded.

    `width` and `height` are what the file declares, in pixels as they are stored. `turned`: the
    decoder itself turns the picture upright. `tiff`: the directories of a TIFF file.
    """

    image: Image.Image
    format: str
    width: int
    height: int
    stream: BinaryIO
    turned: bool = False
    tiff: Tiff | None = None
    preview: Preview | None = None

    def frames(self) -> int:
        """How many pictures the file holds: frames of an animation, pages of a TIFF."""
        if self.format == "GIF":
            return count_gif_frames(self.stream)
        if self.format == "TIFF" and self.tiff is not None:
            return max(1, sum(1 for _ in self.tiff.directories()))
        return 1 if self.preview else int(getattr(self.image, "n_frames", 1))

    def metadata(self) -> Metadata:
        """What the file says about the picture; call it once the image is loaded."""
        if self.preview is not None:
            return merge(raw_metadata(self.stream, self.format), image_metadata(self.image))
        if self.tiff is not None:
            return container_metadata(self.tiff)
        return image_metadata(self.image)

    def orientation(self, metadata: Metadata) -> int:
        """The EXIF orientation that is still to be applied to the image."""
        if self.turned:
            return 1
        if self.preview is None:
            return metadata.orientation or 1
        orientation = image_metadata(self.image).orientation or self.preview.orientation
        # A few cameras turn the preview themselves, and let the RAW say how they held it.
        return 1 if orientation in SIDEWAYS and self._lies_across() else orientation

    def upright_size(self, orientation: int) -> tuple[int, int]:
        """Declared width and height of the picture once `orientation` is applied to the image."""
        across = self.preview is not None and self._lies_across()
        if across or orientation in SIDEWAYS:
            return self.height, self.width
        return self.width, self.height

    def _lies_across(self) -> bool:
        width, height = self.image.size
        return (width - height) * (self.width - self.height) < 0


def open_picture(name: str, stream: BinaryIO, suffix: str, max_megapixels: float) -> Opened:
    """Read the header of the picture in `stream`; `suffix` as `.nef` helps to tell RAW from TIFF.

    Raises:
        ImageError: it is no picture, too large, or needs an extra that is not installed. What
            damaged headers make of a decoder is raised as it comes.
    """
    stream.seek(0)
    prefix = stream.read(256)
    if not prefix:
        raise ImageError(name, "empty file")
    raw = raw_format(stream, prefix, suffix)
    if raw is not None:
        opened = _open_raw(name, stream, raw)
    else:
        decoder = _decoder(name, prefix)
        if decoder is WebPImageFile:
            _check_size(name, *_webp_size(prefix), max_megapixels)
        if decoder is GifImageFile:
            _check_blocks(name, stream)
        tiff = open_tiff(stream) if decoder is TiffImageFile else None
        stream.seek(0)
        image = decoder(stream)
        kind = image.format or ""
        opened = Opened(
            image, kind, image.width, image.height, stream, kind in {"TIFF", "HEIF"}, tiff
        )
    _check_size(name, *opened.image.size, max_megapixels)
    if "progressive" in opened.image.info:
        _check_scans(name, opened.image)
    return opened


def _check_blocks(name: str, stream: BinaryIO) -> None:
    """Refuse a GIF with endless comments: Pillow 12 copies all that it has for each further block.

    Source: GIF89a specification, sections 15 to 27.
    """
    stream.seek(10)
    flags = (stream.read(1) or b"\0")[0]
    stream.seek(13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
    blocks = 0
    while stream.read(1) == b"!":  # what is said before the first frame; no other is decoded
        stream.read(1)
        while (size := stream.read(1)) not in (b"", b"\0"):
            stream.seek(size[0], io.SEEK_CUR)
            blocks += 1
            if blocks > _MAX_BLOCKS:
                raise ImageError(name, f"more than {_MAX_BLOCKS:,} blocks of comments")


def _open_raw(name: str, stream: BinaryIO, kind: str) -> Opened:
    preview = read_preview(name, stream)
    image = preview.image or _open_preview(preview.jpeg)
    width, height = preview.width or image.width, preview.height or image.height
    return Opened(image, kind, width, height, stream, preview=preview)


def _open_preview(jpeg: bytes) -> JpegImageFile:
    """LibRaw puts an EXIF block of its own in front unless the preview's comes first of all."""
    image = JpegImageFile(io.BytesIO(jpeg))
    blocks = [part for kind, part in image.applist if kind == "APP1" and part[:6] == b"Exif\0\0"]
    whole = [block for block in blocks if is_tiff(block[6:])]
    if len(whole) > 1:
        image.info["exif"] = whole[-1]
    return image


def _decoder(name: str, prefix: bytes) -> type[ImageFile]:
    brands = _brands(prefix)
    if brands & _AVIF_BRANDS:
        return AvifImageFile
    if brands & _HEIF_BRANDS:
        return _heif_decoder(name)
    for decoder in _DECODERS:
        accept = Image.OPEN[decoder.format or ""][1]
        if accept is not None and accept(prefix[:16]) is True:
            return decoder
    raise ImageError(name, "not an image")


def _heif_decoder(name: str) -> type[ImageFile]:
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError as error:
        raise ImageError(name, "needs pip install 'rwkvsearch[heic]'") from error
    return HeifImageFile


def _brands(prefix: bytes) -> frozenset[bytes]:
    """The major and the compatible brands of an ISO media file."""
    if prefix[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(prefix[:4], "big"), len(prefix))
    names = [prefix[8:12], *(prefix[at : at + 4] for at in range(16, end, 4))]
    # The first brand that names a codec is the one of the picture.
    coded = [name for name in names if name in _AVIF_BRANDS | _HEIF_BRANDS - {b"mif1", b"msf1"}]
    return frozenset(coded[:1] or names)


def _webp_size(prefix: bytes) -> tuple[int, int]:
    """Of the canvas: Pillow's decoder takes the memory for it before it can be asked."""
    kind = prefix[12:16]
    if kind == b"VP8X":
        return (
            int.from_bytes(prefix[24:27], "little") + 1,
            int.from_bytes(prefix[27:30], "little") + 1,
        )
    if kind == b"VP8L":
        bits = int.from_bytes(prefix[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return (
        int.from_bytes(prefix[26:28], "little") & 0x3FFF,
        int.from_bytes(prefix[28:30], "little") & 0x3FFF,
    )


def _check_size(name: str, width: int, height: int, limit: float) -> None:
    megapixels = width * height / 1e6
    if megapixels > limit:
        remedy = f"(limit {limit:g}, raise with --max-megapixels)"
        raise ImageError(name, f"too large: {megapixels:.4g} megapixels {remedy}")


def _check_scans(name: str, image: Image.Image) -> None:
    stream = getattr(image, "fp", None)
    if stream is None:
        return
    at = stream.tell()
    stream.seek(0)
    scans = sum(block.count(b"\xff\xda") for block in iter(lambda: stream.read(1 << 20), b""))
    stream.seek(at)
    if scans > _MAX_SCANS:
        raise ImageError(name, f"unreadable: {scans} scans in a progressive file")
