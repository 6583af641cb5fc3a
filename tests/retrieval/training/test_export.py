"""A run becomes a model that the encoder loads, and curves."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rwkvsearch.data.errors import DataError, ModelError
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.models import known_models, new_spec
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.config import Recipe, TrainingConfig
from rwkvsearch.retrieval.training.export import install_run, read_run
from rwkvsearch.retrieval.training.optimizer import Optimizer
from rwkvsearch.retrieval.training.plots import draw_curves
from rwkvsearch.retrieval.training.state import (
    TrainingState,
    save_best,
    save_state,
    start_average,
)


@pytest.fixture
def run(moving_model: RwkvClip, tmp_path: Path) -> Path:
    recipe = Recipe(average=0.9)
    average = start_average(moving_model, recipe.average)
    assert average is not None
    average.logit_scale.data.fill_(2.0)
    state = TrainingState(moving_model, Optimizer(moving_model, recipe), average, step=3)
    save_state(state, TrainingConfig(recipe=recipe), tmp_path)
    return tmp_path


def test_last_and_best(run: Path, moving_model: RwkvClip) -> None:
    assert read_run(run).logit_scale.item() == 2.0  # the average
    moving_model.logit_scale.data.fill_(1.5)
    state = TrainingState(moving_model, Optimizer(moving_model, Recipe()), None)
    save_best(state, {"R@10": 4.0}, run)
    assert read_run(run).logit_scale.item() == 1.5
    assert read_run(run, last=True).logit_scale.item() == 2.0


def test_install(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RWKVSEARCH_HOME", str(tmp_path / "home"))
    folder = install_run(run, "mine")
    assert folder == tmp_path / "home" / "models" / "mine"
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert "mine" in known_models()
    encoder = Encoder.load("mine")
    own = read_run(run)
    wanted = own.text(torch.from_numpy(encoder._tokenizer(["a dog"])))[0].detach().numpy()
    got = encoder.encode_texts(["a dog"])[0]
    assert float(got @ wanted / np.linalg.norm(wanted)) > 0.9999
    assert (folder / "model.safetensors").stat().st_mode & 0o444 == 0o444
    install_run(run, "mine")  # again
    with pytest.raises(ModelError, match="a model is called mine already"):
        install_run(tmp_path / "another run", "mine")
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="train it again with `rwkvsearch train`"):
        Encoder.load("mine")


@pytest.mark.parametrize("name", ["starter", "b32-yfcc15m", "", "a/b", "..", ".x"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ModelError):
        new_spec(name)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no checkpoint of a training run"):
        read_run(tmp_path)
    assert draw_curves(tmp_path) is None


def test_curves(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = [
        {"step": n, "loss": 5 / n, "image": 2 / n, "text_to_image R@10": float(n)}
        for n in range(1, 5)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = draw_curves(tmp_path)
    assert path is not None and path.read_bytes().startswith(b"\x89PNG")
    assert replace(Recipe(), steps=1).steps == 1
