"""What a training run is at a step, and how it is kept: everything an exact resume needs.

Batches are functions of seed and step, and nothing else is random, so there is no sampler and no
random state to keep.
"""

import copy
import fcntl
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.files import replacing
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.config import TrainingConfig
from rwkvsearch.retrieval.training.optimizer import Optimizer

CHECKPOINT_FILE = "checkpoint.pt"
BEST_FILE = "best.pt"


@dataclass
class TrainingState:
    """Model, moving average of its weights (None: not wanted), optimizer, and how far it is."""

    model: RwkvClip
    optimizer: Optimizer
    average: RwkvClip | None
    data: str = ""
    """Fingerprint of the examples, see `examples.fingerprint`."""
    step: int = 0
    best: float = -math.inf
    """Largest merit so far: mean recall, or the loss with its sign turned."""

    @property
    def judged(self) -> RwkvClip:
        """The weights that are measured and kept: the average where there is one."""
        return self.average or self.model


def start_average(model: RwkvClip, share: float) -> RwkvClip | None:
    """Return a copy that `update_average` will move, or None for a share of 0."""
    return copy.deepcopy(model).requires_grad_(False).eval() if share else None


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, share: float, step: int) -> None:
    """Move the average towards the weights, faster in early steps: it should forget its start."""
    share = min(share, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - share)


def save_state(state: TrainingState, config: TrainingConfig, folder: Path) -> None:
    """Write the checkpoint; a reader sees the old one or the new one."""
    average = state.average.state_dict() if state.average else None
    contents = {
        "shape": state.model.config.to_dict(),
        "step": state.step,
        "best": state.best,
        "model": state.model.state_dict(),
        "average": average,
        "optimizer": state.optimizer.state_dict(),
        "config": config.to_dict(),
        "data": state.data,
    }
    _write(contents, folder / CHECKPOINT_FILE)


def save_best(state: TrainingState, figures: dict[str, float], folder: Path) -> None:
    """Write the weights of now as the best so far, with what they reached."""
    contents = {
        "shape": state.model.config.to_dict(),
        "step": state.step,
        "figures": figures,
        "model": state.judged.state_dict(),
    }
    _write(contents, folder / BEST_FILE)


def restore_state(state: TrainingState, config: TrainingConfig, folder: Path) -> None:
    """Fill `state` from the checkpoint of `folder`, if there is one.

    Raises:
        DataError: the checkpoint is damaged, or was made under another recipe, data or model.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return
    kept = read_checkpoint(path)
    if missing := {"shape", "step", "best", "model", "optimizer", "config", "data"} - kept.keys():
        raise DataError(f"{path}: not a checkpoint of a training run: no {min(missing)}")
    changed = _differences(kept["config"], config.to_dict())
    if kept["shape"] != state.model.config.to_dict():
        changed.append("another shape of model")
    if kept["data"] != state.data:
        changed.append("other pictures or texts")
    if changed:
        raise DataError(
            f"{path}: that run has other settings: {'; '.join(changed)}. Give the same ones to go "
            "on with it, another --to folder for a new run, or --start with this folder to build "
            "upon its weights"
        )
    state.model.load_state_dict(kept["model"])
    if state.average is not None:
        state.average.load_state_dict(kept["average"])
    state.optimizer.load_state_dict(kept["optimizer"])
    state.step, state.best = kept["step"], kept["best"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint or the best weights of a run; `DataError` where it is damaged."""
    try:
        kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises what the damage leads it to
        raise DataError(f"{path}: not a checkpoint of a training run: {error}") from error
    return kept


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What decides the result and differs; how it is computed and measured may change."""
    ours, theirs = (
        {k: v for k, v in _flat(x) if k.split(".")[0] not in ("hardware", "validation")}
        for x in (new, old)
    )
    fields = sorted(ours.keys() | theirs.keys())
    return [
        f"{field} {theirs.get(field)!r} there, {ours.get(field)!r} here"
        for field in fields
        if ours.get(field) != theirs.get(field)
    ]


def _flat(values: Any, name: str = "") -> list[tuple[str, Any]]:
    if isinstance(values, list | tuple):
        values = dict(enumerate(values))
    if not isinstance(values, dict):
        return [(name, values)]
    inner = ((f"{name}.{key}" if name else str(key), value) for key, value in values.items())
    return [entry for key, value in inner for entry in _flat(value, key)]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let nobody else train in `folder`.

    Raises:
        DataError: another process does, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / "run.lock").open("a+")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{folder}: another rwkvsearch is training there") from error
        yield


def _write(contents: dict[str, Any], path: Path) -> None:
    try:
        with replacing(path) as file:
            torch.save(contents, file)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        reason = getattr(error, "strerror", None) or "the disk is full, or went away"
        raise DataError(f"{path}: cannot be written: {reason}; the one before is kept") from error
