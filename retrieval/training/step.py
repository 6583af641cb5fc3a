"""One step: the gradients of a batch, computed in parts, on several cores and by several processes.

All features of a batch meet in one loss, the same in every process; each process then follows the
gradients of its own features back through the towers, and the sum over processes is the gradient
of the whole batch. Source of the idea: GradCache (arXiv 2101.06983).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rwkvsearch.retrieval.cores import map_on_cores
from rwkvsearch.retrieval.rwkv_clip.image_tower import ImageTower
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.config import Hardware, Objective
from rwkvsearch.retrieval.training.loss import (
    class_loss,
    contrastive_loss,
    relation_loss,
    target_loss,
)
from rwkvsearch.retrieval.training.mixture import Batch
from rwkvsearch.retrieval.training.processes import ALONE, Processes

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _Part:
    """Some inputs of a tower, the targets `[b, patches, D]` of their patches, and what came out."""

    tower: nn.Module
    inputs: Tensor
    targets: Tensor | None = None
    features: Tensor | None = None
    """`[b, D]`."""
    patch_loss: Tensor | None = None
    """Scalar, summed over pictures."""


def gradients(
    model: RwkvClip,
    batch: Batch,
    objective: Objective,
    hardware: Hardware,
    *,
    contrast: bool = True,
    processes: Processes = ALONE,
) -> dict[str, float]:
    """Set the gradient of every parameter to that of the loss; return the loss and its terms.

    A parameter that does not require one gets none. `batch` is the part of this process. The
    contrastive term can be left out.
    """
    objective = objective if contrast else replace(objective, contrast=0.0)
    parts = _parts(model, batch, objective, hardware)
    parts = _spread(model, lambda part: _forward(part, hardware), parts)
    images, texts = (_leaf(parts, tower) for tower in (model.image, model.text))
    model.zero_grad()
    terms = _terms(model, batch, images, texts, objective, processes)
    sum(terms.values(), 0 * (images.sum() + texts.sum())).backward()  # type: ignore[no-untyped-call]
    patch_weight = objective.patch / batch.images_in_all
    if objective.patch:
        losses = [p.patch_loss.detach() for p in parts if p.patch_loss is not None]
        terms["patch"] = patch_weight * torch.stack(losses).sum()
    ahead = [*_rows(parts, model.image, images), *_rows(parts, model.text, texts)]
    _backward(model, parts, ahead, patch_weight, hardware)
    towers = [*model.image.parameters(), *model.text.parameters()]
    processes.add([p.grad for p in towers if p.grad is not None])
    return _report(terms, processes)


def checkpoint_blocks(model: RwkvClip) -> None:
    """Let both towers keep only the input of each block, and run it again on the way back."""
    for tower in (model.image, model.text):
        tower.blocks = _Checkpointed(*tower.blocks)


class _Checkpointed(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            x = checkpoint(block, x, use_reentrant=False)
        return x


def _parts(model: RwkvClip, batch: Batch, objective: Objective, hardware: Hardware) -> list[_Part]:
    pixels, ids = torch.from_numpy(batch.pixels), torch.from_numpy(batch.ids)
    cores = _at_once(model)
    targets = batch.patch_targets if objective.patch else None

    def count(rows: int) -> int:
        return min(rows, cores * math.ceil(rows / (cores * hardware.part)))

    cut = count(len(pixels))
    image_targets: Sequence[Tensor | None] = (
        [None] * cut if targets is None else targets.tensor_split(cut)
    )
    return [
        *map(_Part, [model.image] * cut, pixels.tensor_split(cut), image_targets),
        *(_Part(model.text, part) for part in ids.tensor_split(count(len(ids)))),
    ]


def _forward(part: _Part, hardware: Hardware, *, again: bool = False) -> _Part:
    """Run a part through its tower, keeping what the way back needs, or not yet."""
    device = next(part.tower.parameters()).device
    keep = again or not hardware.cached
    trained = any(p.requires_grad for p in part.tower.parameters())
    # Without the cache of autocast: it is one for all threads, and every weight is used once.
    with (
        torch.set_grad_enabled(keep and trained),
        torch.autocast(
            device.type, torch.bfloat16, enabled=hardware.precision == "bf16", cache_enabled=False
        ),
    ):
        inputs = part.inputs.to(device, non_blocking=True)
        if part.targets is None or not isinstance(part.tower, ImageTower):
            return replace(part, features=part.tower(inputs))
        tokens = part.tower.tokens(inputs)
        loss = target_loss(tokens, part.targets.to(device)) * len(inputs)
        return replace(part, features=tokens.mean(1), patch_loss=loss)


def _leaf(parts: Sequence[_Part], tower: nn.Module) -> Tensor:
    own = [p.features.detach() for p in parts if p.tower is tower and p.features is not None]
    return torch.cat(own).float().requires_grad_()


def _terms(
    model: RwkvClip,
    batch: Batch,
    images: Tensor,
    texts: Tensor,
    objective: Objective,
    processes: Processes,
) -> dict[str, Tensor]:
    """Return the weighted terms of the loss, but for that of the patches.

    `image`, `text` and `classes` are the share of this process, the others are the same in all.
    """
    pairs, total, terms = batch.pairs, len(batch.groups), {}
    every_image = processes.gather(images[:pairs], total)
    every_text = processes.gather(texts[:pairs], total)
    if objective.contrast:
        groups = torch.from_numpy(batch.groups).to(images.device)
        loss = contrastive_loss(every_image, every_text, model.logit_scale, groups)
        terms["contrast"] = objective.contrast * loss
    if batch.patch_targets is None or batch.text_targets is None:
        return terms
    image_targets = batch.patch_targets.mean(1).to(images.device)
    text_targets = batch.text_targets.to(texts.device)
    if objective.image:
        share = len(images) / batch.images_in_all
        terms["image"] = objective.image * share * target_loss(images, image_targets)
    if objective.text:
        share = len(texts) / batch.texts_in_all
        terms["text"] = objective.text * share * target_loss(texts, text_targets)
    if objective.classes and batch.classes is not None and batch.class_rows is not None:
        rows = torch.from_numpy(batch.class_rows).to(images.device)
        loss = class_loss(images, rows, batch.classes.targets.to(images.device))
        terms["classes"] = objective.classes * loss / max(batch.classed_in_all, 1)
    if objective.relation:
        goals = (processes.gather(x[:pairs], total) for x in (image_targets, text_targets))
        terms["relation"] = objective.relation * relation_loss(every_image, every_text, *goals)
    return terms


def _rows(parts: Sequence[_Part], tower: nn.Module, features: Tensor) -> Sequence[Tensor]:
    """Return the gradient of the features of each part of a tower."""
    assert features.grad is not None
    return torch.split(features.grad, [len(p.inputs) for p in parts if p.tower is tower])


def _backward(
    model: RwkvClip,
    parts: Sequence[_Part],
    ahead: Sequence[Tensor],
    patch_weight: float,
    hardware: Hardware,
) -> None:
    """Follow the gradients of the features back, as many parts at once as there are cores."""

    def back(work: tuple[_Part, Tensor]) -> tuple[Tensor, ...]:
        part, grad = work
        part = _forward(part, hardware, again=True) if hardware.cached else part
        assert part.features is not None
        outputs, grads = [part.features], [grad.to(part.features.dtype)]
        if part.patch_loss is not None:
            outputs.append(part.patch_loss)
            grads.append(torch.full_like(part.patch_loss, patch_weight))
        return torch.autograd.grad(outputs, _trained(part.tower), grads)

    work = [w for w in zip(parts, ahead, strict=True) if _trained(w[0].tower)]
    cores = _at_once(model)
    for start in range(0, len(work), cores):
        wave = work[start : start + cores]
        for (part, _), grads in zip(wave, _spread(model, back, wave), strict=True):
            _add(_trained(part.tower), grads)


def _add(parameters: Sequence[nn.Parameter], grads: Sequence[Tensor]) -> None:
    before = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if before:
        torch._foreach_add_(before, tuple(grads))
    else:
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad


def _trained(tower: nn.Module) -> list[nn.Parameter]:
    return [p for p in tower.parameters() if p.requires_grad]


def _spread(model: RwkvClip, function: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """Apply `function` to each part: on a core each, or one after the other on a GPU."""
    if _at_once(model) == 1:
        return [function(part) for part in parts]
    return map_on_cores(function, parts)


def _at_once(model: RwkvClip) -> int:
    return 1 if model.logit_scale.device.type == "cuda" else torch.get_num_threads()


def _report(terms: dict[str, Tensor], processes: Processes) -> dict[str, float]:
    """Return the terms of the whole batch and, as `loss`, their sum."""
    found = {name: value.detach().clone() for name, value in terms.items()}
    processes.add([found[name] for name in ("image", "patch", "text", "classes") if name in found])
    figures = {name: value.item() for name, value in found.items()}
    return {"loss": sum(figures.values())} | figures
