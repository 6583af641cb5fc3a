"""Every kind of pixel as 8-bit sRGB."""

import io
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from rwkvsearch.data.colour import to_rgb
from rwkvsearch.data.images import read_image


def pixel(data: bytes) -> tuple[int, ...]:
    return read_image(io.BytesIO(data)).getpixel((3, 3))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_wide_profile_becomes_srgb(kind: str, build: ModuleType) -> None:
    grey = Image.new("RGB", (8, 8), (128, 128, 128))
    green = Image.new("RGB", (8, 8), (60, 200, 60))
    profile = build.icc("RGB", 2.2, build.WIDE)
    options = {"quality": 100, "lossless": True} if kind == "WEBP" else {}
    if kind == "JPEG":
        options = {"quality": 100, "subsampling": 0}
    shown = pixel(build.encoded(grey, kind, icc_profile=profile, **options))
    assert np.abs(np.subtract(shown, 128)).max() <= 3
    red, _, blue = pixel(build.encoded(green, kind, icc_profile=profile, **options))
    assert red < 10 and blue < 40  # more saturated than sRGB can show


def test_an_srgb_profile_changes_nothing(build: ModuleType) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = build.scene(16, 16)
    data = build.encoded(image, "PNG", icc_profile=profile)
    assert build.difference(read_image(io.BytesIO(data)), image) == 0


def test_a_grey_profile(build: ModuleType) -> None:
    image = Image.new("L", (8, 8), 55)
    linear = pixel(build.encoded(image, "PNG", icc_profile=build.icc("GRAY", 1.0)))
    assert linear == (linear[0],) * 3 and 120 < linear[0] < 135


def test_alpha_survives_the_profile(build: ModuleType) -> None:
    image = Image.new("RGBA", (8, 8), (60, 200, 60, 0))
    profile = build.icc("RGB", 2.2, build.WIDE)
    assert pixel(build.encoded(image, "PNG", icc_profile=profile)) == (255, 255, 255)


@pytest.mark.parametrize("profile", ["garbage", "wrong space", "cut"])
def test_a_bad_profile_is_ignored(profile: str, build: ModuleType) -> None:
    wide = build.icc("RGB", 2.2, build.WIDE)
    data = {"garbage": b"no profile", "wrong space": build.icc("GRAY", 1.8), "cut": wide[:200]}
    image = Image.new("RGB", (8, 8), (60, 200, 60))
    assert pixel(build.encoded(image, "PNG", icc_profile=data[profile])) == (60, 200, 60)


def test_a_palette_with_a_profile(build: ModuleType) -> None:
    image = Image.new("RGB", (8, 8), (60, 200, 60)).quantize(4)
    profile = build.icc("RGB", 2.2, build.WIDE)
    assert pixel(build.encoded(image, "PNG", icc_profile=profile))[0] < 10


def test_profiles_in_many_threads(build: ModuleType) -> None:
    profile = build.icc("RGB", 2.2, build.WIDE)
    image = build.scene(200, 150)
    alone = np.asarray(to_rgb(image, profile))
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: np.asarray(to_rgb(image, profile)), range(32)):
            assert (result == alone).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0, float("nan")], [0, 127, 255, 0]),
        ([0.0, 64.0, 255.0, -9.0], [0, 64, 255, 0]),
        ([0.0, 500.0, 1000.0, float("inf")], [0, 127, 255, 0]),
    ],
)
def test_floats(values: list[float], expected: list[int], build: ModuleType) -> None:
    image = Image.fromarray(np.array([values], np.float32))
    result = read_image(io.BytesIO(build.encoded(image, "TIFF")))
    assert [result.getpixel((x, 0))[0] for x in range(4)] == expected


def test_integers_of_32_bits(build: ModuleType) -> None:
    for top in (200, 60_000, 1 << 30):
        image = Image.fromarray(np.array([[0, top // 2, top, -5]], np.int32))
        result = read_image(io.BytesIO(build.encoded(image, "TIFF")))
        shown = [result.getpixel((x, 0))[0] for x in range(4)]
        assert shown[0] == shown[3] == 0 and abs(shown[1] - shown[2] / 2) <= 1
        assert shown[2] == {200: 200, 60_000: 234, 1 << 30: 255}[top]


def test_lab(build: ModuleType) -> None:
    lab = Image.new("LAB", (8, 8), (136, 128, 128))
    red, green, blue = pixel(build.encoded(lab, "TIFF"))
    assert max(red, green, blue) - min(red, green, blue) <= 4 and 110 < green < 145


def test_inverted_cmyk(build: ModuleType) -> None:
    """Adobe's CMYK JPEGs hold the inverse, as their APP14 segment says."""
    data = build.encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert b"Adobe" in data
    red, green, blue = pixel(data)
    assert red > 240 and green < 15 and blue < 15
    tiff = build.encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "TIFF")
    assert pixel(tiff)[0] > 240
