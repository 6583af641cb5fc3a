"""Every way a picture file can be odd: it comes out right, or as an ImageError with a reason."""

import io
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rwkvsearch.data.errors import ImageError
from rwkvsearch.data.images import IMAGE_SUFFIXES, read_image, read_picture

FORMATS = ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF"]


def scene(width: int, height: int) -> Image.Image:
    """A smooth picture without any symmetry, so that a wrong turn or flip shows."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = x * 255 / max(1, width - 1), y * 255 / max(1, height - 1)
    return Image.fromarray(np.stack([red, green, 128 + 0 * x], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def difference(a: Image.Image, b: Image.Image) -> float:
    assert a.size == b.size
    return float(np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).mean())


def reason(source: Path | bytes, **options: float) -> str:
    stream = source if isinstance(source, Path) else io.BytesIO(source)
    with pytest.raises(ImageError) as caught:
        read_image(stream, max_megapixels=options.get("max_megapixels", 128.0))
    return caught.value.reason


def png_header(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 99) + b"IDAT"


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encoded(scene(60, 40), kind))
    picture = read_picture(path)
    assert type(picture.image) is Image.Image
    assert (picture.image.mode, picture.width, picture.height) == ("RGB", 60, 40)
    assert picture.format == kind
    assert difference(picture.image, scene(60, 40)) < 12


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    undo: dict[int, Callable[[Image.Image], Image.Image]] = {
        1: lambda i: i,
        2: lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda i: i.transpose(Image.Transpose.ROTATE_180),
        4: lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda i: i.transpose(Image.Transpose.TRANSPOSE),
        6: lambda i: i.transpose(Image.Transpose.ROTATE_90),
        7: lambda i: i.transpose(Image.Transpose.TRANSVERSE),
        8: lambda i: i.transpose(Image.Transpose.ROTATE_270),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encoded(undo[orientation](scene(64, 48)), kind, exif=exif)
    picture = read_picture(io.BytesIO(stored), min_side=8)
    assert (picture.width, picture.height) == (64, 48)
    assert difference(picture.image.resize((64, 48)), scene(64, 48)) < 12


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_cost_the_picture() -> None:
    data = encoded(scene(32, 32), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert read_image(io.BytesIO(data)).size == (32, 32)


@pytest.mark.parametrize(
    ("size", "min_side"),
    [
        ((1600, 1200), 224),
        ((4000, 500), 224),
        ((500, 4000), 224),
        ((449, 897), 224),
        ((90, 70), 64),
    ],
)
def test_scaled_decode_keeps_twice_the_short_side(size: tuple[int, int], min_side: int) -> None:
    data = encoded(scene(*size), "JPEG", quality=92)
    picture = read_picture(io.BytesIO(data), min_side=min_side)
    assert (picture.width, picture.height) == size
    assert picture.image.size == size or min(picture.image.size) >= 2 * min_side
    small = (max(1, size[0] // 8), max(1, size[1] // 8))
    full = read_image(io.BytesIO(data)).resize(small, Image.Resampling.BICUBIC)
    assert difference(picture.image.resize(small, Image.Resampling.BICUBIC), full) < 1.5


def test_scaled_decode_really_scales() -> None:
    data = encoded(scene(1800, 1800), "JPEG")
    assert read_image(io.BytesIO(data), min_side=224).size == (450, 450)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("RGBA", (255, 0, 0, 128), (255, 127, 127)),
        ("RGBA", (9, 9, 9, 0), (255, 255, 255)),
        ("LA", (0, 0), (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 0x8000, (128, 128, 128)),
        ("I;16", 200, (0, 0, 0)),
    ],
)
def test_modes_over_white(
    mode: str, value: float | tuple[float, ...], expected: tuple[int, int, int]
) -> None:
    image = Image.new(mode, (5, 7), value)
    pixel = np.asarray(read_image(io.BytesIO(encoded(image, "PNG"))), np.int64)[3, 2]
    assert np.abs(pixel - expected).max() <= 1


def test_palette_transparency_is_white() -> None:
    palette = scene(16, 16).quantize(8)
    data = encoded(palette, "PNG", transparency=palette.getpixel((0, 0)))
    assert read_image(io.BytesIO(data)).getpixel((0, 0)) == (255, 255, 255)


def test_cmyk_jpeg() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    red, green, blue = np.asarray(read_image(io.BytesIO(data), min_side=4))[4, 4]
    assert red > 240 and green < 15 and blue < 15


def test_one_pixel() -> None:
    assert read_image(io.BytesIO(encoded(scene(1, 1), "JPEG")), min_side=224).size == (1, 1)


def test_reasons(tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("these are words")
    assert reason(text) == "not an image"
    assert reason(b"") == "empty file"
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n") == "not an image"
    assert reason(tmp_path / "none.jpg") == "file not found"
    assert reason(tmp_path) == "unreadable: is a directory"
    assert reason(png_header(20000, 10000)) == (
        "too large: 200 megapixels (limit 128, raise with --max-megapixels)"
    )
    assert reason(png_header(20, 10)).startswith(("truncated file", "unreadable: "))
    with pytest.raises(ImageError, match="text.png: not an image"):
        read_image(text)


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated(kind: str) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    said = reason(data[: len(data) // 2])
    assert said == "truncated file" or (
        kind in {"WEBP", "TIFF", "AVIF"} and said.startswith("unreadable")
    )


@pytest.mark.parametrize("warning_filter", ["error", "default"])
def test_limit_is_ours_whatever_the_warning_filters(warning_filter: str) -> None:
    data = encoded(Image.new("L", (10000, 9000)), "PNG", compress_level=1)
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter(warning_filter)  # type: ignore[arg-type]
        assert read_image(io.BytesIO(data)).size == (10000, 9000)
        assert reason(data, max_megapixels=50) == (
            "too large: 90 megapixels (limit 50, raise with --max-megapixels)"
        )
    assert before == Image.MAX_IMAGE_PIXELS


def test_permission_denied(tmp_path: Path) -> None:
    path = tmp_path / "locked.png"
    path.write_bytes(encoded(scene(4, 4), "PNG"))
    path.chmod(0)
    if os.geteuid() != 0:
        assert reason(path) == "permission denied"
        return
    code = (
        "import os, sys, pathlib\n"
        "from rwkvsearch.data.images import read_image\n"
        "from rwkvsearch.data.errors import ImageError\n"
        "os.setuid(65534)\n"
        "try: read_image(pathlib.Path(sys.argv[1]))\n"
        "except ImageError as error: sys.exit(error.reason)\n"
    )
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and "pytest" in str(folder):
            folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stderr.strip() == "permission denied"


@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_bytes_give_a_picture_or_an_image_error(kind: str) -> None:
    rng = random.Random(kind)
    exif = Image.Exif()
    exif[0x0112] = 6
    good = encoded(scene(48, 32), kind, exif=exif) if kind not in {"BMP", "GIF"} else None
    good = good or encoded(scene(48, 32), kind)
    for _ in range(60):
        data = bytearray(good)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        try:
            picture = read_image(io.BytesIO(bytes(data)), min_side=8, max_megapixels=4)
        except ImageError as error:
            assert error.reason and error.reason == error.reason.lower()
            assert "0x" not in error.reason and len(error.reason) < 100
        else:
            assert picture.mode == "RGB"


def test_suffixes_are_lower_case_with_dots() -> None:
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in IMAGE_SUFFIXES)
