"""Exported towers against torch, run by the engines themselves; files of other weights."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval import recipe
from rwkvsearch.retrieval.encoder import load_model
from rwkvsearch.retrieval.graphs import files
from rwkvsearch.retrieval.graphs.files import Format, Tower, export
from rwkvsearch.retrieval.models import ModelCard, read_card
from rwkvsearch.retrieval.rwkv_clip.checkpoint import build
from rwkvsearch.retrieval.rwkv_clip.config import B16, B32, STARTER, ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip

TOLERANCE = 5e-6
"""Largest error of a feature, relative to the largest feature."""
ENGINES = ("openvino", "onnx")
Official = Callable[[ModelConfig, str], dict[str, Tensor]]
Run = Callable[[NDArray[np.generic]], NDArray[np.float32]]


def read(path: Path, card: ModelCard, tower: Tower) -> Run:
    """Load an exported file as a function."""
    if path.suffix == ".onnx":
        session = files.read_onnx(path, card, tower)
        return lambda x: session.run(None, {files.INPUTS[tower]: x})[0]  # type: ignore[no-any-return]
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(
        files.read_openvino(path, card, tower), "CPU", settings
    )
    return lambda x: compiled([x])[0]  # type: ignore[no-any-return]


def first(to: Format) -> str:
    return "image.onnx" if to == "onnx" else "image.xml"


def errors(model: RwkvClip, card: ModelCard, folder: Path, batch: int) -> dict[str, float]:
    """Relative errors of both towers in `folder`."""
    image, text = model.config.image, model.config.text
    lengths = [5 + i * (text.context - 5) // batch for i in range(batch)]
    inputs: dict[Tower, NDArray[Any]] = {
        "image": recipe.images("A", batch, image.image_size),
        "text": recipe.tokens("A", batch, text.context, text.vocabulary, lengths),
    }
    found = {}
    for tower, values in inputs.items():
        (path,) = [p for p in folder.glob(f"{tower}.*") if p.suffix != ".bin"]
        with torch.inference_mode():
            wanted = getattr(model, tower)(torch.from_numpy(values)).numpy()
        got = read(path, card, tower)(values)
        found[tower] = float(np.abs(got - wanted).max() / np.abs(wanted).max())
    return found


@pytest.fixture(params=ENGINES)
def to(request: pytest.FixtureRequest) -> Format:
    engine: Format = request.param
    try:
        files.need(engine)
    except ModelError as error:
        pytest.skip(str(error))
    return engine


@pytest.mark.parametrize("batch", [1, 3])
def test_any_batch_equals_torch(to: Format, batch: int, installed: str, tmp_path: Path) -> None:
    model, card = load_model(installed)
    export(model, card, tmp_path, to)
    found = errors(model, card, tmp_path, batch)
    assert max(found.values()) < TOLERANCE, found


def test_a_fixed_batch(to: Format, installed: str, tmp_path: Path) -> None:
    model, card = load_model(installed)
    export(model, card, tmp_path, to, batch=2)
    assert max(errors(model, card, tmp_path, 2).values()) < TOLERANCE
    with pytest.raises(Exception, match=r"(?i)dimension|shape|size"):
        errors(model, card, tmp_path, 3)


def test_the_shape_of_the_starter(to: Format, official_state: Official, tmp_path: Path) -> None:
    model = build(STARTER, official_state(STARTER, "A"), "test")
    card = dataclasses.replace(read_card("starter"), config=STARTER.to_dict())
    export(model, card, tmp_path, to)
    found = errors(model, card, tmp_path, 2)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.slow
@pytest.mark.parametrize("config", [B32, B16], ids=["B32", "B16"])
def test_the_official_shapes(
    to: Format, config: ModelConfig, official_state: Official, tmp_path: Path
) -> None:
    model = build(config, official_state(config, "A"), "test")
    card = dataclasses.replace(read_card("starter"), config=config.to_dict())
    export(model, card, tmp_path, to)
    found = errors(model, card, tmp_path, 2)
    assert max(found.values()) < TOLERANCE, found


def test_more_tokens_are_halved(to: Format, official_state: Official, tmp_path: Path) -> None:
    """196 patches, as in B/16, but in a small model."""
    image = dataclasses.replace(STARTER.image, image_size=112, patch_size=8, depth=2, width=64)
    text = dataclasses.replace(STARTER.text, width=64, hidden=96, depth=2, vocabulary=600)
    config = ModelConfig(image, text)
    model = build(config, official_state(config, "halves"), "test")
    card = dataclasses.replace(read_card("starter"), config=config.to_dict())
    export(model, card, tmp_path, to)
    found = errors(model, card, tmp_path, 2)
    assert max(found.values()) < TOLERANCE, found


def test_weights_of_16_bits(installed: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    model, card = load_model(installed)
    sizes = []
    for half in (False, True):
        folder = tmp_path / str(half)
        export(model, card, folder, "openvino", half=half)
        sizes.append((folder / "text.bin").stat().st_size)
        assert max(errors(model, card, folder, 2).values()) < (5e-3 if half else TOLERANCE)
    assert sizes[1] < 0.7 * sizes[0]


def test_files_say_whose_weights_they_hold(to: Format, installed: str, tmp_path: Path) -> None:
    model, card = load_model(installed)
    export(model, card, tmp_path, to)
    path = tmp_path / first(to)
    read(path, card, "image")
    other = dataclasses.replace(card, sha256="0" * 64)
    with pytest.raises(ModelError, match=r"its model_id is .*-fp32, not .*-00000000-fp32"):
        read(path, other, "image")
    with pytest.raises(ModelError, match="its tower is image, not text"):
        read(path, card, "text")


def test_a_damaged_file(to: Format, installed: str, tmp_path: Path) -> None:
    path = tmp_path / first(to)
    path.write_bytes(b"<net")
    with pytest.raises(ModelError, match="cannot be read"):
        read(path, read_card(installed), "image")


def test_half_is_for_openvino(installed: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    with pytest.raises(ModelError, match="openvino only"):
        export(*load_model(installed), tmp_path, "onnx", half=True)


def test_a_missing_engine_is_named(
    monkeypatch: pytest.MonkeyPatch, installed: str, tmp_path: Path
) -> None:
    monkeypatch.setitem(files._PACKAGES, "onnx", ("no_such_engine",))
    with pytest.raises(ModelError, match=r"no_such_engine not installed: run `pip install"):
        export(*load_model(installed), tmp_path, "onnx")
