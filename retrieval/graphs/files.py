"""Both towers as files for other engines: `image` and `text`, as OpenVINO IR or as ONNX.

Each file says whose weights it holds, in its metadata; reading one back for other weights fails.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rwkvsearch.data.errors import ModelError
from rwkvsearch.data.preprocess import PREPROCESSING_ID
from rwkvsearch.retrieval.models import EXACT, ModelCard
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig

if TYPE_CHECKING:
    from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip

Format = Literal["onnx", "openvino"]
Tower = Literal["image", "text"]
TOWERS: tuple[Tower, ...] = ("image", "text")
INPUTS: dict[Tower, str] = {"image": "pixels", "text": "ids"}
OUTPUT = "features"
"""`[B, D]`, not normalised."""
ANY = -1
"""A batch of any size."""
_PACKAGES = {"openvino": ("openvino",), "onnx": ("onnx", "onnxruntime")}


def export(
    model: RwkvClip,
    card: ModelCard,
    folder: Path,
    to: Format,
    *,
    batch: int = ANY,
    half: bool = False,
) -> list[Path]:
    """Write both towers of a model that is not packed; return the files.

    `batch` fixes the size of a batch. `half` stores the weights as float16 (OpenVINO only).

    Raises:
        ModelError: the engine's package is not installed, or cannot do what is asked for.
    """
    need(to)
    if half and to == "onnx":
        raise ModelError("weights of 16 bits can be exported to openvino only")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for tower in TOWERS:
        path = folder / (f"{tower}.onnx" if to == "onnx" else f"{tower}.xml")
        shape = input_shape(model.config, tower, batch)
        if to == "onnx":
            _write_onnx(model, tower, shape, metadata(card, tower), path)
            paths.append(path)
        else:
            _write_openvino(model, tower, shape, metadata(card, tower), path, half)
            paths += [path, path.with_suffix(".bin")]
    return paths


def metadata(card: ModelCard, tower: Tower) -> dict[str, str]:
    """Return what a file says of itself."""
    size = ModelConfig.from_dict(card.config).image.image_size
    return {
        "tower": tower,
        "model_id": card.id_of(EXACT),
        "preprocessing_id": f"{PREPROCESSING_ID}-{size}",
        "weights_sha256": card.sha256,
    }


def input_shape(config: ModelConfig, tower: Tower, batch: int = ANY) -> tuple[int, ...]:
    """Return the shape of what a tower reads; -1 is any size."""
    size = config.image.image_size
    return (batch, 3, size, size) if tower == "image" else (batch, config.text.context)


def openvino_model(model: RwkvClip, tower: Tower, shape: Sequence[int]) -> Any:
    """Return one tower as an `openvino.Model`."""
    from rwkvsearch.retrieval.graphs.openvino_ops import OpenvinoOps, parameter
    from rwkvsearch.retrieval.graphs.quiet import openvino
    from rwkvsearch.retrieval.graphs.towers import image_graph, text_graph

    ops, is_image = OpenvinoOps(), tower == "image"
    entry = parameter(shape, np.float32 if is_image else np.int64)
    if is_image:
        features = image_graph(ops, model.image, entry)
    else:
        features = text_graph(ops, model.text, entry, shape[1])
    entry.output(0).set_names({INPUTS[tower]})
    features.output(0).set_names({OUTPUT})
    return openvino.Model([features], [entry], tower)


def read_openvino(path: Path, card: ModelCard, tower: Tower) -> Any:
    """Return an exported tower as an `openvino.Model`.

    Raises:
        ModelError: damaged, of another tower or model, or made of other weights.
    """
    need("openvino")
    from rwkvsearch.retrieval.graphs.quiet import openvino

    try:
        model = openvino.Core().read_model(path)
        found = {
            key: model.get_rt_info(["rwkvsearch", key]).astype(str)
            for key in metadata(card, tower)
            if model.has_rt_info(["rwkvsearch", key])
        }
    except RuntimeError as error:
        raise ModelError(f"{path}: cannot be read: {str(error).splitlines()[-1]}") from error
    check(found, card, tower, path)
    return model


def read_onnx(path: Path, card: ModelCard, tower: Tower) -> Any:
    """Return an exported tower as an `onnxruntime.InferenceSession` on the CPU.

    Raises:
        ModelError: damaged, of another tower or model, or made of other weights.
    """
    need("onnx")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has an exception of its own for every kind of damage
        raise ModelError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    check(session.get_modelmeta().custom_metadata_map, card, tower, path)
    return session


def check(found: Mapping[str, str], card: ModelCard, tower: Tower, path: Path) -> None:
    """Refuse a file that is not this tower of this model with these weights."""
    for key, wanted in metadata(card, tower).items():
        if found.get(key) != wanted:
            raise ModelError(
                f"{path}: its {key} is {found.get(key, 'not stated')}, not {wanted}: "
                f"export it again with `rwkvsearch model export {card.name}`"
            )


def need(engine: Format) -> None:
    """Raise a `ModelError` that says what to install where an engine is not installed."""
    if missing := [name for name in _PACKAGES[engine] if find_spec(name) is None]:
        raise ModelError(
            f"{' and '.join(missing)} not installed: run `pip install 'rwkvsearch[{engine}]'`"
        )


def _write_openvino(
    model: RwkvClip,
    tower: Tower,
    shape: Sequence[int],
    facts: Mapping[str, str],
    path: Path,
    half: bool,
) -> None:
    from rwkvsearch.retrieval.graphs.quiet import openvino

    graph = openvino_model(model, tower, shape)
    for key, value in facts.items():
        graph.set_rt_info(value, ["rwkvsearch", key])
    openvino.save_model(graph, path, compress_to_fp16=half)


def _write_onnx(
    model: RwkvClip, tower: Tower, shape: Sequence[int], facts: Mapping[str, str], path: Path
) -> None:
    import onnx
    from onnx import helper

    from rwkvsearch.retrieval.graphs.onnx_ops import OnnxOps, as_model
    from rwkvsearch.retrieval.graphs.towers import image_graph, text_graph

    ops, entry, is_image = OnnxOps(), INPUTS[tower], tower == "image"
    if is_image:
        features = image_graph(ops, model.image, entry)
    else:
        features = text_graph(ops, model.text, entry, shape[1])
    assert ops.nodes[-1].output[0] == features
    dtype = np.float32 if is_image else np.int64
    whole = as_model(ops, tower, (entry, dtype, shape), OUTPUT)
    helper.set_model_props(whole, dict(facts))
    onnx.save(whole, path)
