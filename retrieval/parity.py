"""Compare this implementation with golden numbers: `python -m rwkvsearch.retrieval.parity DIR`.

DIR holds any of: `<model>.json` with a `config` and `<model>.npz` with its truth, `<cases>.json`
with Bi-WKV cases and their npz, token ids of texts, pixels of pictures. Weights and inputs that are
not stored come from `recipe.py`. Every line of the table is one tensor, or the worst of a group.
"""

import argparse
import json
import math
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rwkvsearch.data.errors import DataError, RwkvSearchError
from rwkvsearch.data.preprocess import preprocess
from rwkvsearch.data.tokenizer import Tokenizer
from rwkvsearch.kernels import available_backends, bi_wkv
from rwkvsearch.retrieval import recipe
from rwkvsearch.retrieval.rwkv_clip.checkpoint import build, official_name
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.rwkv_clip.mixing import Block
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.rwkv_clip.packed import pack
from rwkvsearch.retrieval.training.loss import contrastive_loss

EMBEDDING_LIMIT = WKV_LIMIT = 5e-6
MIDDLE_LIMIT = PIXEL_LIMIT = 1e-5
PIXEL_SIZE, PIXEL_STEP = 224, 7

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Line:
    """One comparison; `error` is relative to the largest value of the truth, unless it says so."""

    what: str
    error: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the error is a number within the limit."""
        return self.error <= self.limit

    def __str__(self) -> str:
        """Return the line of the table."""
        verdict = "ok" if self.passed else "BEYOND"
        return f"{self.what:<44} {self.error:>9.1e} {self.limit:>9.1e}  {verdict}"


def main() -> int:
    """Print the table; return 0 when every line is within its limit, else 1."""
    parser = argparse.ArgumentParser(prog="rwkvsearch.retrieval.parity", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    out = sys.stdout
    out.write(f"{'tensor':<44} {'error':>9} {'limit':>9}\n")
    count = failed = 0
    try:
        for line in compare(folder):
            out.write(f"{line}\n")
            out.flush()
            count, failed = count + 1, failed + (not line.passed)
    except RwkvSearchError as error:
        sys.stderr.write(f"parity: {error}\n")
        return 1
    if not count:
        sys.stderr.write(f"parity: {folder}: the files hold nothing to compare with\n")
    out.write(f"{count - failed} passed, {failed} failed\n")
    return 1 if failed or not count else 0


def compare(folder: Path) -> Iterator[Line]:
    """Yield every comparison that the files of `folder` allow.

    Raises:
        DataError: there is no such folder, or nothing to compare in it.
        ModelError: generated or stored weights do not fit a model's config.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = False
    for path in sorted(folder.glob("*.json")):
        content = _read_json(path)
        arrays = _arrays(path.with_suffix(".npz"))
        cases = content if isinstance(content, list) else []
        first = cases[0] if cases and isinstance(cases[0], dict) else {}
        if isinstance(content, dict) and "config" in content:
            found = True
            try:
                yield from _model(path.stem, content, arrays)
            except KeyError as error:
                raise DataError(f"{path}: {error.args[0]} is missing or unknown") from error
        elif "ids" in first:
            found = True
            yield _tokens(path.stem, cases)
        elif "name" in first and arrays:
            found = True
            yield from _wkv(path.stem, cases, arrays)
    for path in sorted(folder.glob("*.npz")):
        pictures = _arrays(path)
        if any(key.endswith("/pixels_sub") for key in pictures):
            found = True
            yield from _pixels(path.stem, pictures)
    if not found:
        raise DataError(f"{folder}: no fixtures (model, Bi-WKV, token or pixel files)")


