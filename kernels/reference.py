"""The definition of Bi-WKV, in plain torch. Every other backend is accepted because it equals this.

For each head, with decay `d = exp(-exp(w))` in (0, 1) per token and channel:

    y_t = sum_{i<t} r_t . (k_i * d_{i+1} * ... * d_{t-1}) v_i      tokens before t
        + sum_{i>t} r_t . (k_i * d_{t+1} * ... * d_{i-1}) v_i      tokens after t
        + r_t . (u * k_t) v_t                                      t itself

Neighbours have decay exactly 1, and `w` of the first and the last token is never used.

Source: RWKV-CLIP (arXiv 2406.06973), section 3; WKV-6 is that of RWKV-6 (arXiv 2404.05892).
"""

import torch
from torch import Tensor

MAX_LOG_DECAY_INPUT = 80.0
"""`exp(w)` overflows float32 beyond 88; at 80 the decay is already exactly 0, its gradient too."""


def decay_exponent(w: Tensor) -> Tensor:
    """Return `log d = -exp(w)`, finite for every `w`; at least float32."""
    dtype = torch.promote_types(w.dtype, torch.float32)
    return -torch.exp(w.to(dtype).clamp(max=MAX_LOG_DECAY_INPUT))


def bi_wkv_reference(r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor) -> Tensor:
    """Scan the tokens once forward and once backward, one state `[N, N]` per head.

    Args:
        r: receptance `[B, T, H, N]`.
        k: key `[B, T, H, N]`.
        v: value `[B, T, H, N]`.
        w: log-decay input `[B, T, H, N]`, any real number; decay is `exp(-exp(w))`.
        u: bonus for the own token `[H, N]`.

    Returns:
        `[B, T, H, N]` in the widest input type, at least float32. Differentiable by autograd.
    """
    decay = torch.exp(decay_exponent(w))
    r, k, v, u = (x.to(decay.dtype) for x in (r, k, v, u))
    own = (r * u * k).sum(-1, keepdim=True) * v
    before = _scan(r, k, v, decay)
    after = _scan(*(x.flip(1) for x in (r, k, v, decay))).flip(1)
    return own + before + after


def _scan(r: Tensor, k: Tensor, v: Tensor, decay: Tensor) -> Tensor:
    batch, tokens, heads, size = r.shape
    state = r.new_zeros(batch, heads, size, size)  # [B, H, key, value]
    outputs = []
    for t in range(tokens):
        outputs.append((r[:, t, :, None] @ state).squeeze(-2))
        state = decay[:, t, :, :, None] * state + k[:, t, :, :, None] * v[:, t, :, None]
    return torch.stack(outputs, dim=1)
