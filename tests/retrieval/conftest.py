"""A tiny model, as a config, as an official checkpoint and installed, and a few pictures."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from rwkvsearch.retrieval import recipe
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.pull import pull
from rwkvsearch.retrieval.rwkv_clip.checkpoint import official_name
from rwkvsearch.retrieval.rwkv_clip.config import (
    ImageTowerConfig,
    ModelConfig,
    TextTowerConfig,
)
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip

TINY = ModelConfig(
    ImageTowerConfig(image_size=32, patch_size=8, depth=2, width=32, heads=2, hidden_rate=3),
    TextTowerConfig(
        context=12,
        vocabulary=1000,
        depth=2,
        width=32,
        head_size=16,
        hidden=48,
        head_size_divisor=8,
    ),
)
INSTALLED = "b32-yfcc15m"
"""The name under which the tiny model is installed."""


def official_state_of(config: ModelConfig, seed: str) -> dict[str, Tensor]:
    """Make an official state dict as the fixtures do: float32, but for two bfloat16 leaves."""
    with torch.device("meta"):
        shapes = {official_name(k): v.shape for k, v in RwkvClip(config).state_dict().items()}
    state = {key: torch.tensor(recipe.weight(seed, key, shape)) for key, shape in shapes.items()}
    for key in state:
        if key.startswith("text_model") and key.endswith(("time_decay", "time_faaaa")):
            state[key] = state[key].bfloat16()
    return state


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    return TINY


@pytest.fixture(scope="session")
def official_state() -> Callable[[ModelConfig, str], dict[str, Tensor]]:
    return official_state_of


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An official-shaped checkpoint of the tiny model."""
    path = tmp_path_factory.mktemp("checkpoint") / "model_31.pt"
    torch.save({f"module.{k}": v for k, v in official_state_of(TINY, "tiny").items()}, path)
    return path


@pytest.fixture(scope="session")
def installed_home(
    tmp_path_factory: pytest.TempPathFactory, checkpoint: Path
) -> Iterator[tuple[Path, str]]:
    """A home folder with the tiny model installed under an official name."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RWKVSEARCH_HOME", str(home))
        patch.setattr("rwkvsearch.retrieval.pull._SHAPES", {"B/32": TINY})
        pull(INSTALLED, file=checkpoint)
    yield home, INSTALLED


@pytest.fixture
def installed(installed_home: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a model that `$RWKVSEARCH_HOME` holds for this test; do not write there."""
    home, name = installed_home
    monkeypatch.setenv("RWKVSEARCH_HOME", str(home))
    return name


@pytest.fixture(scope="session")
def encoder(installed_home: tuple[Path, str]) -> Encoder:
    """The tiny model as an encoder."""
    home, name = installed_home
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RWKVSEARCH_HOME", str(home))
        return Encoder.load(name, device="cpu")


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Nine pictures of several sizes: smooth noise, no two alike."""
    random = np.random.default_rng(5)
    sizes = [(32, 32), (33, 47), (100, 40), (64, 64), (31, 90), (200, 150), (8, 8), (50, 51)]
    return [
        Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize(size)
        for size in [*sizes, (77, 77)]
    ]
