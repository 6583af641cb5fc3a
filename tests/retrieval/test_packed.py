"""The packed towers against the plain ones: exact in fp32, close in bf16 and int8."""

import copy
import logging
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.models import Precision
from rwkvsearch.retrieval.rwkv_clip import packed
from rwkvsearch.retrieval.rwkv_clip.checkpoint import build
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.rwkv_clip.packed import pack

LIMITS: dict[Precision, float] = {"fp32": 2e-6, "bf16": 3e-2, "int8": 8e-2}
"""Largest error of a feature, relative to the largest feature."""
needs_int8 = pytest.mark.skipif(
    "x86" not in torch.backends.quantized.supported_engines, reason="not an x86 processor"
)
PRECISIONS = ["fp32", "bf16", pytest.param("int8", marks=needs_int8)]


@pytest.fixture
def plain(
    tiny_config: ModelConfig, official_state: Callable[[ModelConfig, str], dict[str, Tensor]]
) -> RwkvClip:
    return build(tiny_config, official_state(tiny_config, "packed"), "packed")


def inputs(model: RwkvClip, batch: int = 5) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    size, text = model.config.image.image_size, model.config.text
    ids = torch.randint(0, text.vocabulary, (batch, text.context), generator=random)
    return torch.randn(batch, 3, size, size, generator=random), ids


def error(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("precision", PRECISIONS)
def test_equals_the_plain_towers(plain: RwkvClip, precision: Precision) -> None:
    pixels, ids = inputs(plain)
    model = pack(copy.deepcopy(plain), precision)
    errors = {
        "image": error(model.image(pixels), plain.image(pixels)),
        "tokens": error(model.image.tokens(pixels), plain.image.tokens(pixels)),
        "text": error(model.text(ids), plain.text(ids)),
    }
    assert all(value <= LIMITS[precision] for value in errors.values()), errors
    if precision != "fp32":
        assert all(value > 1e-5 for value in errors.values()), errors  # it did compute in it


@torch.no_grad()
@pytest.mark.parametrize("precision", PRECISIONS)
def test_embeddings_point_the_same_way(plain: RwkvClip, precision: Precision) -> None:
    pixels, ids = inputs(plain)
    model = pack(copy.deepcopy(plain), precision)
    for got, wanted in (
        (model.image(pixels), plain.image(pixels)),
        (model.text(ids), plain.text(ids)),
    ):
        assert functional.cosine_similarity(got, wanted).min() > 1 - LIMITS[precision] / 10


@torch.no_grad()
def test_inputs_are_left_alone_and_results_repeat(plain: RwkvClip) -> None:
    pixels, ids = inputs(plain)
    model, before = pack(plain), pixels.clone()
    first = model.image(pixels), model.text(ids)
    second = model.image(pixels), model.text(ids)
    assert torch.equal(pixels, before)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@torch.no_grad()
def test_a_picture_of_another_size(plain: RwkvClip) -> None:
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(4))
    assert error(pack(copy.deepcopy(plain)).image(pixels), plain.image(pixels)) < 2e-6


@torch.no_grad()
def test_a_side_that_is_no_multiple_of_the_patch(plain: RwkvClip) -> None:
    pixels = torch.randn(2, 3, 37, 37, generator=torch.Generator().manual_seed(4))
    assert error(pack(copy.deepcopy(plain)).image(pixels), plain.image(pixels)) < 2e-6


@needs_int8
@pytest.mark.parametrize("instructions", ["", "AVX2", "AVX512"])
def test_int8_does_not_saturate_on_older_processors(instructions: str) -> None:
    """Without VNNI two products are added in 16 bits; the variable makes torch do without."""
    probe = (
        "import os, torch; from rwkvsearch.retrieval.rwkv_clip.packed import _int8_product\n"
        "if os.environ['FBGEMM_ENABLE_INSTRUCTIONS']:\n"
        "    torch.cpu._is_vnni_supported = lambda: False\n"
        "x, w = (torch.rand(s, generator=torch.Generator().manual_seed(1)) + 1"
        " for s in ((9, 64), (16, 64)))\n"
        "y = _int8_product(w, 'none')(x)\n"
        "print(float((y - x @ w.T).abs().max() / y.max()))"
    )
    environment = {**os.environ, "FBGEMM_ENABLE_INSTRUCTIONS": instructions}
    command = [sys.executable, "-c", probe]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert float(run.stdout) < 0.01


@torch.no_grad()
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_onednn(
    plain: RwkvClip,
    precision: Precision,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(packed, "_can_pack", lambda _: False)
    with caplog.at_level(logging.INFO):
        model = pack(copy.deepcopy(plain), precision)
    assert "products are not packed" in caplog.text
    pixels, ids = inputs(plain)
    assert error(model.image(pixels), plain.image(pixels)) <= LIMITS[precision]
    assert error(model.text(ids), plain.text(ids)) <= LIMITS[precision]


def test_int8_on_another_processor(plain: RwkvClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "INT8_ENGINE", "sparc")
    with pytest.raises(ModelError, match="int8 needs an x86 processor"):
        pack(plain, "int8")
