import hashlib
import io
import random
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from rwkvsearch.data.errors import ImageError, QueryError
from rwkvsearch.ui.api import uploads as module
from rwkvsearch.ui.api.settings import Settings
from rwkvsearch.ui.api.uploads import KEPT, SHORT_SIDE, Uploads

PHOTOS = sorted((Path(__file__).parents[3] / "data/samples/photos").glob("*.jpg"))


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(Settings(library=Path("l"), max_upload_bytes=4 << 20, max_upload_megapixels=20))


def coded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(number: int, size: tuple[int, int] = (40, 30), kind: str = "PNG") -> bytes:
    return coded(Image.new("RGB", size, (number % 256, number // 256, 7)), kind)


def test_a_photograph(uploads: Uploads) -> None:
    data = PHOTOS[0].read_bytes()
    upload_id = uploads.add(data)
    assert upload_id == hashlib.sha256(data).hexdigest()
    upload = uploads.get(upload_id)
    with Image.open(PHOTOS[0]) as original:
        assert (upload.width, upload.height, upload.format) == (*original.size, "JPEG")
    assert upload.image.mode == "RGB" and uploads.image(upload_id) is upload.image
    with Image.open(io.BytesIO(uploads.preview(upload_id))) as preview:
        assert preview.format == "WEBP" and max(preview.size) == 320


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_formats_are_known_by_what_they_hold(uploads: Uploads, kind: str) -> None:
    assert uploads.get(uploads.add(picture(3, kind=kind))).format == kind


def test_it_is_kept_small_and_upright(uploads: Uploads) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = coded(Image.new("RGB", (3000, 1200), "red"), "JPEG", exif=exif)
    upload = uploads.get(uploads.add(data))
    assert (upload.width, upload.height) == (1200, 3000)
    assert upload.image.size == (SHORT_SIDE, 5 * SHORT_SIDE // 2)


def test_a_strip_keeps_its_middle(uploads: Uploads) -> None:
    strip = Image.new("RGB", (60_000, 10), "red")
    strip.paste("blue", (29_000, 0, 31_000, 10))
    upload = uploads.get(uploads.add(coded(strip, "PNG")))
    assert upload.image.size == (80, 10)
    assert upload.image.getpixel((40, 5)) == (0, 0, 255)


def refused(uploads: Uploads, data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        uploads.add(data)
    text = str(caught.value)
    assert "\n" not in text and "--max" not in text and len(text) < 150
    assert len(uploads) == 0
    return text


NO_PICTURES = [
    b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    b"<?xml version='1.0'?><!DOCTYPE svg><svg/>",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    b"%PDF-1.7\n",
    b"<html><body>",
    b"PK\x03\x04" + bytes(100),
    b"P6\n4 4\n255\n" + bytes(48),
    b"8BPS" + bytes(100),
    b"http://127.0.0.1/picture.jpg",
    b"/etc/passwd",
    bytes(1000),
]


@pytest.mark.parametrize("data", NO_PICTURES)
def test_other_formats(uploads: Uploads, data: bytes) -> None:
    assert refused(uploads, data) == "the picture: not an image"


def test_limits(uploads: Uploads) -> None:
    assert refused(uploads, b"") == "the picture: empty file"
    assert "too large: 4 megabytes (limit 4)" in refused(uploads, bytes((4 << 20) + 1))
    bomb = coded(Image.new("1", (5000, 5000)), "PNG")
    assert len(bomb) < 10_000
    assert refused(uploads, bomb).endswith("too large: 25 megapixels (limit 20)")


def test_a_header_alone_is_enough_to_refuse(uploads: Uploads) -> None:
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    data = struct.pack(">I", 9) + b"IDAT" + bytes(13)
    assert "megapixels" in refused(uploads, b"\x89PNG\r\n\x1a\n" + chunk + data)
    gif = bytearray(picture(1, kind="GIF"))
    gif[6:10] = b"\xff\xff\xff\xff"
    assert "4295 megapixels" in refused(uploads, bytes(gif))
    webp = b"RIFF\xff\0\0\0WEBPVP8X\n\0\0\0\0\0\0\0" + b"\xff\xff\xff" * 2 + bytes(20)
    assert "megapixels" in refused(uploads, webp)


def test_texts_that_unpack_to_much(uploads: Uploads) -> None:
    text = PngInfo()
    for number in range(5):
        text.add_text(f"bomb{number}", "x" * (16 << 20), zip=True)
    data = coded(Image.new("RGB", (8, 8)), "PNG", pnginfo=text)
    assert len(data) < 1 << 20
    assert "too large" in refused(uploads, data)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_many_frames_only_the_first_is_decoded(
    uploads: Uploads, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [Image.new("RGB", (400, 300), (number, 255 - number, 9)) for number in range(40)]
    packed = {"compression": "tiff_deflate"} if kind == "TIFF" else {}
    data = coded(frames[0], kind, save_all=True, append_images=frames[1:], **packed)
    decoded: list[int] = []
    load = Image.Image.load

    def counted(image: Image.Image) -> object:
        decoded.append(1)
        return load(image)

    monkeypatch.setattr(Image.Image, "load", counted)
    upload = uploads.get(uploads.add(data))
    assert (upload.width, upload.height) == (400, 300)
    assert len(decoded) < 20


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_damaged_files(uploads: Uploads, kind: str) -> None:
    chance = random.Random(7)
    with Image.open(PHOTOS[0]) as photo:
        whole = coded(photo.resize((64, 48)), kind)
    for at in range(1, len(whole), max(1, len(whole) // 40)):
        broken = bytearray(whole)
        broken[at] ^= 1 << chance.randrange(8)
        for data in (whole[:at], bytes(broken), whole + bytes(broken)):
            try:
                uploads.get(uploads.add(data))
            except ImageError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize(
    "upload_id",
    ["", "x", "A" * 64, "0" * 63, "0" * 65, "../" * 21 + "a", "0" * 64 + "\n", "é" * 64],
)
def test_forged_ids(uploads: Uploads, upload_id: str) -> None:
    for get in (uploads.get, uploads.image, uploads.preview):
        with pytest.raises(QueryError, match="not the id of a picture"):
            get(upload_id)


def test_an_unknown_id(uploads: Uploads) -> None:
    with pytest.raises(QueryError, match="upload 000000000000 is not kept any more"):
        uploads.get("0" * 64)


def test_the_last_used_are_kept(uploads: Uploads) -> None:
    ids = [uploads.add(picture(number)) for number in range(KEPT)]
    uploads.get(ids[0])
    uploads.add(picture(1))
    more = [uploads.add(picture(1000 + number)) for number in range(2)]
    assert len(uploads) == KEPT
    for upload_id in (ids[0], ids[1], *ids[4:], *more):
        uploads.get(upload_id)
    for upload_id in ids[2:4]:
        with pytest.raises(QueryError):
            uploads.get(upload_id)


def test_bytes_are_bounded(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 3 * SHORT_SIDE * SHORT_SIDE * 3)
    for number in range(8):
        uploads.add(picture(number, (600, 600)))
    assert len(uploads) == 2  # and previews
    assert uploads._held == sum(upload.bytes_held for upload in uploads._kept.values())


def test_nothing_is_written(
    uploads: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    uploads.add(PHOTOS[0].read_bytes())
    assert list(tmp_path.iterdir()) == []


def test_many_threads(uploads: Uploads) -> None:
    def use(number: int) -> tuple[int, int]:
        upload_id = uploads.add(picture(number % 100, (20 + number % 100, 30)))
        try:
            return uploads.get(upload_id).image.size
        except QueryError:
            return (0, 0)

    with ThreadPoolExecutor(16) as pool:
        sizes = list(pool.map(use, range(600)))
    assert all(size in {(20 + number % 100, 30), (0, 0)} for number, size in enumerate(sizes))
    assert len(uploads) == KEPT
    assert uploads._held == sum(upload.bytes_held for upload in uploads._kept.values())
