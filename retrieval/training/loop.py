"""The training loop: one process on a CPU, resumable at every checkpoint."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rwkvsearch.retrieval.cores import map_on_cores
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.initialise import initialise
from rwkvsearch.retrieval.training.loss import contrastive_loss
from rwkvsearch.retrieval.training.mixture import Batch, Source, Tokenize, draw_batch

PAIRS_AT_ONCE = 48
"""Most pairs that a core takes through the towers at once: 128 of them are 1.4 times slower."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result, but for the data and the shape of the model."""

    steps: int
    peak_rate: float = 1e-3
    warm_up: int = 100
    """Steps from a rate of 0 to the peak; a cosine leads back to 0."""
    weight_decay: float = 0.1
    """For matrices only."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    small_size: int = 80
    """Image size of the first part, pixels: fewer tokens, more pairs in the same time."""
    small_part: float = 0.7
    """Share of the steps at the small size."""
    seed: int = 0

    def rate(self, step: int) -> float:
        """Return the learning rate of `step`."""
        if step < self.warm_up:
            return self.peak_rate * (step + 1) / self.warm_up
        progress = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.peak_rate * (1 + math.cos(math.pi * progress)) / 2

    def image_size(self, step: int, full: int) -> int:
        """Return the image size of `step`, pixels."""
        return self.small_size if step < self.small_part * self.steps else full


def train(
    model: RwkvClip,
    sources: Sequence[Source],
    tokenize: Tokenize,
    recipe: Recipe,
    folder: Path,
    *,
    evaluate: Callable[[RwkvClip], dict[str, float]],
    every: int = 100,
) -> None:
    """Train `model` in place, going on from `folder/checkpoint.pt` where there is one.

    The recipe is not kept in the checkpoint: hand in the same one to go on as if unbroken.

    Writes the checkpoint and one JSON line of figures to `folder/log.jsonl` every `every` steps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = _optimizer(model, recipe)
    start = _restore(model, optimizer, folder / "checkpoint.pt", recipe.seed)
    losses, began = [], time.monotonic()
    batches = _batches(sources, tokenize, recipe, model.config.image.image_size, start)
    for step, batch in enumerate(batches, start):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        losses.append(_step(model, optimizer, batch, recipe.clip))
        if (step + 1) % every == 0 or step + 1 == recipe.steps:
            figures = {"step": step + 1, "loss": sum(losses) / len(losses)}
            figures["pairs_per_second"] = len(losses) * len(batch.ids) / (time.monotonic() - began)
            _save(model, optimizer, step + 1, folder / "checkpoint.pt")
            _log(folder / "log.jsonl", figures | evaluate(model))
            losses, began = [], time.monotonic()


def _step(
    model: RwkvClip, optimizer: torch.optim.Optimizer, batch: Batch, largest_norm: float
) -> float:
    model.train().requires_grad_(True)
    loss = gradients(model, batch)
    torch.nn.utils.clip_grad_norm_(model.parameters(), largest_norm)
    optimizer.step()
    optimizer.zero_grad()
    return loss


def gradients(model: RwkvClip, batch: Batch) -> float:
    """Set the gradient of every parameter to that of the loss, which is returned.

    Each core takes parts of the batch through the towers and back; between the two, all features
    meet in one loss.
    """
    cores = torch.get_num_threads()
    count = min(cores * math.ceil(len(batch.ids) / (cores * PAIRS_AT_ONCE)), len(batch.ids))
    parts = [torch.from_numpy(x).tensor_split(count) for x in (batch.pixels, batch.ids)]

    def forward(part: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        # Without the cache: it is one for all threads, and every weight is used once.
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            images, texts, _ = model(*part)
        return images, texts

    outputs = map_on_cores(forward, list(zip(*parts, strict=True)))
    images, texts = (
        torch.cat([x.detach() for x in part]).requires_grad_()
        for part in zip(*outputs, strict=True)
    )
    groups = torch.from_numpy(batch.groups)
    loss = contrastive_loss(images, texts, model.logit_scale, groups)
    model.logit_scale.grad = None
    loss.backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None and texts.grad is not None
    towers = [*model.image.parameters(), *model.text.parameters()]

    def backward(part: tuple[tuple[Tensor, ...], Tensor, Tensor]) -> tuple[Tensor, ...]:
        features, *grads = part
        return torch.autograd.grad(features, towers, grads)

    grads = [images.grad.tensor_split(count), texts.grad.tensor_split(count)]
    first, *others = map_on_cores(backward, list(zip(outputs, *grads, strict=True)))
    for other in others:
        torch._foreach_add_(first, other)
    for parameter, grad in zip(towers, first, strict=True):
        parameter.grad = grad
    return loss.item()


def _optimizer(model: RwkvClip, recipe: Recipe) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.squeeze().ndim >= 2]
    others = [p for p in model.parameters() if p.squeeze().ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.peak_rate, betas=(0.9, 0.98), fused=True)


def _batches(
    sources: Sequence[Source], tokenize: Tokenize, recipe: Recipe, full_size: int, start: int
) -> Iterator[Batch]:
    """Yield the batches from `start` on; the next one is made while this one is used."""

    def draw(step: int) -> Batch:
        size = recipe.image_size(step, full_size)
        return draw_batch(sources, tokenize, size=size, seed=recipe.seed, step=step)

    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(draw, start)
        for step in range(start, recipe.steps):
            batch = pending.result()
            if step + 1 < recipe.steps:
                pending = pool.submit(draw, step + 1)
            yield batch


def _restore(model: RwkvClip, optimizer: torch.optim.Optimizer, path: Path, seed: int) -> int:
    if not path.exists():
        initialise(model, seed)
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    step: int = state["step"]
    return step


def _save(model: RwkvClip, optimizer: torch.optim.Optimizer, step: int, path: Path) -> None:
    state: dict[str, object] = {"step": step, "model": model.state_dict()}
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state | {"optimizer": optimizer.state_dict()}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _log(path: Path, figures: dict[str, float]) -> None:
    rounded = {name: round(value, 4) for name, value in figures.items()}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(rounded) + "\n")
