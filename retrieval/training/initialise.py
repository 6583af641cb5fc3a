"""Starting values of a model trained from scratch, after the formulas of RWKV-6."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from rwkvsearch.retrieval.rwkv_clip.mixing import Block, ChannelMix, TimeMix
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip

LEAST_VARIANCE = 0.01
"""Added to the variance of each component, so that noise is not blown up."""


@torch.no_grad()
def initialise(model: RwkvClip, seed: int) -> None:
    """Fill every parameter in place; the same seed gives the same weights.

    Source: RWKV-6 (arXiv 2404.05892), appendix on initialisation; the residual branches start at 0.
    """
    random = torch.Generator().manual_seed(seed)
    for tower in (model.image, model.text):
        for index, block in enumerate(tower.blocks):
            assert isinstance(block, Block)
            position = index / (len(tower.blocks) - 1)
            _time_mix(block.time_mix, position, 1 - index / len(tower.blocks), random)
            _channel_mix(block.channel_mix, 1 - index / len(tower.blocks), random)
    nn.init.trunc_normal_(model.image.position, std=0.02, generator=random)
    patch = model.image.patch_embed
    nn.init.trunc_normal_(
        patch.weight, std=1 / math.sqrt(patch.weight[0].numel()), generator=random
    )
    nn.init.zeros_(patch.bias)  # type: ignore[arg-type]
    nn.init.normal_(model.text.embed.weight, std=0.02, generator=random)
    model.logit_scale.fill_(math.log(1 / 0.07))


@torch.no_grad()
def whiten_patches(model: RwkvClip, pixels: Tensor, seed: int) -> None:
    """Start the patch embedding from the principal components of patches, equal in variance.

    Pictures vary most where they say least, from one wide area to the next; after this, edges and
    textures come through as strongly. `pixels` are `[B, 3, S, S]`. Source of the idea: whitened
    first layers (Coates and Ng 2012).
    """
    layer = model.image.patch_embed
    size = layer.kernel_size[0]
    patches = functional.unfold(pixels, size, stride=size).mT.flatten(0, 1)  # [patches, inputs]
    mean = patches.mean(0)
    patches = patches - mean
    variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))
    kept = layer.out_channels
    random = torch.Generator().manual_seed(seed)
    signs = torch.randint(2, (min(kept, len(variances)),), generator=random) * 2.0 - 1
    scale = signs / (variances.flip(0)[:kept].clamp(min=0) + LEAST_VARIANCE).sqrt()
    weight = scale[:, None] * components.mT.flip(0)[:kept]
    layer.weight[: len(weight)] = weight.view(-1, *layer.weight.shape[1:])
    layer.bias[: len(weight)] = -weight @ mean  # type: ignore[index]


def _time_mix(mix: TimeMix, position: float, remaining: float, random: torch.Generator) -> None:
    width = mix.output.out_features
    ramp = torch.arange(width) / width
    for parameter in (mix.mix_x, mix.mix_w, mix.mix_k):
        _fill(parameter, 1 - ramp**remaining)
    _fill(mix.mix_v, 1 - (ramp**remaining + 0.3 * position))
    for parameter in (mix.mix_r, mix.mix_g):
        _fill(parameter, 1 - ramp ** (remaining / 2))
    for parameter in (mix.mix_down, mix.decay_down):
        nn.init.uniform_(parameter, -1e-4, 1e-4, generator=random)
    for parameter in (mix.mix_up, mix.decay_up):
        nn.init.uniform_(parameter, -1e-2, 1e-2, generator=random)
    edge = torch.arange(width) / (width - 1)
    _fill(mix.decay, -6 + 5 * edge ** (0.7 + 1.3 * position))
    zigzag = ((torch.arange(width) + 1) % 3 - 1) * 0.1
    _fill(mix.bonus, position * (1 - edge) + zigzag)
    for layer in (mix.receptance, mix.key, mix.value, mix.gate):
        nn.init.normal_(layer.weight, std=1 / math.sqrt(width), generator=random)
    nn.init.zeros_(mix.output.weight)


def _channel_mix(mix: ChannelMix, remaining: float, random: torch.Generator) -> None:
    width = mix.receptance.out_features
    ramp = 1 - (torch.arange(width) / width) ** remaining
    for parameter in (mix.mix_k, mix.mix_r):
        _fill(parameter, ramp if mix.toward_neighbour else 1 - ramp)
    for layer in (mix.key, mix.receptance):
        nn.init.normal_(layer.weight, std=1 / math.sqrt(width), generator=random)
    nn.init.zeros_(mix.value.weight)


def _fill(parameter: nn.Parameter, values: Tensor) -> None:
    parameter.copy_(values.view_as(parameter))
