"""The RWKV-CLIP block: time mix (across tokens) and channel mix (within a token).

What is special: no attention. A token looks at its neighbours through a token shift with a
data-dependent interpolation, and at all other tokens through Bi-WKV, a two-sided linear recurrence
whose decay is data dependent too. Cost grows linearly with the number of tokens.

Symbols: B batch, T tokens, C channels, H heads, N = C / H; r, k, v receptance, key, value; w
log-decay input; u bonus; g gate.
Source: RWKV-CLIP (arXiv 2406.06973), section 3.2, and the official code.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from rwkvsearch.kernels import bi_wkv

MIX_RANK = 32
"""Rank of each of the five data-dependent interpolations, fixed by the checkpoints."""
DECAY_RANK = 64
"""Rank of the data-dependent decay, fixed by the checkpoints."""

Shift = Callable[[Tensor], Tensor]
"""Token shift `[B, T, C] -> [B, T, C]`."""


class TimeMix(nn.Module):
    """Spatial mixing of the paper: token shift, five lerps, Bi-WKV, GroupNorm, gate.

    Input and output `[B, T, C]`.
    """

    def __init__(self, width: int, heads: int, norm_eps: float, shift: Shift) -> None:
        super().__init__()
        self.heads = heads
        self.shift = shift
        self.mix_x = nn.Parameter(torch.zeros(1, 1, width))
        self.mix_w = nn.Parameter(torch.zeros(1, 1, width))
        self.mix_k = nn.Parameter(torch.zeros(1, 1, width))
        self.mix_v = nn.Parameter(torch.zeros(1, 1, width))
        self.mix_r = nn.Parameter(torch.zeros(1, 1, width))
        self.mix_g = nn.Parameter(torch.zeros(1, 1, width))
        self.mix_down = nn.Parameter(torch.zeros(width, 5 * MIX_RANK))
        self.mix_up = nn.Parameter(torch.zeros(5, MIX_RANK, width))
        self.decay = nn.Parameter(torch.zeros(1, 1, width))
        self.decay_down = nn.Parameter(torch.zeros(width, DECAY_RANK))
        self.decay_up = nn.Parameter(torch.zeros(DECAY_RANK, width))
        self.bonus = nn.Parameter(torch.zeros(heads, width // heads))
        self.receptance = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.norm = nn.GroupNorm(heads, width, eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Mix across tokens."""
        batch, tokens, width = x.shape
        xw, xk, xv, xr, xg = self._interpolate(x)
        w = self.decay + torch.tanh(xw @ self.decay_down) @ self.decay_up
        heads = (batch, tokens, self.heads, width // self.heads)
        y = bi_wkv(
            self.receptance(xr).view(heads),
            self.key(xk).view(heads),
            self.value(xv).view(heads),
            w.view(heads),
            self.bonus,
        )
        y = self.norm(y.reshape(batch * tokens, width)).view(batch, tokens, width)
        return self.output(y * functional.silu(self.gate(xg)))  # type: ignore[no-any-return]

    def _interpolate(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return x moved towards its neighbour in five data-dependent ways: for w, k, v, r, g."""
        delta = self.shift(x) - x
        low = torch.tanh((x + delta * self.mix_x) @ self.mix_down)  # [B, T, 5 * rank]
        bases = (self.mix_w, self.mix_k, self.mix_v, self.mix_r, self.mix_g)
        return tuple(
            x + delta * (base + part @ up)
            for base, part, up in zip(bases, low.chunk(5, -1), self.mix_up, strict=True)
        )


class ChannelMix(nn.Module):
    """Channel mixing of the paper: a gated squared-ReLU network. Input and output `[B, T, C]`.

    `mix` is the weight of the token itself in the image tower, of its neighbour in the text tower:
    the two official towers differ, and `toward_neighbour` says which is meant.
    """

    def __init__(self, width: int, hidden: int, shift: Shift, *, toward_neighbour: bool) -> None:
        super().__init__()
        self.shift = shift
        self.toward_neighbour = toward_neighbour
        self.mix_k = nn.Parameter(torch.zeros(1, 1, width))
        self.mix_r = nn.Parameter(torch.zeros(1, 1, width))
        self.key = nn.Linear(width, hidden, bias=False)
        self.receptance = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix within each token."""
        shifted = self.shift(x)
        start, end = (x, shifted) if self.toward_neighbour else (shifted, x)
        key = self.key(torch.lerp(start, end, self.mix_k.to(x.dtype)))
        gate = torch.sigmoid(self.receptance(torch.lerp(start, end, self.mix_r.to(x.dtype))))
        return gate * self.value(torch.relu(key).square())  # type: ignore[no-any-return]


class Block(nn.Module):
    """`x += time_mix(norm1(x)); x += channel_mix(norm2(x))`; the first of a tower has `norm0`."""

    def __init__(self, time_mix: TimeMix, channel_mix: ChannelMix, *, first: bool) -> None:
        super().__init__()
        width = time_mix.output.out_features
        self.norm0 = nn.LayerNorm(width) if first else nn.Identity()
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.time_mix = time_mix
        self.channel_mix = channel_mix

    def forward(self, x: Tensor) -> Tensor:
        """Run the block on `[B, T, C]`."""
        x = self.norm0(x)
        x = x + self.time_mix(self.norm1(x))
        return x + self.channel_mix(self.norm2(x))  # type: ignore[no-any-return]
