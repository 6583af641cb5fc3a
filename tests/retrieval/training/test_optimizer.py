"""Which parameter moves how: decay, rates by layer, frozen towers, Muon."""

import pytest
import torch

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.config import Recipe
from rwkvsearch.retrieval.training.optimizer import Optimizer
from rwkvsearch.retrieval.training.state import start_average, update_average


def moved(model: RwkvClip, recipe: Recipe, rate: float = 1e-3) -> dict[str, float]:
    """Largest change of each parameter after a step along gradients of ones."""
    optimizer = Optimizer(model, recipe)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step(rate)
    return {n: (p - before[n]).abs().max().item() for n, p in model.named_parameters()}


def test_rates_by_layer(moving_model: RwkvClip) -> None:
    """Two blocks a tower: AdamW's first step is the rate, whatever the gradient."""
    change = moved(moving_model, Recipe(layer_decay=0.5, weight_decay=0.0, clip=1e9))
    wanted = {
        "logit_scale": 1.0,
        "image.norm.weight": 1.0,
        "image.blocks.1.norm1.weight": 1.0,
        "image.blocks.0.norm1.weight": 0.5,
        "image.patch_embed.weight": 0.25,
        "image.position": 0.25,
        "text.embed.weight": 0.25,
        "text.blocks.0.time_mix.key.weight": 0.5,
    }
    assert {k: change[k] / 1e-3 for k in wanted} == pytest.approx(wanted, rel=1e-3)


def test_only_matrices_decay(moving_model: RwkvClip) -> None:
    with torch.no_grad():
        for parameter in moving_model.parameters():
            parameter.fill_(1.0)
    optimizer = Optimizer(moving_model, Recipe(weight_decay=0.5))
    for parameter in moving_model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.1)
    for name, parameter in moving_model.named_parameters():
        wanted = 0.95 if parameter.squeeze().ndim >= 2 else 1.0
        assert parameter.flatten()[0].item() == pytest.approx(wanted), name


def test_muon_moves_the_matrices_of_the_blocks(moving_model: RwkvClip) -> None:
    """Its update of a matrix of ones is one of rank 1 with AdamW's root mean square of 0.2."""
    recipe = Recipe(muon=2.0, weight_decay=0.0, clip=1e9)
    change = moved(moving_model, recipe)
    assert change["image.patch_embed.weight"] == pytest.approx(1e-3, rel=1e-3)
    assert change["text.embed.weight"] == pytest.approx(1e-3, rel=1e-3)
    key = "text.blocks.0.time_mix.key.weight"
    assert change[key] != pytest.approx(1e-3, rel=0.1) and 1e-5 < change[key] < 2e-3
    assert change["text.blocks.0.time_mix.bonus"] == pytest.approx(1e-3, rel=1e-3)


def test_muon_of_an_older_torch(moving_model: RwkvClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    Optimizer(moving_model, Recipe())
    with pytest.raises(ModelError, match="Muon needs torch 2.9"):
        Optimizer(moving_model, Recipe(muon=1.0))


def test_gradients_are_clipped_together(moving_model: RwkvClip) -> None:
    optimizer = Optimizer(moving_model, Recipe(clip=0.5))
    for parameter in moving_model.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert optimizer.clip_gradients() > 0.5
    norms = [p.grad.norm() for p in moving_model.parameters() if p.grad is not None]
    assert float(torch.stack(norms).norm()) == pytest.approx(0.5, rel=1e-4)


def test_average(moving_model: RwkvClip) -> None:
    """After a constant move the average has covered the share it was told to."""
    average = start_average(moving_model, 0.9)
    assert average is not None and start_average(moving_model, 0.0) is None
    start = average.logit_scale.item()
    with torch.no_grad():
        moving_model.logit_scale += 1.0
    update_average(average, moving_model, 0.9, step=1000)
    assert average.logit_scale.item() == pytest.approx(start + 0.1, abs=1e-6)
    update_average(average, moving_model, 0.9, step=0)  # early: 0.1 of the old
    assert average.logit_scale.item() == pytest.approx(start + 1 - 0.9 * 0.1, abs=1e-6)
    assert not any(parameter.requires_grad for parameter in average.parameters())