def _model(name: str, about: Mapping[str, Any], truth: Arrays) -> Iterator[Line]:
    config = ModelConfig.from_official(about["config"])
    model = build(config, _weights(about, truth), name)
    pixels, ids = (torch.from_numpy(x) for x in _inputs(config, about, truth))
    middle = _Recorder(model)
    with torch.no_grad():
        images, texts, scale = model(pixels, ids)
    got = {"img_emb": images, "txt_emb": texts, "logit_scale": scale}
    yield from _results(name, got, truth, "")
    for key in sorted(truth):
        if key.startswith("mid/"):
            tensor_name, first_tokens = (
                key.removeprefix("mid/").removesuffix("[0,:4]"),
                key[-1] == "]",
            )
            if tensor_name not in middle.tensors:
                raise DataError(f"{name}: the model has no tensor {key}")
            tensor = middle.tensors[tensor_name]
            if first_tokens:
                tensor = tensor[0, :4] if tensor.ndim == 3 else tensor[:4]
            yield Line(f"{name}/{key}", _error(tensor, truth[key]), MIDDLE_LIMIT)
    yield from _gradients(name, model, pixels, ids, truth)
    packed = pack(build(config, _weights(about, truth), name))
    with torch.no_grad():
        images, texts, _ = packed(pixels, ids)
    yield from _results(name, {"img_emb": images, "txt_emb": texts}, truth, ", packed")


def _results(name: str, got: Mapping[str, Tensor], truth: Arrays, how: str) -> Iterator[Line]:
    """Compare results with the truth, in float64 where the fixture has it."""
    for key, tensor in got.items():
        wanted = truth.get(f"{key}_f64", truth.get(key))
        if wanted is not None:
            yield Line(f"{name}/{key}{how}", _error(tensor, wanted), EMBEDDING_LIMIT)


def _gradients(
    name: str, model: RwkvClip, pixels: Tensor, ids: Tensor, truth: Arrays
) -> Iterator[Line]:
    """Compare the contrastive loss and its gradients; float64, as the truth was computed."""
    if "clip_loss_f64" not in truth:
        return
    model = model.double().requires_grad_(True)
    images, texts, _ = model(pixels.double(), ids)
    loss = contrastive_loss(images, texts, model.logit_scale, torch.arange(len(ids)))
    loss.backward()  # type: ignore[no-untyped-call]
    yield Line(f"{name}/clip_loss", _error(loss, truth["clip_loss_f64"]), MIDDLE_LIMIT)
    errors = {
        key: _error(torch.zeros_like(p) if p.grad is None else p.grad, truth[key])
        for our_name, p in model.named_parameters()
        if (key := f"grad/{official_name(our_name)}") in truth
    }
    if errors:
        worst = _worst(errors)
        yield Line(f"{name}/{len(errors)} gradients, {worst[-20:]}", errors[worst], MIDDLE_LIMIT)


class _Recorder:
    """Keeps the intermediate tensors of a forward pass under the fixtures' names."""

    def __init__(self, model: RwkvClip) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._keep("img_patch", model.image.patch_embed, lambda x: x.flatten(2).transpose(1, 2))
        self._keep("txt_tokens", model.text.norm)
        self._keep("img_tokens", model.image.norm)
        for prefix, tower in (("img", model.image), ("txt", model.text)):
            for index, block in enumerate(tower.blocks):
                assert isinstance(block, Block)
                self._keep(f"{prefix}_block{index}", block)
                self._keep(f"{prefix}_att{index}", block.time_mix)
                self._keep(f"{prefix}_ffn{index}", block.channel_mix)
                self._keep(f"{prefix}_lnx{index}", block.time_mix.norm)

    def _keep(self, name: str, module: torch.nn.Module, change: Any = lambda x: x) -> None:
        def hook(_module: torch.nn.Module, _inputs: Any, output: Tensor) -> None:
            self.tensors[name] = change(output)

        module.register_forward_hook(hook)


