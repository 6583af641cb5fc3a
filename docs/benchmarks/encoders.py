"""The towers alone: ours and transformers of CLIP's shape in each engine, random weights.

Beside them stands RWKV-CLIP in plain torch as its authors write it: linear layers as they come and
the recurrence of Bi-WKV as a loop over tokens (theirs is a CUDA kernel, which no CPU can run).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from report import Table, tell
from torch import nn

from rwkvsearch.kernels.bi_wkv import bi_wkv
from rwkvsearch.retrieval.graphs.clip import clip_image_graph
from rwkvsearch.retrieval.graphs.ops import Node, Ops
from rwkvsearch.retrieval.graphs.towers import image_graph
from rwkvsearch.retrieval.rwkv_clip import mixing
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.speed import ClipImage, random_model
from rwkvsearch.retrieval.speed_engines import make_pair
from rwkvsearch.retrieval.speed_times import Effort, Run, Times, race, ratio

Pixels = NDArray[np.float32]
Pair = tuple[Run, Run]
"""Ours and CLIP's."""
Build = Callable[[Ops, Node], Node]
COLUMNS = ("shape", "batch", "engine", "ours, images/s", "ViT, images/s", "ours to ViT",
           "ours to ViT, processor", "ours to plain RWKV-CLIP, processor")  # fmt: skip


def measure(
    shapes: dict[str, ModelConfig], batches: Sequence[int], effort: Effort, plain_upto: int
) -> Table:
    """Ours and CLIP's in all engines in turn; plain RWKV-CLIP up to batches of `plain_upto`."""
    table = Table("Image towers, fp32, random weights; ratios above 1: ours is faster", COLUMNS)
    for package in ("onnxruntime", "openvino"):
        if not find_spec(package):
            table.left_out.append(f"{package}: it is not installed")
    for name, config in shapes.items():
        model, clip = random_model(config), _clip(config.image.image_size, config.image.patch_size)
        for batch in batches:
            table.rows += _rows(name, model, clip, batch, effort, batch <= plain_upto)
            gc.collect()
    return table


def _rows(
    name: str, model: RwkvClip, clip: ClipImage, batch: int, effort: Effort, with_plain: bool
) -> list[list[Any]]:
    size = model.config.image.image_size
    pixels = np.random.default_rng(0).standard_normal((batch, 3, size, size), np.float32)
    tell(f"encoders: {name}, batch {batch}: making all ready")
    pairs = dict(_pairs(model, clip, pixels))
    runs = [run for pair in pairs.values() for run in pair]
    tell(f"encoders: {name}, batch {batch}")
    times = race(runs, effort)
    plain: list[Times] = []
    if with_plain:
        tell(f"encoders: {name}, batch {batch}, plain RWKV-CLIP")
        ours = [pair[0] for pair in pairs.values()]
        plain = race([as_written(model, pixels), *ours], Effort(seconds=0, least=2))
    rows = []
    for at, engine in enumerate(pairs):
        ours_times, theirs = times[2 * at], times[2 * at + 1]
        speeds = [float(batch / np.median(found.wall)) for found in (ours_times, theirs)]
        ratios = [
            float(ratio(ours_times.wall, theirs.wall)["median"]),
            float(ratio(ours_times.processor, theirs.processor)["median"]),
            float(ratio(plain[at + 1].processor, plain[0].processor)["median"]) if plain else None,
        ]
        rows.append([name, batch, engine, *speeds, *ratios])
    return rows


def _pairs(model: RwkvClip, clip: ClipImage, pixels: Pixels) -> Iterator[tuple[str, Pair]]:
    """Ours and CLIP's in every engine that is installed."""
    yield "torch, layers as they come", (_in_torch(model.image, pixels), _in_torch(clip, pixels))
    with _engine("torch"):
        pair = make_pair(model, clip, "image", "fp32", torch.device("cpu"))(pixels)
    yield "torch, products packed", pair
    if find_spec("onnxruntime") and find_spec("onnx"):
        ours = _in_onnxruntime(lambda ops, entry: image_graph(ops, model.image, entry), pixels)
        theirs = _in_onnxruntime(
            lambda ops, entry: clip_image_graph(ops, clip, entry, len(pixels)), pixels
        )
        yield "onnxruntime", (ours, theirs)
    if find_spec("openvino"):
        with _engine("openvino"):
            pair = make_pair(model, clip, "image", "fp32", torch.device("cpu"))(pixels)
        yield "openvino", pair


def _clip(size: int, patch_size: int) -> ClipImage:
    clip = ClipImage(patch_size)
    tokens, width = (size // patch_size) ** 2 + 1, clip.position.shape[-1]
    clip.position = nn.Parameter(torch.zeros(1, tokens, width))
    return clip.eval().requires_grad_(False)


def as_written(model: RwkvClip, pixels: Pixels) -> Run:
    """Our plain tower with Bi-WKV as a loop over tokens."""
    run = _in_torch(model.image, pixels)

    def looped() -> object:
        with patch.object(mixing, "bi_wkv", partial(bi_wkv, backend="reference")):
            return run()

    return looped


def _in_torch(tower: nn.Module, pixels: Pixels) -> Run:
    inputs = torch.from_numpy(pixels)

    @torch.inference_mode()
    def run() -> object:
        return tower(inputs)

    return run


def _in_onnxruntime(build: Build, pixels: Pixels) -> Run:
    import onnxruntime

    from rwkvsearch.retrieval.graphs.onnx_ops import OnnxOps, as_model

    ops = OnnxOps()
    build(ops, "pixels")
    model = as_model(ops, "tower", ("pixels", np.float32, pixels.shape), "features")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"pixels": pixels})


@contextmanager
def _engine(name: str) -> Iterator[None]:
    """Ask `make_pair` for one engine."""
    before = os.environ.get("RWKVSEARCH_ENGINE")
    os.environ["RWKVSEARCH_ENGINE"] = name
    try:
        yield
    finally:
        del os.environ["RWKVSEARCH_ENGINE"]
        if before is not None:
            os.environ["RWKVSEARCH_ENGINE"] = before
