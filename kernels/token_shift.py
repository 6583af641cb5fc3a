"""Token shift: each channel of a token is replaced by that of one neighbour; zeros outside."""

from math import isqrt

import torch
from torch import Tensor


def q_shift(x: Tensor, heads: int) -> Tensor:
    """Shift image tokens in four directions, per head.

    Within a head of `N = C / heads` channels the quarters take the value of the token to the left,
    to the right, above and below. Source: the official model (the paper prints another order; the
    checkpoints follow this one).

    Args:
        x: `[B, T, C]`, the tokens of a square grid, row by row.
        heads: number of heads H; `C / H` must be a multiple of 4.

    Returns:
        `[B, T, C]`.
    """
    batch, tokens, channels = x.shape
    rows = isqrt(tokens)
    grid = x.view(batch, rows, rows, heads, 4, channels // heads // 4)
    out = torch.zeros_like(grid)
    out[:, :, 1:, :, 0] = grid[:, :, :-1, :, 0]
    out[:, :, :-1, :, 1] = grid[:, :, 1:, :, 1]
    out[:, 1:, :, :, 2] = grid[:, :-1, :, :, 2]
    out[:, :-1, :, :, 3] = grid[:, 1:, :, :, 3]
    return out.view(batch, tokens, channels)


def bidirectional_shift(x: Tensor, heads: int) -> Tensor:
    """Shift text tokens: per head the first half of the channels from t-1, the second from t+1.

    Args:
        x: `[B, T, C]`.
        heads: number of heads H; `C / H` must be even.

    Returns:
        `[B, T, C]`.
    """
    batch, tokens, channels = x.shape
    split = x.view(batch, tokens, heads, 2, channels // heads // 2)
    out = torch.zeros_like(split)
    out[:, 1:, :, 0] = split[:, :-1, :, 0]
    out[:, :-1, :, 1] = split[:, 1:, :, 1]
    return out.view(batch, tokens, channels)
