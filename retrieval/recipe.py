"""Weights and inputs of the golden fixtures, made from a seed and a name; numpy only.

Every array is drawn from `PCG64(crc32("<seed>:<name>"))`, so each can be made alone, in any order.
"""

import math
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BFLOAT16_LEAVES = ("time_decay", "time_faaaa")


def weight(seed: str, key: str, shape: Sequence[int]) -> NDArray[np.float32]:
    """Return the parameter with the official name `key`.

    The text tower's `time_decay` and `time_faaaa` are rounded to bfloat16.

    Raises:
        KeyError: no rule for this key.
    """
    offset, scale = _offset_and_scale(key, shape)
    values = (offset + scale * _normal(seed, key, shape)).astype(np.float32)
    if key.startswith("text_model.") and key.split(".")[-1] in _BFLOAT16_LEAVES:
        values = _round_to_bfloat16(values)
    return values


def images(seed: str, batch: int, size: int) -> NDArray[np.float32]:
    """Return pixels `[B, 3, S, S]`."""
    shape = (batch, 3, size, size)
    return _normal(seed, f"images{batch}x{size}", shape).astype(np.float32)


def tokens(
    seed: str, batch: int, context: int, vocabulary: int, lengths: Sequence[int]
) -> NDArray[np.int64]:
    """Return ids `[B, T]`: `lengths[b]` of them between the start and the end mark, then zeros."""
    drawn = _generator(seed, f"tokens{batch}x{context}").integers(
        1, vocabulary - 2, size=(batch, context)
    )
    ids = np.where(np.arange(context) < np.array(lengths)[:, None], drawn, 0)
    ids[:, 0] = vocabulary - 2
    ids[np.arange(batch), np.array(lengths) - 1] = vocabulary - 1
    return ids


def _offset_and_scale(key: str, shape: Sequence[int]) -> tuple[float, float]:
    """Return the mean and the standard deviation of a parameter."""
    *path, leaf = key.split(".")
    module = path[-1] if path else ""
    fixed = {
        "logit_scale": (math.log(1 / 0.07), 0.1),
        "pos_embed": (0, 0.5),
        "time_decay": (-2, 1.5),
        "time_faaaa": (0, 0.5),
    }
    if leaf in fixed:
        return fixed[leaf]
    if module == "emb":
        return 0, 1
    if leaf == "bias":
        return 0, 0.1
    if module.startswith("ln"):
        return 1, 0.2
    if module == "projection":
        return 0, 1 / math.sqrt(math.prod(shape[1:]))
    if leaf == "time_maa_w2":
        return 0, 0.5 / math.sqrt(shape[1])
    if leaf in ("time_maa_w1", "time_decay_w1", "time_decay_w2"):
        return 0, 1 / math.sqrt(shape[0])
    if leaf.startswith(("time_maa_", "spatial_mix_")):
        return 0.5, 0.3
    if leaf == "weight" and len(shape) == 2:
        residual = module == "output" or path[-2:] == ["ffn", "value"]
        return 0, (0.5 if residual else 1) / math.sqrt(shape[1])
    raise KeyError(key)


def _generator(seed: str, name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(f"{seed}:{name}".encode())))


def _normal(seed: str, name: str, shape: Sequence[int]) -> NDArray[np.float64]:
    return np.asarray(_generator(seed, name).standard_normal(tuple(shape)))


def _round_to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    bits = values.view(np.uint32)
    even = (bits >> 16) & 1  # ties go to the even neighbour
    return ((bits + 0x7FFF + even) & np.uint32(0xFFFF0000)).view(np.float32)
