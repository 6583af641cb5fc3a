"""Ours beside CLIP's shape in each engine: `python -m rwkvsearch.retrieval.graphs.speed`.

All with random weights, the graphs made the same way with the batch fixed. What is compared is
processor time, all threads together: the time on the clock of a shared machine says little. Every
round runs each contender once; a ratio is the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rwkvsearch.retrieval.graphs.clip import clip_image_graph, clip_text_graph
from rwkvsearch.retrieval.graphs.files import TOWERS, Tower, input_shape, need
from rwkvsearch.retrieval.graphs.ops import Node, Ops
from rwkvsearch.retrieval.graphs.towers import image_graph, text_graph
from rwkvsearch.retrieval.rwkv_clip.packed import pack
from rwkvsearch.retrieval.speed import MODELS, ClipImage, ClipText, random_model

Run = Callable[[NDArray[Any]], object]
Build = Callable[[Ops, Node], Node]
ENGINES = ("torch", "torch, packed", "onnxruntime fp32", "openvino fp32", "openvino bf16")


def main() -> None:
    """Read the options and print a line for each tower, batch and engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("b32", "b16"), default="b32")
    parser.add_argument("--towers", choices=TOWERS, nargs="+", default=list(TOWERS))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--engines", choices=ENGINES, nargs="+", default=list(ENGINES))
    asked = parser.parse_args()
    need("openvino")
    need("onnx")
    torch.set_num_threads(asked.threads)
    sys.stdout.write(
        f"{asked.model}, threads {asked.threads}, rounds {asked.rounds}; items/s of processor time "
        f"and ours to CLIP\n{'tower':<7}{'batch':>6}  {'engine':<18}{'ours/s':>9}{'CLIP/s':>9}"
        f"{'ratio':>8}\n"
    )
    for tower in asked.towers:
        for batch in asked.batch:
            table(asked.model, tower, batch, asked.engines, asked.rounds)


def table(model: str, tower: Tower, batch: int, engines: list[str], rounds: int) -> None:
    """Print the lines of one tower and batch; one engine is loaded at a time."""
    config = MODELS[model]
    ours, clip = random_model(config), _clip(model, tower)
    shape = input_shape(config, tower, batch)
    random = np.random.default_rng(0)
    inputs: NDArray[Any]
    if tower == "image":
        inputs = random.standard_normal(shape, np.float32)
    else:
        inputs = random.integers(0, config.text.vocabulary, shape)
    for engine in engines:
        pair = _pair(engine, ours, clip, tower, inputs)
        times = _times(pair, inputs, rounds)
        ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
        speeds = [batch / statistics.median(t) for t in times]
        sys.stdout.write(
            f"{tower:<7}{batch:>6}  {engine:<18}{speeds[0]:>9.2f}{speeds[1]:>9.2f}{ratio:>8.3f}\n"
        )
        sys.stdout.flush()


def _clip(model: str, tower: Tower) -> ClipImage | ClipText:
    clip = ClipImage(MODELS[model].image.patch_size) if tower == "image" else ClipText()
    return clip.eval().requires_grad_(False)


def _pair(
    engine: str, ours: Any, clip: ClipImage | ClipText, tower: Tower, inputs: NDArray[Any]
) -> tuple[Run, Run]:
    if engine.startswith("torch"):
        model = pack(copy.deepcopy(ours)) if engine.endswith("packed") else ours
        return _torch_run(getattr(model, tower)), _torch_run(clip)

    def our_graph(ops: Ops, entry: Node) -> Node:
        if tower == "image":
            return image_graph(ops, ours.image, entry)
        return text_graph(ops, ours.text, entry, inputs.shape[1])

    def clip_graph(ops: Ops, entry: Node) -> Node:
        if isinstance(clip, ClipImage):
            return clip_image_graph(ops, clip, entry, len(inputs))
        return clip_text_graph(ops, clip, entry)

    run = _onnx_run if engine.startswith("onnx") else _openvino_run
    half = engine.endswith("bf16")
    return run(our_graph, inputs, half), run(clip_graph, inputs, half)


def _torch_run(tower: nn.Module) -> Run:
    def run(inputs: NDArray[Any]) -> object:
        with torch.inference_mode():
            return tower(torch.from_numpy(inputs))

    return run


def _openvino_run(build: Build, inputs: NDArray[Any], half: bool) -> Run:
    from rwkvsearch.retrieval.graphs.half import only_products_in_half
    from rwkvsearch.retrieval.graphs.openvino_ops import OpenvinoOps, parameter
    from rwkvsearch.retrieval.graphs.openvino_tower import settings
    from rwkvsearch.retrieval.graphs.quiet import openvino

    entry = parameter(inputs.shape, inputs.dtype.type)
    model = openvino.Model([build(OpenvinoOps(), entry)], [entry], "tower")
    if half and inputs.ndim == 4:
        model = only_products_in_half(model)
    request = openvino.Core().compile_model(model, "CPU", settings(half)).create_infer_request()
    return lambda x: request.infer([x])


def _onnx_run(build: Build, inputs: NDArray[Any], half: bool) -> Run:
    import onnxruntime

    from rwkvsearch.retrieval.graphs.onnx_ops import OnnxOps, as_model

    del half
    ops = OnnxOps()
    build(ops, "inputs")
    model = as_model(ops, "tower", ("inputs", inputs.dtype.type, inputs.shape), "features")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run(None, {"inputs": x})


def _times(
    pair: tuple[Run, Run], inputs: NDArray[Any], rounds: int
) -> tuple[list[float], list[float]]:
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for run, kept in zip(pair, times, strict=True):
            began = time.process_time()
            run(inputs)
            if turn:  # the first round warms up
                kept.append(time.process_time() - began)
    return times


if __name__ == "__main__":
    main()
