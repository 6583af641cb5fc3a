"""Both towers against RWKV-CLIP written a second time: numpy, float64, one loop per token.

Nothing here is shared with the package but the names of the official checkpoint.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rwkvsearch.retrieval.rwkv_clip.checkpoint import build
from rwkvsearch.retrieval.rwkv_clip.config import (
    STARTER,
    ImageTowerConfig,
    ModelConfig,
    TextTowerConfig,
)
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip

Array = NDArray[np.float64]
Official = Callable[[ModelConfig, str], dict[str, Tensor]]


class NaiveModel:
    """The equations, token by token."""

    def __init__(self, config: ModelConfig, state: dict[str, Tensor]) -> None:
        self.config = config
        self.state = {key: x.double().numpy() for key, x in state.items()}

    def image(self, pixels: Array) -> Array:
        """One picture `[3, S, S]` to its features `[D]`."""
        c, p = self.config.image, self.config.image.patch_size
        kernel = self.state["image_model.patch_embed.projection.weight"]
        x = np.array(
            [
                np.tensordot(kernel, pixels[:, i * p : (i + 1) * p, j * p : (j + 1) * p], 3)
                for i in range(c.rows)
                for j in range(c.rows)
            ]
        )
        x = x + self.state["image_model.patch_embed.projection.bias"]
        x = x + self.state["image_model.pos_embed"][0]
        for n in range(c.depth):
            x = self.block(f"image_model.layers.{n}.", x, c.heads, self.shift_image, 1e-5)
        return self.layer_norm("image_model.ln1", x).mean(0)

    def text(self, ids: NDArray[np.int64]) -> Array:
        """The ids `[T]` of one text to its features `[D]`."""
        c = self.config.text
        eps = 1e-5 * c.head_size_divisor**2
        x = self.state["text_model.emb.weight"][ids]
        for n in range(c.depth):
            x = self.block(f"text_model.blocks.{n}.", x, c.heads, self.shift_text, eps)
        x = self.layer_norm("text_model.ln_out", x)
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).mean(0)

    def block(
        self, at: str, x: Array, heads: int, shift: Callable[[Array, int], Array], eps: float
    ) -> Array:
        if at.endswith(".0."):
            x = self.layer_norm(f"{at}ln0", x)
        x = x + self.time_mix(f"{at}att.", self.layer_norm(f"{at}ln1", x), heads, shift, eps)
        return x + self.channel_mix(f"{at}ffn.", self.layer_norm(f"{at}ln2", x), heads, shift)

    def time_mix(
        self, at: str, x: Array, heads: int, shift: Callable[[Array, int], Array], eps: float
    ) -> Array:
        s = {k.removeprefix(at): v for k, v in self.state.items() if k.startswith(at)}
        move = shift(x, heads) - x
        low = np.tanh((x + move * s["time_maa_x"][0, 0]) @ s["time_maa_w1"])
        mixed = {
            letter: x + move * (s[f"time_maa_{letter}"][0, 0] + low[:, 32 * i : 32 * i + 32] @ up)
            for i, (letter, up) in enumerate(zip("wkvrg", s["time_maa_w2"], strict=True))
        }
        r = mixed["r"] @ s["receptance.weight"].T
        k = mixed["k"] @ s["key.weight"].T
        v = mixed["v"] @ s["value.weight"].T
        g = mixed["g"] @ s["gate.weight"].T
        w = s["time_decay"][0, 0] + np.tanh(mixed["w"] @ s["time_decay_w1"]) @ s["time_decay_w2"]
        d = np.exp(-np.exp(w))
        n = x.shape[1] // heads
        y = np.empty_like(x)
        for head in range(heads):
            at_head = slice(head * n, head * n + n)
            u = s["time_faaaa"][head]
            y[:, at_head] = wkv(r[:, at_head], k[:, at_head], v[:, at_head], d[:, at_head], u)
            part = y[:, at_head]
            mean, spread = part.mean(1, keepdims=True), part.var(1, keepdims=True)
            y[:, at_head] = (part - mean) / np.sqrt(spread + eps)
        y = y * s["ln_x.weight"] + s["ln_x.bias"]
        return (y * g * sigmoid(g)) @ s["output.weight"].T

    def channel_mix(
        self, at: str, x: Array, heads: int, shift: Callable[[Array, int], Array]
    ) -> Array:
        s = {k.removeprefix(at): v for k, v in self.state.items() if k.startswith(at)}
        other = shift(x, heads)
        if "spatial_mix_k" in s:  # image: the weight of the token itself
            xk, xr = (
                x * m + other * (1 - m)
                for m in (s["spatial_mix_k"][0, 0], s["spatial_mix_r"][0, 0])
            )
        else:  # text: the weight of the neighbour
            xk, xr = (x + (other - x) * m for m in (s["time_maa_k"][0, 0], s["time_maa_r"][0, 0]))
        hidden = np.maximum(xk @ s["key.weight"].T, 0) ** 2
        return sigmoid(xr @ s["receptance.weight"].T) * (hidden @ s["value.weight"].T)

    def layer_norm(self, at: str, x: Array) -> Array:
        mean, spread = x.mean(1, keepdims=True), x.var(1, keepdims=True)
        weight, bias = self.state[f"{at}.weight"], self.state[f"{at}.bias"]
        return (x - mean) / np.sqrt(spread + 1e-5) * weight + bias

    @staticmethod
    def shift_image(x: Array, heads: int) -> Array:
        """The quarters of each head from column - 1, column + 1, row - 1 and row + 1."""
        tokens, width = x.shape
        rows, size = round(tokens**0.5), width // heads
        out = np.zeros_like(x)
        for t in range(tokens):
            for c in range(width):
                quarter = c % size // (size // 4)
                i = t // rows + (0, 0, -1, 1)[quarter]
                j = t % rows + (-1, 1, 0, 0)[quarter]
                if 0 <= i < rows and 0 <= j < rows:
                    out[t, c] = x[i * rows + j, c]
        return out

    @staticmethod
    def shift_text(x: Array, heads: int) -> Array:
        tokens, width = x.shape
        size = width // heads
        out = np.zeros_like(x)
        for t in range(tokens):
            for c in range(width):
                source = t - 1 if c % size < size // 2 else t + 1
                if 0 <= source < tokens:
                    out[t, c] = x[source, c]
        return out


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def wkv(r: Array, k: Array, v: Array, d: Array, u: Array) -> Array:
    """One head, every pair of tokens: the decays of those between them, the bonus for the own."""
    y = np.zeros_like(v)
    for t in range(len(r)):
        for i in range(len(r)):
            between = u if i == t else d[min(i, t) + 1 : max(i, t)].prod(0)
            y[t] += (r[t] * k[i] * between).sum() * v[i]
    return y


ODD = ModelConfig(
    ImageTowerConfig(image_size=42, patch_size=14, depth=3, width=48, heads=3, hidden_rate=2),
    TextTowerConfig(
        context=7,
        vocabulary=530,
        depth=4,
        width=48,
        head_size=8,
        hidden=40,
        head_size_divisor=3,
    ),
)
"""Differs from every fixture in every number."""


@pytest.mark.parametrize("seed", ["B", "other"])
def test_equals_the_equations(seed: str, official_state: Official) -> None:
    state = official_state(ODD, seed)
    random = np.random.default_rng(3)
    pixels = random.standard_normal((3, 3, 42, 42)).astype(np.float32)
    ids = random.integers(0, 530, (3, 7))
    ids[1, 3:] = 0
    naive = NaiveModel(ODD, state)
    with torch.no_grad():
        images, texts, scale = build(ODD, state, "odd")(
            torch.from_numpy(pixels), torch.from_numpy(ids)
        )
    for got, wanted in (
        (images, np.array([naive.image(x) for x in pixels.astype(np.float64)])),
        (texts, np.array([naive.text(x) for x in ids])),
        (scale, np.exp(naive.state["logit_scale"])),
    ):
        assert got.dtype == torch.float32
        assert np.abs(got.double().numpy() - wanted).max() <= 5e-6 * np.abs(wanted).max()


def test_features_are_the_mean_over_tokens(official_state: Official) -> None:
    """So that the score of a picture is the mean of the scores of its patches."""
    model = build(ODD, official_state(ODD, "B"), "odd")
    pixels, ids = torch.randn(2, 3, 42, 42), torch.randint(530, (2, 7))
    torch.testing.assert_close(model.image(pixels), model.image.tokens(pixels).mean(1))
    tokens = model.text.tokens(ids)
    unit = tokens / tokens.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(model.text(ids), unit.mean(1))
    assert (model.text(ids).norm(dim=-1) < 1).all()


@torch.no_grad()
def test_padding_is_alike_before_the_first_block_and_never_again(official_state: Official) -> None:
    """Why no part of the padding can be left out: each padding token sees another past and future.

    Their inputs are one vector, but Bi-WKV adds what lies before and after, decayed by the number
    of tokens between; so from the first block on no two are equal, and all of them are averaged.
    """
    model = build(STARTER, official_state(STARTER, "padding"), "padding").double()
    inputs: list[Tensor] = []
    for block in model.text.blocks[:2]:
        block.register_forward_hook(lambda _block, args, out: inputs.extend((args[0], out)))
    ids = torch.zeros(1, STARTER.text.context, dtype=torch.long)
    ids[0, :4] = torch.tensor([16382, 320, 1929, 16383])
    model.text(ids)
    distinct = [len(torch.unique(x[0, 4:], dim=0)) for x in inputs]
    assert distinct == [1, *[STARTER.text.context - 4] * (len(inputs) - 1)]


def test_other_image_sizes_resize_the_positions(official_state: Official) -> None:
    model = build(ODD, official_state(ODD, "B"), "odd")
    assert model.image.tokens(torch.randn(1, 3, 56, 56)).shape == (1, 16, 48)
    with torch.no_grad():
        model.image.position.fill_(0.25)
    torch.testing.assert_close(model.image._positions(16), torch.full((1, 16, 48), 0.25))


def test_every_parameter_matters(official_state: Official) -> None:
    """A parameter without a gradient would be one that the forward pass forgot."""
    model = build(ODD, official_state(ODD, "B"), "odd").requires_grad_(True)
    images, texts, scale = model(torch.randn(2, 3, 42, 42), torch.randint(530, (2, 7)))
    ((images * texts).sum() * scale).backward()
    idle = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_size_of_the_starter_model() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in RwkvClip(STARTER).parameters())
    assert 14.5e6 < count < 15.5e6
