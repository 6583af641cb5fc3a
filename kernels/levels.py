"""Bi-WKV as a handful of matrix products, in plain torch: exact, differentiable, exportable.

Split the tokens by binary levels. At level b two tokens belong together when b is the highest bit
in which their positions differ: the smaller one lies left of a boundary m, the larger one right of
it. The decay between them factors at that boundary into one part per token,

    E(i) = sum of log d over i+1 .. m-1   (left of m),
    E(t) = sum of log d over m .. t-1     (right of m),

and `exp(E) <= 1`, so nothing overflows and nothing cancels. One product `(r e^E) (k e^E)^T` holds
the pairs of this level in both directions at once.
"""

from functools import cache

import torch
from torch import Tensor

from rwkvsearch.kernels.reference import decay_exponent


def bi_wkv_levels(r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor) -> Tensor:
    """Compute Bi-WKV with `log2(T)` products `[T, N] x [N, T]` per head; memory O(T^2).

    Arguments and result as `bi_wkv_reference`.
    """
    log_decay = decay_exponent(w).transpose(1, 2)  # [B, H, T, N]
    r, k, v = (x.to(log_decay.dtype).transpose(1, 2) for x in (r, k, v))
    sums, masks = (x.to(log_decay) for x in _levels(r.shape[2]))
    own = (r * u.to(r.dtype)[:, None] * k).sum(-1)  # [B, H, T]
    attention = torch.diag_embed(own)  # [B, H, T, T]
    for between, mask in zip(sums, masks, strict=True):
        factor = torch.exp(between @ log_decay)
        attention = attention + mask * ((r * factor) @ (k * factor).mT)
    return (attention @ v).transpose(1, 2)


@cache
def _levels(tokens: int) -> tuple[Tensor, Tensor]:
    """Return per level which `log d` a token sums and which pairs it owns, each `[L, T, T]`."""
    t = torch.arange(tokens)
    sums, masks = [], []
    for bit in range(max(tokens - 1, 0).bit_length()):
        boundary = ((t >> (bit + 1)) << (bit + 1)) + (1 << bit)  # [T], m of each token's block
        row, column, m = t[:, None], t[None], boundary[:, None]
        left = (row < m) & (column > row) & (column < m)
        right = (row >= m) & (column >= m) & (column < row)
        sums.append(left | right)
        masks.append(((row ^ column) >> bit) == 1)
    empty = torch.zeros(0, tokens, tokens, dtype=torch.bool)
    return (torch.stack(sums), torch.stack(masks)) if sums else (empty, empty)
