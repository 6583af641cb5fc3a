"""A fake encoder, exact and fast, and folders of tiny pictures."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.indexer.address import Place, place_of
from rwkvsearch.indexer.library import Library


class FakeEncoder:
    """Embeds a picture by its mean colour on a 2 x 2 grid: 12 numbers, normalised."""

    preprocessing_id = "fake-8"
    dim = 12
    image_size = 8

    def __init__(self, model_id: str = "fake", weights_sha256: str = "0" * 64) -> None:
        self.model_id = model_id
        self.weights_sha256 = weights_sha256
        self.encoded = self.told = 0

    def preprocess(self, image: Image.Image) -> NDArray[np.float32]:
        pixels = np.asarray(image.resize((8, 8)), np.float32)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1) / 255)

    def encode_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        self.encoded += len(pixels)
        cells = pixels.reshape(len(pixels), 3, 2, 4, 2, 4).mean(axis=(3, 5)).reshape(-1, 12) + 0.01
        unit: NDArray[np.float32] = cells / np.linalg.norm(cells, axis=1, keepdims=True)
        return unit

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.told += len(texts)
        rows = [np.random.default_rng(list(text.encode())).standard_normal(12) for text in texts]
        values = np.array(rows, np.float32).reshape(-1, 12)
        unit: NDArray[np.float32] = values / np.linalg.norm(values, axis=1, keepdims=True)
        return unit


def make_image(path: Path, seed: int) -> Path:
    """A PNG of four coloured squares, another one for each seed, written a second ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    Image.fromarray(colours.repeat(8, 0).repeat(8, 1)).save(path, "PNG")
    moment = time.time_ns() - 1_000_000_000
    os.utime(path, ns=(moment, moment))
    return path


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten pictures in two folders."""
    for seed in range(10):
        make_image(tmp_path / "photos" / ("a" if seed < 5 else "b") / f"{seed}.png", seed)
    return tmp_path / "photos"


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that another user may look into, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="rwkvsearch-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a library can be made: a folder, and in another run of the test a database."""
    if request.param == "sqlite":
        return tmp_path / "library"
    return place_of(request.getfixturevalue("team_address"))


@pytest.fixture
def library(place: Place) -> Iterator[Library]:
    with Library.create(place) as library:
        yield library


@pytest.fixture
def paint() -> Callable[[Path, int], Path]:
    return make_image


@pytest.fixture(scope="session")
def other_encoder() -> Callable[..., FakeEncoder]:
    return FakeEncoder
