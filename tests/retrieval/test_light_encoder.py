"""The text tower in numpy: equal to that of torch, and torch is not imported for it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.lazy_encoder import LazyEncoder
from rwkvsearch.retrieval.light_encoder import FEW, LightEncoder
from rwkvsearch.retrieval.models import WEIGHTS_FILE, find_spec, folder_of
from rwkvsearch.retrieval.rwkv_clip.config import STARTER, ModelConfig
from rwkvsearch.retrieval.rwkv_clip.light_text import LightText
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip

TEXTS = ["a dog", "", "two men who play football at the beach, and one more who looks on from afar"]


def towers(config: ModelConfig, seed: int = 0) -> tuple[LightText, RwkvClip]:
    """The same random weights in both."""
    model = RwkvClip(config)
    random = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        rows = parameter.shape[-1] if parameter.ndim > 1 else 4
        parameter.data = torch.randn(parameter.shape, generator=random) / rows**0.5
    weights = {name: x.numpy() for name, x in model.state_dict().items()}
    return LightText(weights, config.text), model.eval().requires_grad_(False)


@pytest.mark.parametrize("tokens", [1, 2, 11, 24, 77])
def test_equals_torch(tiny_config: ModelConfig, tokens: int) -> None:
    for config in (tiny_config, STARTER):
        light, model = towers(config)
        ids = np.random.default_rng(tokens).integers(0, config.text.vocabulary, (3, tokens))
        expected = model.text(torch.from_numpy(ids)).numpy()
        np.testing.assert_allclose(light(ids), expected, atol=2e-6)


@pytest.mark.parametrize("decay", [-30.0, 5.0, 120.0])
def test_decays_that_forget_nothing_or_everything(tiny_config: ModelConfig, decay: float) -> None:
    light, model = towers(tiny_config)
    with torch.no_grad():
        for block in model.text.blocks:
            block.time_mix.decay[..., ::3] = decay  # type: ignore[index, union-attr, operator]
    ids = np.random.default_rng(1).integers(0, tiny_config.text.vocabulary, (2, 12))
    expected = model.text(torch.from_numpy(ids)).numpy()
    np.testing.assert_allclose(light(ids), expected, atol=2e-6)


def test_few_texts_and_then_torch(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RWKVSEARCH_ENGINE", raising=False)
    expected = Encoder.load(installed).encode_texts(TEXTS)
    light = LightEncoder.of(installed, None, "fp32")
    np.testing.assert_allclose(light.encode_texts(TEXTS), expected, atol=2e-7)
    assert light._encoder is None and FEW < 2 * len(TEXTS)
    np.testing.assert_array_equal(light.encode_texts(TEXTS), expected)
    assert light._encoder is not None


@pytest.mark.parametrize(
    ("device", "precision", "engine"),
    [("meta", "fp32", ""), (None, "bf16", ""), (None, "fp32", "torch")],
)
def test_what_was_asked_for_is_used(
    installed: str, device: str | None, precision: Any, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RWKVSEARCH_ENGINE", engine)
    monkeypatch.setattr(LazyEncoder, "encode_texts", lambda _, texts: np.zeros((len(texts), 1)))
    light = LightEncoder.of(installed, device, precision)
    assert not light.encode_texts(["a dog"]).any() and light._tower is None


def test_files_of_every_precision(tiny_config: ModelConfig, tmp_path: Path) -> None:
    _, model = towers(tiny_config)
    ids = np.random.default_rng(1).integers(0, tiny_config.text.vocabulary, (2, 12))
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        weights = {name: x.to(kind) for name, x in model.state_dict().items()}
        save_file(weights, tmp_path / "a.safetensors")
        light = LightText.read(tmp_path / "a.safetensors", tiny_config.text)
        model.load_state_dict(weights)
        assert light is not None
        np.testing.assert_allclose(light(ids), model.text(torch.from_numpy(ids)).numpy(), atol=2e-6)


def test_what_torch_has_to_judge(installed: str, tiny_config: ModelConfig, tmp_path: Path) -> None:
    weights = load_file(folder_of(find_spec(installed)) / WEIGHTS_FILE)
    path = tmp_path / "a.safetensors"
    for bias in (None, torch.zeros(31), torch.zeros(32, dtype=torch.int8)):
        changed = {name: x for name, x in weights.items() if name != "text.norm.bias"}
        save_file(changed | ({} if bias is None else {"text.norm.bias": bias}), path)
        assert LightText.read(path, tiny_config.text) is None
    path.write_bytes(b"short")
    assert LightText.read(path, tiny_config.text) is None
    assert LightText.read(tmp_path / "none", tiny_config.text) is None


def test_damaged_weights_are_named(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder_of(find_spec(installed)) / WEIGHTS_FILE
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-9])
        with pytest.raises(ModelError, match="model.safetensors"):
            LightEncoder.of(installed, None, "fp32").encode_texts(["a dog"])
    finally:
        path.write_bytes(whole)


def test_no_torch(installed: str) -> None:
    code = (
        "import sys\n"
        "from rwkvsearch.retrieval.light_encoder import LightEncoder\n"
        f"found = LightEncoder.of({installed!r}, None, 'fp32').encode_texts(['a dog'])\n"
        "assert found.shape == (1, 32) and 'torch' not in sys.modules\n"
    )
    environment = {name: x for name, x in os.environ.items() if name != "RWKVSEARCH_ENGINE"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