def _wkv(name: str, cases: list[dict[str, Any]], arrays: Arrays) -> Iterator[Line]:
    for backend, reason in available_backends().items():
        if reason:
            sys.stderr.write(f"parity: backend {backend} left out: {reason}\n")
            continue
        for case in (str(case["name"]) for case in cases):
            if absent := [key for key in (*"rkvwu", "y") if f"{case}/{key}" not in arrays]:
                sys.stderr.write(f"parity: {name}/{case} left out: no {', '.join(absent)}\n")
                continue
            inputs = [torch.from_numpy(arrays[f"{case}/{key}"]).requires_grad_() for key in "rkvwu"]
            y = bi_wkv(*inputs, backend=backend)
            results = {"y": y}
            if f"{case}/gy" in arrays:
                gy = torch.from_numpy(arrays[f"{case}/gy"])
                grads = torch.autograd.grad(y, inputs, gy, materialize_grads=True)
                results |= dict(zip(("gr", "gk", "gv", "gw", "gu"), grads, strict=True))
            errors = {
                key: _error(tensor, arrays[f"{case}/{key}"])
                for key, tensor in results.items()
                if f"{case}/{key}" in arrays
            }
            what = f"{name}/{case}, {backend}, {len(errors)} tensors"
            yield Line(what, errors[_worst(errors)], WKV_LIMIT)


def _tokens(name: str, cases: list[dict[str, Any]]) -> Line:
    tokenizer = Tokenizer(context=len(cases[0]["ids"]))
    ids = tokenizer([case["text"] for case in cases])
    wrong = int((ids != np.array([case["ids"] for case in cases])).any(axis=1).sum())
    return Line(f"{name}, {len(cases)} texts, number that differ", wrong, 0)


def _pixels(name: str, arrays: Arrays) -> Iterator[Line]:
    for key in sorted(arrays):
        picture = key.removesuffix("/pixels_sub")
        if picture != key:
            stored = arrays.get(f"{picture}/rgb", arrays.get(f"{picture}/l"))
            if stored is None:
                sys.stderr.write(f"parity: {name}/{picture} left out: no rgb and no l\n")
                continue
            image = Image.fromarray(np.asarray(stored)).convert("RGB")
            pixels = preprocess(image, PIXEL_SIZE)[:, ::PIXEL_STEP, ::PIXEL_STEP]
            error = float(np.abs(pixels - arrays[key]).max())
            yield Line(f"{name}/{picture}, absolute", error, PIXEL_LIMIT)


def _weights(about: Mapping[str, Any], stored: Arrays) -> dict[str, Tensor]:
    return {
        key: torch.tensor(
            stored[f"sd/{key}"]
            if f"sd/{key}" in stored
            else recipe.weight(about["seed"], key, shape)
        ).to(getattr(torch, dtype))
        for key, (shape, dtype) in about["state_dict"].items()
    }


def _inputs(
    config: ModelConfig, about: Mapping[str, Any], stored: Arrays
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return pixels `[B, 3, S, S]` and ids `[B, T]`."""
    seed, batch, text = about["seed"], about["batch"], config.text
    pixels, ids = stored.get("images"), stored.get("tokens")
    if pixels is None:
        pixels = recipe.images(seed, batch, config.image.image_size)
    if ids is None:
        ids = recipe.tokens(seed, batch, text.context, text.vocabulary, about["lengths"])
    return pixels, ids


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error


def _arrays(path: Path) -> Arrays:
    if not path.exists():
        return {}
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a whole npz file: {error}") from error


def _worst(errors: Mapping[str, float]) -> str:
    """Return the name of the largest error; nan is larger than any number."""
    return max(errors, key=lambda name: (math.isnan(errors[name]), errors[name]))


def _error(tensor: Tensor, truth: NDArray[Any]) -> float:
    """Return the largest error relative to the largest value of the truth; nan if any value is.

    A tensor of another shape is nan too.
    """
    if tensor.shape != truth.shape:
        return math.nan
    difference = tensor.detach().double().numpy() - truth.astype(np.float64)
    return float(np.abs(difference).max() / max(np.abs(truth).max(), np.finfo(np.float32).tiny))


if __name__ == "__main__":
    raise SystemExit(main())
