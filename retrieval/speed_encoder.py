"""Images and texts a second, ours beside CLIP's: `python -m rwkvsearch.retrieval.speed_encoder`.

The part of `rwkvsearch bench speed` that runs where there is little more than torch, on a GPU too.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from rwkvsearch.indexer.machine import describe_machine
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.speed import MODELS, clip_tower, random_model
from rwkvsearch.retrieval.speed_engines import Pair, Tower, make_pair, usual_engine
from rwkvsearch.retrieval.speed_times import Effort, Json, Tell, per_second, race, ratio

if TYPE_CHECKING:
    from rwkvsearch.retrieval.encoder import Encoder
    from rwkvsearch.retrieval.models import Precision

Shape = tuple[str, Tower]
SHAPES: tuple[Shape, ...] = (("b32", "image"), ("b32", "text"))
FULL: tuple[Shape, ...] = (*SHAPES, ("b16", "image"))
BATCHES = (1, 16, 64)
GPU_BATCHES = (*BATCHES, 256)


@dataclass(frozen=True)
class EncoderOptions:
    """What is measured; without `precisions` fp32, and on a GPU bf16 as well."""

    device: torch.device
    precisions: Sequence[Precision] = ()
    batches: Sequence[int] = ()
    shapes: Sequence[Shape] = SHAPES
    effort: Effort = field(default_factory=Effort)

    def all_precisions(self) -> Sequence[Precision]:
        """The precisions to measure."""
        return self.precisions or (("fp32",) if self.device.type == "cpu" else ("fp32", "bf16"))

    def all_batches(self) -> Sequence[int]:
        """The sizes of a batch to measure."""
        return self.batches or (BATCHES if self.device.type == "cpu" else GPU_BATCHES)

    def wait(self) -> None:
        """Return when the device has done all that it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def measure_shapes(options: EncoderOptions, tell: Tell) -> Json:
    """Measure towers of our shapes beside transformers of CLIP's, all with random weights.

    Keys such as `b32_image`, those of another precision than fp32 with its name behind it; what is
    below them is in `docs/benchmarks.md`.
    """
    found: Json = {}
    for precision in options.all_precisions():
        if precision == "int8":  # which no transformer here has
            continue
        for name, tower in options.shapes:
            key = f"{name}_{tower}" + ("" if precision == "fp32" else f"_{precision}")
            tell(f"{key}: making both")
            model, clip = random_model(MODELS[name]), clip_tower(name, tower)
            pair = make_pair(model, clip, tower, precision, options.device)
            engine = f"{usual_engine(precision, options.device)} {precision.partition('-')[0]}"
            measured = _compare(pair, key, MODELS[name], tower, options, tell)
            found[key] = {"engine": engine} | measured
            del model, clip, pair
            gc.collect()
    return found


def measure_model(encoder: Encoder, options: EncoderOptions, tell: Tell) -> Json:
    """Images (preprocessed) and texts a second of an encoder, by size of the batch."""
    found: Json = {"id": encoder.model_id, "engine": _engine(encoder), "images": {}, "texts": {}}
    size = encoder.image_size
    for batch in options.all_batches():
        tell(f"{encoder.model_id}, batch {batch}")
        pixels = np.random.default_rng(0).standard_normal((batch, 3, size, size), np.float32)
        texts = [f"a photo of {number} dogs in the snow" for number in range(batch)]
        runs = partial(encoder.encode_pixels, pixels), partial(encoder.encode_texts, texts)
        images, words = race(runs, options.effort, options.wait)
        found["images"][str(batch)] = per_second(batch, images.wall)
        found["texts"][str(batch)] = per_second(batch, words.wall)
    return found


def _engine(encoder: Encoder) -> str:
    if encoder.device.type != "cpu" or encoder.precision != "fp32":
        return usual_engine(encoder.precision, encoder.device)
    from rwkvsearch.retrieval.graphs.choice import describe_engine

    return describe_engine(encoder.card)


def describe_device(device: torch.device) -> Json:
    """The machine, and what torch computes with."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return describe_machine() | {"device": name or str(device), "threads": torch.get_num_threads()}


def _compare(
    pair: Pair, key: str, config: ModelConfig, tower: Tower, options: EncoderOptions, tell: Tell
) -> Json:
    vit = f"vit_{key[:3]}"
    figures: Json = {"ours": {}, vit: {}}
    ratios: Json = {}
    for batch in options.all_batches():
        tell(f"{key}, batch {batch}")
        runs = pair(_inputs(config, tower, batch))
        ours, theirs = race(runs, options.effort, options.wait)
        figures["ours"][str(batch)] = per_second(batch, ours.wall)
        figures[vit][str(batch)] = per_second(batch, theirs.wall)
        ratios.setdefault(f"ratio_to_{vit}", {})[str(batch)] = ratio(ours.wall, theirs.wall)
        if options.device.type == "cpu":
            busy = ratio(ours.processor, theirs.processor)
            ratios.setdefault(f"processor_ratio_to_{vit}", {})[str(batch)] = busy
    spreads = {f"{name}_spread": of for name, of in ratios.items()}
    medians = {
        name: {batch: one["median"] for batch, one in of.items()} for name, of in ratios.items()
    }
    return figures | medians | spreads


def _inputs(config: ModelConfig, tower: Tower, batch: int) -> NDArray[Any]:
    random, size = np.random.default_rng(0), config.image.image_size
    if tower == "image":
        return random.standard_normal((batch, 3, size, size), np.float32)
    return random.integers(0, config.text.vocabulary, (batch, config.text.context))


def _tell(what: str) -> None:
    sys.stderr.write(f"{what}\n")


def main() -> None:
    """Read the options and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    known = ("fp32", "bf16", "bf16-openvino")
    parser.add_argument("--precision", choices=known, nargs="+", default=[])
    parser.add_argument("--batch", type=int, nargs="+", default=[])
    parser.add_argument("--seconds", type=float, default=Effort.seconds, help="of each comparison")
    parser.add_argument("--full", action="store_true", help="the images of B/16 as well")
    asked = parser.parse_args()
    options = EncoderOptions(
        torch.device(asked.device),
        asked.precision,
        asked.batch,
        FULL if asked.full else SHAPES,
        Effort(asked.seconds),
    )
    found = measure_shapes(options, _tell)
    whole = {"machine": describe_device(options.device), "encoder": found}
    sys.stdout.write(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
    main()
