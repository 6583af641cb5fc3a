"""The perceptual hash on the sample photographs."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from rwkvsearch.data.images import read_image
from rwkvsearch.data.perceptual import hamming, perceptual_hash

PHOTOS = sorted((Path(__file__).parents[2] / "data" / "samples" / "photos").glob("*.jpg"))


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [read_image(path) for path in PHOTOS]


@pytest.fixture(scope="module")
def hashes(images: list[Image.Image]) -> np.ndarray:
    return np.array([perceptual_hash(image) for image in images], np.int64)


@pytest.mark.parametrize(
    ("kind", "quality", "scale"),
    [("JPEG", 30, 1), ("JPEG", 85, 0.5), ("WEBP", 40, 0.7), ("PNG", 0, 0.25), ("JPEG", 90, 2)],
)
def test_another_format_and_size_is_the_same_picture(
    kind: str, quality: int, scale: float, images: list[Image.Image], hashes: np.ndarray
) -> None:
    for image, original in zip(images, hashes, strict=True):
        stream = io.BytesIO()
        size = (round(image.width * scale), round(image.height * scale))
        image.resize(size).save(stream, kind, quality=quality)
        again = perceptual_hash(read_image(stream, min_side=64))
        assert hamming(int(original), again) <= 6


def test_a_little_brighter_is_the_same_picture(
    images: list[Image.Image], hashes: np.ndarray
) -> None:
    brighter = [perceptual_hash(ImageEnhance.Brightness(image).enhance(1.1)) for image in images]
    assert np.median(hamming(hashes, np.array(brighter))) <= 4


def test_other_photographs_are_far_apart(hashes: np.ndarray) -> None:
    distances = hamming(hashes[:, None], hashes[None, :])[np.triu_indices(len(hashes), 1)]
    assert distances.min() > 12
    assert 30 <= np.median(distances) <= 34


def test_turned_and_mirrored_are_other_pictures(images: list[Image.Image]) -> None:
    image = images[0]
    for turned in (image.rotate(180), image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
        assert hamming(perceptual_hash(image), perceptual_hash(turned)) > 12


def test_range_and_odd_sizes() -> None:
    for size in ((1, 1), (1, 3000), (3000, 1), (31, 33)):
        value = perceptual_hash(Image.new("RGB", size, (9, 9, 9)))
        assert -(2**63) <= value < 2**63
    assert perceptual_hash(Image.new("RGB", (8, 8))) == perceptual_hash(Image.new("RGB", (99, 9)))


def test_hamming_is_the_count_of_bits() -> None:
    chance = np.random.default_rng(0)
    a, b = chance.integers(-(2**63), 2**63 - 1, (2, 200), dtype=np.int64)
    plain = [bin((int(x) ^ int(y)) & (2**64 - 1)).count("1") for x, y in zip(a, b, strict=True)]
    assert hamming(a, b).tolist() == plain
    assert hamming(a[:, None], b[None, :]).shape == (200, 200)
    assert hamming(-1, 0) == 64 and hamming(5, 5) == 0
