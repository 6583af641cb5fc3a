"""One tower of ours and one of CLIP's shape in the same engine and precision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.speed import ClipImage, ClipText, packed_clip
from rwkvsearch.retrieval.speed_times import Run

if TYPE_CHECKING:
    from rwkvsearch.retrieval.models import Precision

Tower = Literal["image", "text"]
Pair = Callable[[NDArray[Any]], tuple[Run, Run]]
"""Inputs `[B, ...]` to a run of ours and one of CLIP's over them."""


def usual_engine(precision: Precision, device: torch.device) -> str:
    """Return the engine that an encoder computes with: `openvino` where it is installed.

    `$RWKVSEARCH_ENGINE=torch` forbids it.
    """
    if device.type != "cpu" or precision in ("bf16", "int8"):
        return "torch"
    from rwkvsearch.retrieval.graphs.choice import asked_engine

    installed = find_spec("openvino") is not None
    return "openvino" if installed and asked_engine() != "torch" else "torch"


def make_pair(
    model: RwkvClip,
    clip: ClipImage | ClipText,
    tower: Tower,
    precision: Precision,
    device: torch.device,
) -> Pair:
    """Make both towers ready; `model` is neither packed nor changed."""
    if device.type != "cpu":
        return _on_device(getattr(model, tower), clip, precision, device)
    if usual_engine(precision, device) == "openvino":
        return _in_openvino(model, clip, tower, half=precision != "fp32")
    return _in_torch(model, clip, tower, precision)


def _on_device(
    ours: nn.Module, clip: nn.Module, precision: Precision, device: torch.device
) -> Pair:
    """Both as the encoder runs them there: bf16 by autocast. The inputs are there already."""
    towers = ours.to(device), clip.to(device)

    def pair(inputs: NDArray[Any]) -> tuple[Run, Run]:
        there = torch.from_numpy(inputs).to(device)

        def run(tower: nn.Module) -> Run:
            @torch.inference_mode()
            def once() -> object:
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                    return tower(there)

            return once

        return run(towers[0]), run(towers[1])

    return pair


def _in_torch(
    model: RwkvClip, clip: ClipImage | ClipText, tower: Tower, precision: Precision
) -> Pair:
    """Both packed, and both cut into micro-batches as the encoder does."""
    from rwkvsearch.retrieval.cores import map_on_cores
    from rwkvsearch.retrieval.encoder import micro_batches
    from rwkvsearch.retrieval.rwkv_clip.packed import pack

    ours = getattr(pack(copy.deepcopy(model), precision), tower)
    theirs = packed_clip(clip, torch.bfloat16 if precision == "bf16" else torch.float32)
    config = model.config
    tokens = config.image.rows**2 if tower == "image" else config.text.context

    def pair(inputs: NDArray[Any]) -> tuple[Run, Run]:
        parts = torch.from_numpy(inputs).tensor_split(micro_batches(len(inputs) * tokens))

        def run(of: nn.Module) -> Run:
            @torch.inference_mode()
            def part(rows: Tensor) -> Tensor:
                features: Tensor = of(rows)
                return features

            return lambda: map_on_cores(part, parts)

        return run(ours), run(theirs)

    return pair


def _in_openvino(model: RwkvClip, clip: ClipImage | ClipText, tower: Tower, *, half: bool) -> Pair:
    """Both compiled for the size of the batch, or for as many rows as the encoder takes at once."""
    from rwkvsearch.retrieval.graphs.files import input_shape, openvino_model
    from rwkvsearch.retrieval.graphs.openvino_tower import ROWS_AT_ONCE, compile_tower

    kept: dict[int, tuple[Any, Any]] = {}

    def pair(inputs: NDArray[Any]) -> tuple[Run, Run]:
        rows = min(len(inputs), ROWS_AT_ONCE)
        if rows not in kept:
            shape = input_shape(model.config, tower, rows)
            kept[rows] = (
                compile_tower(lambda: openvino_model(model, tower, shape), "", half, keep=False),
                compile_tower(lambda: _clip_graph(clip, shape), "", half, keep=False),
            )
        ours, theirs = kept[rows]
        return lambda: ours(inputs), lambda: theirs(inputs)

    return pair


def _clip_graph(clip: ClipImage | ClipText, shape: tuple[int, ...]) -> Any:
    """A tower of CLIP's shape for inputs of `shape`, as an `openvino.Model`."""
    from rwkvsearch.retrieval.graphs.clip import clip_image_graph, clip_text_graph
    from rwkvsearch.retrieval.graphs.openvino_ops import OpenvinoOps, parameter
    from rwkvsearch.retrieval.graphs.quiet import openvino

    if isinstance(clip, ClipImage):
        entry = parameter(shape, np.float32)
        features = clip_image_graph(OpenvinoOps(), clip, entry, shape[0])
    else:
        entry = parameter(shape, np.int64)
        features = clip_text_graph(OpenvinoOps(), clip, entry)
    return openvino.Model([features], [entry], "tower")
