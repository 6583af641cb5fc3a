"""HEIC, AVIF and RAW, animations and pages, and the limits: each opened by what it holds."""

import io
import struct
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image, ImageOps

from rwkvsearch.data.errors import ImageError
from rwkvsearch.data.frames import MAX_FRAMES
from rwkvsearch.data.images import read_image, read_metadata, read_picture


def reason(data: bytes, **options: float) -> str:
    with pytest.raises(ImageError) as caught:
        read_picture(io.BytesIO(data), **options)  # type: ignore[arg-type]
    return caught.value.reason


def preview(build: ModuleType, size: tuple[int, int] = (320, 240), **options: object) -> bytes:
    return build.encoded(build.scene(*size), "JPEG", quality=90, **options)


def test_heic(build: ModuleType) -> None:
    pytest.importorskip("pillow_heif")
    picture = read_picture(io.BytesIO(build.heic(build.scene(128, 96), quality=90)))
    assert (picture.format, picture.width, picture.height) == ("HEIF", 128, 96)
    assert build.difference(picture.image, build.scene(128, 96)) < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_upright_once(orientation: int, build: ModuleType) -> None:
    pytest.importorskip("pillow_heif")
    block = build.exif([(0x0112, 3, [orientation])])
    data = build.heic(build.scene(128, 96), quality=90, exif=block)
    picture = read_picture(io.BytesIO(data))
    # The encoder turns the EXIF orientation into the container's own, the only one that counts.
    scene = build.scene(128, 96)
    scene.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(scene)
    assert (picture.width, picture.height) == picture.image.size == expected.size
    assert build.difference(picture.image, expected) < 6


def test_several_pictures_in_a_heic(build: ModuleType) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = pillow_heif.from_pillow(build.scene(64, 64))
    file.add_from_pillow(Image.new("RGB", (64, 64), "red"))
    stream = io.BytesIO()
    file.save(stream)
    assert read_picture(stream).frames == 2


def test_ftyp_tells_heic_from_avif(build: ModuleType) -> None:
    pytest.importorskip("pillow_heif")
    heic, avif = build.heic(build.scene()), build.encoded(build.scene(), "AVIF")
    for data, kind, coded in ((heic, "HEIF", b"heic"), (avif, "AVIF", b"avif")):
        size = struct.unpack(">L", data[:4])[0]
        assert coded in data[16:size]
        # The same brands, but the major one says no more than "some image".
        shy = data[:8] + b"mif1" + data[12:]
        assert read_picture(io.BytesIO(data)).format == kind
        assert read_picture(io.BytesIO(shy)).format == kind
    assert reason(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(64)) == "not an image"


