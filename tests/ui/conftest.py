"""A tiny model in the place of the shipped one, a home of its own, and the command line."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rwkvsearch.retrieval import recipe
from rwkvsearch.retrieval.models import ModelCard, sha256_of, write_card
from rwkvsearch.retrieval.rwkv_clip.checkpoint import build, official_name, save_half
from rwkvsearch.retrieval.rwkv_clip.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.ui.cli import main

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


@dataclass(frozen=True)
class Outcome:
    """What a command gave: exit code, stdout and stderr, undecodable bytes as surrogates."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def make_weights(root: Path, seed: str) -> Path:
    """Write a model called starter below `root`, which is returned."""
    folder = root / "starter"
    folder.mkdir(parents=True)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in RwkvClip(TINY).state_dict().items()}
    state = {
        name: torch.tensor(recipe.weight(seed, official_name(name), shape))
        for name, shape in shapes.items()
    }
    save_half(build(TINY, state, seed), folder / "model.safetensors", {})
    card = ModelCard(
        name="starter",
        sha256=sha256_of(folder / "model.safetensors"),
        prompt="",
        config=TINY.to_dict(),
        source="made by a test",
        licence="MIT",
    )
    write_card(card, folder)
    return root


def make_picture(path: Path, seed: int) -> Path:
    """Write a PNG of 4 x 4 coloured squares, another one for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(colours.repeat(8, 0).repeat(8, 1)).save(path, "PNG")
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `retrieval/weights`, with a tiny starter model; do not write there."""
    return make_weights(tmp_path_factory.mktemp("weights"), "tiny")


@pytest.fixture(autouse=True)
def home(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `$RWKVSEARCH_HOME`, and the tiny model as the starter model."""
    monkeypatch.setattr("rwkvsearch.retrieval.models._SHIPPED", weights)
    monkeypatch.setenv("RWKVSEARCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RWKVSEARCH_DEVICE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line in this process, down to the file descriptors."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["rwkvsearch", *map(str, arguments)])
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capfdbinary.readouterr()
        out, err = (text.decode(errors="surrogateescape") for text in captured)
        return Outcome(int(stop.value.code or 0), out, err)

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight pictures."""
    for seed in range(8):
        make_picture(tmp_path / "photos" / f"{seed}.png", seed)
    return tmp_path / "photos"


@pytest.fixture
def indexed(photos: Path, run: Run) -> Path:
    """The eight pictures, indexed into the default library."""
    assert run("index", photos).code == 0
    return photos


@pytest.fixture
def library(weights: Path, home: Path, photos: Path, run: Run) -> Path:
    """Eight pictures in a library, by a model that other processes have as well."""
    folder = home / "models" / "tiny"
    shutil.copytree(weights / "starter", folder)
    card = folder / "config.json"
    card.write_text(card.read_text().replace('"starter"', '"tiny"'))
    assert run("index", photos, "--model", "tiny").code == 0
    return home
