"""The text tower in numpy: a command with one question has its answer before torch is imported.

The same mathematics as `text_tower` and `mixing`, with Bi-WKV written out pair by pair, which costs
T^2 and is nothing for one text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.retrieval.rwkv_clip.config import TextTowerConfig

_TOWER = "text."
_LEAST_DECAY = -110.0
"""Of a logarithm: `exp` of it is 0 in float32."""

Array = NDArray[np.floating]
Floats = NDArray[np.float32]
_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class LightText:
    """Token ids `[B, T]` to features `[B, D]`, as `TextTower`."""

    def __init__(self, weights: Mapping[str, Array], config: TextTowerConfig) -> None:
        """Take the parameters of the tower by their names, in any precision that numpy has."""
        self._weights = weights
        self._config = config
        self._eps = 1e-5 * config.head_size_divisor**2

    @classmethod
    def read(cls, path: Path, config: TextTowerConfig) -> LightText | None:
        """The tower out of a weights file; None if something in it is for torch to judge."""
        try:
            tower = cls(_read(path), config)
            tower(np.zeros((1, 2), np.int64))
        except (OSError, KeyError, ValueError):
            return None
        return tower

    def __call__(self, ids: NDArray[np.int64]) -> Floats:
        """Return the features of ids `[B, T]`."""
        with np.errstate(over="ignore", under="ignore"):
            x = self._weights[f"{_TOWER}embed.weight"][ids].astype(np.float32)
            for index in range(self._config.depth):
                block = f"blocks.{index}."
                if index == 0:
                    x = self._norm(x, f"{block}norm0")
                x = x + self._time_mix(self._norm(x, f"{block}norm1"), f"{block}time_mix.")
                x = x + self._channel_mix(self._norm(x, f"{block}norm2"), f"{block}channel_mix.")
            x = self._norm(x, "norm")
            lengths = np.linalg.norm(x, axis=-1, keepdims=True)
            features: Floats = (x / np.maximum(lengths, 1e-12)).mean(1)
        return features

    def _of(self, name: str) -> Floats:
        return self._weights[_TOWER + name].astype(np.float32)

    def _linear(self, x: Floats, name: str) -> Floats:
        return x @ self._of(f"{name}.weight").T

    def _norm(self, x: Floats, name: str) -> Floats:
        return _unit(x, 1e-5) * self._of(f"{name}.weight") + self._of(f"{name}.bias")

    def _shift(self, x: Floats) -> Floats:
        """As `kernels.bidirectional_shift`."""
        batch, tokens, width = x.shape
        split = x.reshape(batch, tokens, self._config.heads, 2, -1)
        moved = np.zeros_like(split)
        moved[:, 1:, :, 0] = split[:, :-1, :, 0]
        moved[:, :-1, :, 1] = split[:, 1:, :, 1]
        return moved.reshape(batch, tokens, width)

    def _time_mix(self, x: Floats, mix: str) -> Floats:
        batch, tokens, width = x.shape
        delta = self._shift(x) - x
        low = np.tanh((x + delta * self._of(f"{mix}mix_x")) @ self._of(f"{mix}mix_down"))
        xw, xk, xv, xr, xg = (
            x + delta * (self._of(f"{mix}mix_{letter}") + part @ up)
            for letter, part, up in zip(
                "wkvrg", np.split(low, 5, -1), self._of(f"{mix}mix_up"), strict=True
            )
        )
        low = np.tanh(xw @ self._of(f"{mix}decay_down"))
        w = self._of(f"{mix}decay") + low @ self._of(f"{mix}decay_up")
        heads = (batch, tokens, self._config.heads, self._config.head_size)
        r, k, v = (
            self._linear(part, mix + name).reshape(heads)
            for part, name in ((xr, "receptance"), (xk, "key"), (xv, "value"))
        )
        y = _unit(_bi_wkv(r, k, v, w.reshape(heads), self._of(f"{mix}bonus")), self._eps)
        y = y.reshape(batch, tokens, width)
        y = y * self._of(f"{mix}norm.weight") + self._of(f"{mix}norm.bias")
        gate = self._linear(xg, f"{mix}gate")
        return self._linear(y * gate * _sigmoid(gate), f"{mix}output")

    def _channel_mix(self, x: Floats, mix: str) -> Floats:
        delta = self._shift(x) - x
        key = self._linear(x + delta * self._of(f"{mix}mix_k"), f"{mix}key")
        gate = self._linear(x + delta * self._of(f"{mix}mix_r"), f"{mix}receptance")
        return _sigmoid(gate) * self._linear(np.maximum(key, 0) ** 2, f"{mix}value")


def _read(path: Path) -> dict[str, Array]:
    """Map the text tower of a safetensors file; its own reader for numpy knows no bfloat16."""
    data = np.memmap(path, np.uint8, "r")
    begin = 8 + int.from_bytes(data[:8].tobytes(), "little")
    weights = {}
    for name, entry in json.loads(data[8:begin].tobytes()).items():
        if name.startswith(_TOWER):
            first, last = entry["data_offsets"]
            values = data[begin + first : begin + last].view(_TYPES[entry["dtype"]])
            if entry["dtype"] == "BF16":  # the upper half of a float32
                values = (values.astype(np.uint32) << 16).view(np.float32)
            weights[name] = values.reshape(entry["shape"])
    return weights


def _bi_wkv(r: Floats, k: Floats, v: Floats, w: Floats, u: Floats) -> Floats:
    """As `kernels.reference` for `[B, T, H, N]`: how much of each token reaches each other one."""
    decay = np.maximum(-np.exp(np.minimum(w.astype(np.float64), 80)), _LEAST_DECAY)
    upto = np.pad(decay.cumsum(1), ((0, 0), (1, 0), (0, 0), (0, 0)))  # [B, T + 1, H, N]
    y = np.empty_like(v)
    tokens = np.arange(r.shape[1])
    first, last = np.minimum.outer(tokens, tokens), np.maximum.outer(tokens, tokens)
    own = np.eye(len(tokens), dtype=np.bool_)
    for b, h in np.ndindex(r.shape[0], r.shape[2]):
        of_head = upto[b, :, h]
        # The own token has no decay; first + 1 would be beyond it.
        between = of_head[last] - of_head[np.where(own, last, first + 1)]
        reach = np.exp(between.astype(np.float32))  # [T, T, N]
        reach[own] = u[h]
        attention = (reach * k[b, :, h]) @ r[b, :, h, :, None]  # [T, T, 1]
        y[b, :, h] = attention[..., 0] @ v[b, :, h]
    return y


def _unit(x: Floats, eps: float) -> Floats:
    """Mean 0 and variance 1 along the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    unit: Floats = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(eps))
    return unit


def _sigmoid(x: Floats) -> Floats:
    return np.float32(1) / (np.float32(1) + np.exp(-x))
