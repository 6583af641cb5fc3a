"""What moves the weights: AdamW, or Muon for the matrices of the blocks and AdamW for the rest."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.cores import map_on_cores
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.config import Recipe
from rwkvsearch.retrieval.training.loss import MAX_LOG_SCALE

_BLOCK = re.compile(r"blocks\.(\d+)\.")


class Optimizer:
    """All parameters of a model that are trained, each at its share of one rate.

    A frozen tower stops requiring gradients. The share is `layer_decay` to the power of the blocks
    between a parameter and the end of its tower. Source of Muon: K. Jordan et al. 2024; its
    updates have the size of AdamW's (arXiv 2502.16982), so that one rate serves both.

    Raises:
        ModelError: Muon is asked for, and this torch has none.
    """

    def __init__(self, model: RwkvClip, recipe: Recipe) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.partition(".")[0] != recipe.freeze)
        self.model, self.clip = model, recipe.clip
        self._parts = list(_parts(model, recipe))

    def clip_gradients(self) -> float:
        """Shorten all gradients together to the largest norm; return how long they were."""
        return torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip).item()

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move the weights along their gradients; the scale stays where its clamp is inactive."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * group["scale"]
        first, *others = self._parts
        first.step()
        map_on_cores(lambda part: part.step(), others)
        self.model.logit_scale.clamp_(0, MAX_LOG_SCALE)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return what `load_state_dict` takes."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, state: Sequence[dict[str, Any]]) -> None:
        """Go on from a kept state."""
        for part, kept in zip(self._parts, state, strict=True):
            part.load_state_dict(kept)


def _parts(model: RwkvClip, recipe: Recipe) -> Iterator[torch.optim.Optimizer]:
    """Yield AdamW, then one Muon a block, so that blocks can be computed side by side."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = defaultdict(list)
    products: dict[str, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and recipe.muon and _is_product(name, parameter):
            products[name[: _BLOCK.search(name).end()]].append(parameter)  # type: ignore[union-attr]
        elif parameter.requires_grad:
            groups[parameter.squeeze().ndim >= 2, _scale(name, model, recipe)].append(parameter)
    settings = [
        {"params": group, "weight_decay": recipe.weight_decay * is_matrix, "scale": scale}
        for (is_matrix, scale), group in groups.items()
    ]
    yield torch.optim.AdamW(settings, lr=recipe.peak_rate, betas=(0.9, 0.98), fused=True)
    if products and not hasattr(torch.optim, "Muon"):
        raise ModelError("Muon needs torch 2.9: upgrade it, or set muon = 0 for AdamW alone")
    for block, parameters in products.items():
        scale = recipe.muon * _scale(block, model, recipe)
        group = {"params": parameters, "weight_decay": recipe.weight_decay, "scale": scale}
        yield torch.optim.Muon([group], lr=recipe.peak_rate, adjust_lr_fn="match_rms_adamw")


def _is_product(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is a matrix that a block multiplies with."""
    return ".blocks." in name and parameter.ndim == 2 and not name.endswith(".bonus")


def _scale(name: str, model: RwkvClip, recipe: Recipe) -> float:
    tower, _, rest = name.partition(".")
    if tower not in ("image", "text") or rest.startswith("norm"):
        return 1.0
    depth = len(getattr(model, tower).blocks)
    block = _BLOCK.match(rest)
    return recipe.layer_decay ** (depth - int(block[1]) - 1 if block else depth)