@pytest.mark.parametrize("extra", ["heic", "raw"])
def test_a_missing_extra_is_named(
    extra: str, build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pillow_heif", "pillow_heif.as_plugin", "rawpy"):
        monkeypatch.setitem(sys.modules, name, None)
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
    data = heic if extra == "heic" else build.dng(preview(build))
    assert reason(data) == f"needs pip install 'rwkvsearch[{extra}]'"


@pytest.mark.parametrize("suffix", [".dng", ".NEF", ".tif", ""])
def test_raw_by_its_preview(suffix: str, build: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(build.dng(preview(build)))
    picture = read_picture(path)
    assert picture.format == "DNG"
    assert picture.image.size == (320, 240)
    assert (picture.width, picture.height) == (64, 48)
    assert picture.metadata.camera == "Acme One"
    assert build.difference(picture.image, build.scene(320, 240)) < 6


@pytest.mark.parametrize(
    ("orientation", "size"), [(1, (320, 240)), (3, (320, 240)), (6, (240, 320)), (8, (240, 320))]
)
def test_raw_turns_a_preview_that_does_not_say_how(
    orientation: int, size: tuple[int, int], build: ModuleType
) -> None:
    pytest.importorskip("rawpy")
    turn = {3: 180, 6: 270, 8: 90}.get(orientation, 0)
    picture = read_picture(io.BytesIO(build.dng(preview(build), orientation=orientation)))
    assert picture.image.size == size
    assert (picture.width < picture.height) == (size[0] < size[1])
    expected = build.scene(320, 240).rotate(turn, expand=True)
    assert build.difference(picture.image, expected) < 6


def test_raw_with_a_preview_that_says_how(build: ModuleType) -> None:
    pytest.importorskip("rawpy")
    said = preview(build, exif=build.exif([(0x0112, 3, [8])]))
    picture = read_picture(io.BytesIO(build.dng(said, orientation=1)))
    assert picture.image.size == (240, 320)
    expected = build.scene(320, 240).rotate(90, expand=True)
    assert build.difference(picture.image, expected) < 6


def test_raw_with_a_preview_that_is_upright_already(build: ModuleType) -> None:
    pytest.importorskip("rawpy")
    upright = preview(build, (240, 320))
    picture = read_picture(io.BytesIO(build.dng(upright, (240, 320), orientation=6)))
    assert picture.image.size == (240, 320)
    assert (picture.width, picture.height) == (48, 64)
    assert build.difference(picture.image, build.scene(240, 320)) < 6


def test_raw_with_a_preview_that_is_no_jpeg(build: ModuleType) -> None:
    pytest.importorskip("rawpy")
    pixels = build.scene(320, 240).tobytes()
    picture = read_picture(io.BytesIO(build.dng(pixels, orientation=6, bitmap=True)))
    expected = build.scene(320, 240).rotate(270, expand=True)
    assert build.difference(picture.image, expected) < 1


def test_raw_preview_is_decoded_scaled(build: ModuleType) -> None:
    pytest.importorskip("rawpy")
    data = build.dng(preview(build, (1800, 1800)), (1800, 1800))
    assert read_image(io.BytesIO(data), min_side=224).size == (450, 450)


def test_raw_without_a_preview(build: ModuleType) -> None:
    pytest.importorskip("rawpy")
    assert reason(build.dng(None)) == "no embedded preview"


def test_tiff_with_a_thumbnail_first_is_raw_only_from_a_camera(
    build: ModuleType, tmp_path: Path
) -> None:
    data = build.encoded(build.scene(), "TIFF")
    path = tmp_path / "scan.tif"
    path.write_bytes(data)
    assert read_picture(path).format == "TIFF"


def test_frames(build: ModuleType) -> None:
    red, blue = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    for kind in ("GIF", "WEBP", "PNG", "AVIF", "TIFF"):
        options = {"save_all": True, "append_images": [blue, red]}
        picture = read_picture(io.BytesIO(build.encoded(red, kind, **options)))
        assert picture.frames == 3, kind
        middle = picture.image.getpixel((16, 16))
        assert middle[0] > 240 and middle[2] < 20, kind
        assert read_picture(io.BytesIO(build.encoded(red, kind))).frames == 1, kind


def test_a_gif_of_countless_frames(build: ModuleType) -> None:
    data = build.encoded(Image.new("P", (1, 1)), "GIF")
    at = data.index(b",")
    frame, rest = data[at:-1], data[:at]
    picture = read_picture(io.BytesIO(rest + frame * (MAX_FRAMES + 5000) + b";"))
    assert picture.frames == MAX_FRAMES


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_in_a_tiff(order: str, build: ModuleType) -> None:
    pixels = struct.pack(order + "4H", 0, 0x4000, 0x8000, 0xFFFF)
    rows = [(256, 4, [4]), (257, 4, [1]), (258, 3, [16]), (259, 3, [1]), (262, 3, [1])]
    rows += [(273, 4, [8]), (277, 3, [1]), (278, 4, [1]), (279, 4, [8])]
    magic = b"II*\0" if order == "<" else b"MM\0*"
    data = magic + struct.pack(order + "L", 16) + pixels + build.directory(rows, 16, order)
    image = read_image(io.BytesIO(data))
    assert [image.getpixel((x, 0))[0] for x in range(4)] == [0, 0x40, 0x80, 0xFF]


def test_limits_name_the_flag_that_lifts_them(build: ModuleType, tmp_path: Path) -> None:
    data = build.encoded(build.scene(1000, 300), "PNG")
    said = "too large: 0.3 megapixels (limit 0.2, raise with --max-megapixels)"
    assert reason(data, max_megapixels=0.2) == said
    path = tmp_path / "large.png"
    path.write_bytes(data + bytes(3 << 20))
    with pytest.raises(ImageError) as caught:
        read_image(path, max_bytes=2 << 20)
    assert caught.value.reason == "too large: 3 megabytes (limit 2, raise with --max-megabytes)"
    assert read_image(path, max_bytes=4 << 20).size == (1000, 300)


def test_the_canvas_of_a_webp_is_limited_before_memory_is_taken(build: ModuleType) -> None:
    size = (16000 - 1).to_bytes(3, "little") * 2
    head = b"VP8X" + struct.pack("<L", 10) + b"\x02\0\0\0" + size
    data = b"RIFF" + struct.pack("<L", 4 + len(head)) + b"WEBP" + head
    assert reason(data).startswith("too large: 256 megapixels")
    for options in ({"lossless": True}, {"quality": 50}):
        whole = build.encoded(build.scene(400, 300), "WEBP", **options)
        assert reason(whole, max_megapixels=0.1).startswith("too large: 0.12 megapixels")


def test_progressive_scans_are_limited(build: ModuleType) -> None:
    data = build.encoded(build.scene(), "JPEG", progressive=True)
    assert read_image(io.BytesIO(data)).size == (64, 48)
    assert reason(data + b"\xff\xda" * 200).endswith("scans in a progressive file")


def test_read_metadata_alone(build: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(preview(build, exif=build.exif([(0x010E, 2, b"a harbour\0")])))
    assert read_metadata(path) == read_picture(path).metadata
    assert read_metadata(path).texts == (("exif", "a harbour"),)
    assert read_metadata(io.BytesIO(b"nothing")).texts == ()
    assert read_metadata(tmp_path / "none.jpg").texts == ()
