"""CLIP's transform against golden pixels, and its geometry on pictures one can picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rwkvsearch.data.preprocess import MEAN, STD, normalise, preprocess, seen_part

GOLDEN = Path(__file__).parents[1] / "golden" / "pixels.npz"


@pytest.mark.parametrize("name", ["small", "gray"])
def test_golden(name: str) -> None:
    with np.load(GOLDEN) as file:
        arrays = dict(file)
    picture = arrays.get(f"{name}/rgb", arrays.get(f"{name}/l"))
    assert picture is not None
    pixels = preprocess(Image.fromarray(picture).convert("RGB"), 224)
    wanted = arrays[f"{name}/pixels_sub"]
    assert np.abs(pixels[:, ::7, ::7] - wanted).max() <= 1e-5


def test_grey_has_three_equal_channels() -> None:
    random = np.random.default_rng(0)
    grey = Image.fromarray(random.integers(0, 256, (40, 50), dtype=np.uint8)).convert("RGB")
    rgb = preprocess(grey, 24) * STD[:, None, None] + MEAN[:, None, None]
    np.testing.assert_allclose(rgb[0], rgb[1], atol=1e-6)
    np.testing.assert_allclose(rgb[0], rgb[2], atol=1e-6)


@pytest.mark.parametrize("size", [16, 80, 112, 224])
@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (2, 300), (300, 2), (49, 50), (223, 225), (640, 481), (224, 224)]
)
def test_size(width: int, height: int, size: int) -> None:
    pixels = preprocess(Image.new("RGB", (width, height), (10, 200, 90)), size)
    assert pixels.shape == (3, size, size) and pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    flat = (np.array([10, 200, 90], np.float32) / 255 - MEAN) / STD
    np.testing.assert_allclose(pixels, np.broadcast_to(flat[:, None, None], pixels.shape))


def test_black_and_white() -> None:
    black, white = (normalise(np.full((1, 1, 3), x, np.uint8)).ravel() for x in (0, 255))
    np.testing.assert_allclose(black, [-1.7922626, -1.7520971, -1.4802198], rtol=1e-6)
    np.testing.assert_allclose(white, [1.9303361, 2.0748837, 2.1458968], rtol=1e-6)


def test_a_picture_of_the_right_size_is_only_normalised() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(preprocess(Image.fromarray(rgb), 32), normalise(rgb))


@pytest.mark.parametrize("wide", [True, False])
def test_the_centre_is_kept(wide: bool) -> None:
    """Three squares beside each other, the middle one white: only white is left."""
    strip = np.zeros((32, 96, 3), np.uint8)
    strip[:, 32:64] = 255
    strip = strip if wide else strip.transpose(1, 0, 2)
    pixels = preprocess(Image.fromarray(strip), 32)
    assert np.array_equal(pixels, normalise(np.full((32, 32, 3), 255, np.uint8)))


@pytest.mark.parametrize(("width", "left"), [(33, 0), (34, 1), (35, 2), (37, 2), (39, 4)])
def test_odd_margins_round_to_the_even_side(width: int, left: int) -> None:
    """A margin of n/2 pixels is rounded half to even: .5 -> 0, 1.5 -> 2, 2.5 -> 2, 3.5 -> 4."""
    columns = np.arange(width, dtype=np.uint8)
    rgb = np.broadcast_to(columns[None, :, None], (32, width, 3))
    pixels = preprocess(Image.fromarray(np.ascontiguousarray(rgb)), 32)
    wanted = normalise(np.ascontiguousarray(rgb[:, left : left + 32]))
    assert np.array_equal(pixels, wanted)


@pytest.mark.parametrize("flat", [True, False])
def test_a_very_long_strip_does_not_take_gigabytes(flat: bool) -> None:
    """Black with a white middle; resized whole it would have 1.2 billion pixels."""
    strip = np.zeros((1, 100_000, 3), np.uint8)
    strip[:, 49_000:51_000] = 255
    strip = strip if flat else strip.transpose(1, 0, 2)
    pixels = preprocess(Image.fromarray(np.ascontiguousarray(strip)), 112)
    assert np.array_equal(pixels, normalise(np.full((112, 112, 3), 255, np.uint8)))


def test_channels_and_axes_keep_their_places() -> None:
    rgb = np.zeros((8, 8, 3), np.uint8)
    rgb[0, 7, 0] = rgb[7, 0, 2] = 255  # red top right, blue bottom left
    pixels = normalise(rgb)
    assert [tuple(map(int, index)) for index in np.argwhere(pixels > 0)] == [(0, 0, 7), (2, 7, 0)]


@pytest.mark.parametrize(
    ("width", "height"), [(48, 48), (100, 31), (31, 100), (640, 481), (333, 500), (40, 30_000)]
)
@pytest.mark.parametrize("size", [32, 112])
def test_the_seen_part_is_what_is_left(width: int, height: int, size: int) -> None:
    """In a picture whose colours tell the place, the outermost pixels left tell its edges."""
    across, down = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    places = np.stack([across * 200 / width, down * 200 / height, 0 * down], axis=2) + 20
    picture = Image.fromarray(np.round(places).astype(np.uint8))
    pixels = preprocess(picture, size) * STD[:, None, None] + MEAN[:, None, None]
    across, down = (255 * pixels[:2] - 20) / 200
    left, top, right, bottom = seen_part(width, height, size)
    half = (right - left) / size / 2  # a pixel of the result is told by its centre
    for values, first, last, side in (
        (across[3], left, right, width),
        (down[:, 3], top, bottom, height),
    ):
        middle = values[3:-3] * side  # the outermost lack a neighbour to be smooth with
        np.testing.assert_allclose(
            (middle[0], middle[-1]),
            (first + 7 * half, last - 7 * half),
            atol=0.01 * side + half / 2,
        )
    assert 0 <= left < right <= width + 1e-9 and 0 <= top < bottom <= height + 1e-9
