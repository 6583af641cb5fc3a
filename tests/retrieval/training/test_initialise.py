"""Starting weights: the same for a seed, blocks as identity, and whitened patches."""

import math

import pytest
import torch

from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.initialise import initialise, whiten_patches


def test_deterministic(tiny_config: ModelConfig) -> None:
    states = []
    for seed in (0, 0, 1):
        model = RwkvClip(tiny_config)
        torch.rand(seed + 5)  # the state of the process is not part of it
        initialise(model, seed)
        states.append(model.state_dict())
    assert all(torch.equal(x, states[1][k]) for k, x in states[0].items())
    assert any(not torch.equal(x, states[2][k]) for k, x in states[0].items())


def test_blocks_start_as_identity(tiny_config: ModelConfig) -> None:
    model = RwkvClip(tiny_config)
    initialise(model, 0)
    x = torch.randn(2, 12, 32)
    block = model.text.blocks[1]
    assert torch.equal(block(x), x)
    assert all(p.isfinite().all() for p in model.parameters())
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))


def test_every_parameter_is_filled(tiny_config: ModelConfig) -> None:
    """None keeps what the constructor drew, but for the norms, which start at 1 and 0."""
    model = RwkvClip(tiny_config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.fill_(torch.nan)
    initialise(model, 0)
    assert [k for k, p in model.named_parameters() if not p.isfinite().all()] == []


def test_whitened_patches_have_no_mean_equal_variance_and_no_correlation(
    tiny_config: ModelConfig,
) -> None:
    model = RwkvClip(tiny_config)
    initialise(model, 0)
    random = torch.Generator().manual_seed(0)
    # Smooth pictures, whose patches vary far more in some directions than in others.
    pixels = torch.randn(600, 3, 8, 8, generator=random).repeat_interleave(4, 2)
    pixels = pixels.repeat_interleave(4, 3) * 3 + 1 + 0.3 * torch.randn(600, 3, 32, 32)
    whiten_patches(model, pixels, 0)
    with torch.inference_mode():
        values = model.image.patch_embed(pixels).flatten(2).mT.flatten(0, 1)  # [patches, C]
    covariance = torch.cov(values.T)
    assert values.mean(0).abs().max() < 1e-2
    assert 0.5 < covariance.diagonal().min() and covariance.diagonal().max() < 1.01
    off = covariance - covariance.diagonal().diag()
    assert off.abs().max() < 1e-2
