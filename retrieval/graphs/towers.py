"""Both towers as a graph for inference: the mathematics of `rwkv_clip`, arranged for engines.

The channels of the residual stream are reordered so that those that a token shift moves the same
way lie side by side; every weight that reads or writes the stream is reordered with it, so a shift
copies long pieces and the result is the same. Bi-WKV is that of `kernels.blocks`.
"""

from math import isqrt
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from rwkvsearch.kernels.blocks import FLOOR, blocks_of
from rwkvsearch.retrieval.graphs.ops import Array, Node, Ops
from rwkvsearch.retrieval.rwkv_clip.image_tower import ImageTower
from rwkvsearch.retrieval.rwkv_clip.mixing import MIX_RANK, Block, ChannelMix, TimeMix
from rwkvsearch.retrieval.rwkv_clip.text_tower import TextTower

Order = NDArray[np.int64]

LONGEST_FLAT = 104
"""More tokens than this are halved before they are cut into blocks."""
W_LIMIT = 80.0
"""The decay is 0 in float32 long before; see `kernels/README.md`."""


def image_graph(ops: Ops, tower: ImageTower, pixels: Node) -> Node:
    """Return the features `[B, D]` of `pixels` `[B, 3, S, S]`, S as the tower was trained for."""
    embed = tower.patch_embed
    tokens, width = tower.position.shape[1:]
    order = _order(width, _blocks(tower)[0].time_mix.heads, 4)
    rows = isqrt(tokens)
    grid = np.pad(np.arange(tokens).reshape(rows, rows), 1, constant_values=-1)
    left, right, above, below = grid[1:-1, :-2], grid[1:-1, 2:], grid[:-2, 1:-1], grid[2:, 1:-1]
    neighbours = np.stack((left, right, above, below), 2).reshape(tokens, 4)
    x = ops.patches(pixels, array(embed.weight)[order])
    x = ops.transpose(ops.reshape(x, (-1, width, tokens)), (0, 2, 1))
    bias = array(cast(Tensor, embed.bias))
    x = ops.add(x, ops.constant((array(tower.position) + bias)[..., order]))
    x = _Graph(ops, order, neighbours).run(x, tower)
    return ops.gather(ops.mean(x, 1), ops.constant(np.argsort(order)), 1)


def text_graph(ops: Ops, tower: TextTower, ids: Node, tokens: int) -> Node:
    """Return the features `[B, D]` of `ids` `[B, T]`."""
    table = array(tower.embed.weight)
    order = _order(table.shape[1], _blocks(tower)[0].time_mix.heads, 2)
    line = np.pad(np.arange(tokens), 1, constant_values=-1)
    neighbours = np.stack((line[:-2], line[2:]), 1)
    x = ops.gather(ops.constant(table[:, order]), ids, 0)
    x = ops.unit_length(_Graph(ops, order, neighbours).run(x, tower))
    return ops.gather(ops.mean(x, 1), ops.constant(np.argsort(order)), 1)


def array(x: Tensor) -> Array:
    """Return a parameter as float32."""
    values: Array = x.detach().float().numpy()
    return values


def bi_wkv_graph(
    ops: Ops, r: Node, k: Node, v: Node, log_decay: Node, *, u: Array, tokens: int
) -> Node:
    """Return Bi-WKV `[B, H, T, N]` of `r`, `k`, `v`, `log_decay` `[B, H, T, N]`; `u` `[H, N]`."""
    if tokens > LONGEST_FLAT and tokens % 2 == 0:
        return _in_halves(ops, r, k, v, log_decay, u, tokens)
    blocks, minus = blocks_of(tokens), ops.constant(np.array([-1], np.float32))
    before, *levels = (ops.matmul(ops.constant(x[None, None]), log_decay) for x in blocks.sums)
    after = ops.multiply(ops.add(before, log_decay), minus)
    factors = [ops.exp(x) for x in (before, after, *levels)]
    own = ops.sum_last(ops.multiply(ops.multiply(r, ops.constant(u[:, None])), k))
    attention = ops.multiply(own, ops.constant(np.eye(tokens, dtype=np.float32)))
    for (f, g), mask in zip(blocks.pairs, blocks.masks, strict=True):
        if mask.any():
            rf, kg = ops.multiply(r, factors[f]), ops.multiply(k, factors[g])
            attention = ops.select(mask, ops.matmul(rf, kg, transposed=True), attention)
    return ops.matmul(attention, v)


def _in_halves(ops: Ops, r: Node, k: Node, v: Node, log_decay: Node, u: Array, t: int) -> Node:
    """Return the same: each half alone, as if it were a head, and what passes between them."""
    heads, size = u.shape
    half = t // 2

    def halved(x: Node) -> Node:
        return ops.reshape(x, (-1, 2 * heads, half, size))

    parts = [halved(x) for x in (r, k, v, log_decay)]
    within = bi_wkv_graph(ops, *parts, u=np.repeat(u, 2, axis=0), tokens=half)
    later = np.triu(np.ones((half, half), np.float32), 1)[None, None]
    (r0, r1), (k0, k1), (v0, v1), (d0, d1) = (
        (ops.slice(x, 0, half, 2), ops.slice(x, half, t, 2)) for x in (r, k, v, log_decay)
    )
    f0 = ops.exp(ops.matmul(ops.constant(later), d0))
    f1 = ops.exp(ops.matmul(ops.constant(later.swapaxes(2, 3)), d1))
    r0, k0, r1, k1 = (ops.multiply(x, f) for x, f in ((r0, f0), (k0, f0), (r1, f1), (k1, f1)))
    first = ops.matmul(ops.matmul(r0, k1, transposed=True), v1)
    second = ops.matmul(ops.matmul(r1, k0, transposed=True), v0)
    return ops.add(ops.reshape(within, (-1, heads, t, size)), ops.concat((first, second), 2))


class _Graph:
    """The blocks of one tower; `order` is that of the channels of the residual stream.

    `neighbours` `[T, parts]` are the tokens that each part of the channels is taken from by the
    token shift; -1 is none.
    """

    def __init__(self, ops: Ops, order: Order, neighbours: NDArray[np.int64]) -> None:
        self.ops, self.order = ops, order
        self.tokens, self.parts = neighbours.shape
        inside = np.repeat(neighbours >= 0, len(order) // self.parts, axis=1)
        self.inside = ops.constant(inside.astype(np.float32))
        places = np.maximum(neighbours, 0) * self.parts + np.arange(self.parts)
        self.places = ops.constant(places.ravel())

    def shift(self, x: Node) -> Node:
        """Return the token shift of x `[B, T, C]`."""
        ops, width = self.ops, len(self.order)
        parts = ops.reshape(x, (-1, self.tokens * self.parts, width // self.parts))
        moved = ops.reshape(ops.gather(parts, self.places, 1), (-1, self.tokens, width))
        return ops.multiply(moved, self.inside)

    def run(self, x: Node, tower: ImageTower | TextTower) -> Node:
        """Return the tokens after the last LayerNorm, `[B, T, C]`."""
        for block in _blocks(tower):
            if isinstance(block.norm0, nn.LayerNorm):
                x = self.norm(x, block.norm0)
            x = self.ops.add(x, self.time_mix(block.time_mix, self.norm(x, block.norm1)))
            x = self.ops.add(x, self.channel_mix(block.channel_mix, self.norm(x, block.norm2)))
        return self.norm(x, tower.norm)

    def norm(self, x: Node, norm: nn.LayerNorm) -> Node:
        weight, bias = (array(x)[self.order] for x in (norm.weight, norm.bias))
        return self.ops.layer_norm(x, norm.eps, weight, bias)

    def reads(self, x: Node, weight: Tensor) -> Node:
        """Return `x W^T` for x of the stream and `weight` `[out, C]`."""
        return self.ops.linear(x, array(weight)[:, self.order])

    def writes(self, x: Node, weight: Tensor) -> Node:
        """Return `x W^T` in the order of the stream, for `weight` `[C, in]`."""
        return self.ops.linear(x, array(weight)[self.order])

    def in_order(self, x: Tensor) -> Node:
        """Return a parameter `[..., C]` in the order of the stream."""
        return self.ops.constant(array(x)[..., self.order])

    def time_mix(self, mix: TimeMix, x: Node) -> Node:
        ops, width = self.ops, mix.output.out_features
        heads, size = mix.heads, width // mix.heads
        xw, xk, xv, xr, xg = self.interpolate(mix, x)
        low = ops.tanh(self.reads(xw, mix.decay_down.T))
        w = ops.add(ops.linear(low, array(mix.decay_up.T)), ops.constant(array(mix.decay)))
        decay = ops.exp(ops.minimum(w, ops.constant(np.array([W_LIMIT], np.float32))))
        log_decay = ops.maximum(
            ops.multiply(decay, ops.constant(np.array([-1], np.float32))),
            ops.constant(np.array([FLOOR], np.float32)),
        )
        r, k = (
            self.reads(part, layer.weight) for part, layer in ((xr, mix.receptance), (xk, mix.key))
        )
        per_head = mix.value.weight.float().reshape(heads, size, width)
        # Values of mean 0 leave GroupNorm, after a sum over tokens, nothing to subtract.
        v = self.reads(xv, (per_head - per_head.mean(1, keepdim=True)).flatten(0, 1))
        split = (
            ops.transpose(ops.reshape(part, (-1, self.tokens, heads, size)), (0, 2, 1, 3))
            for part in (r, k, v, log_decay)
        )
        y = bi_wkv_graph(ops, *split, u=array(mix.bonus), tokens=self.tokens)
        y = ops.unit_variance(ops.transpose(y, (0, 2, 1, 3)), size, mix.norm.eps)
        y = ops.reshape(y, (-1, self.tokens, width))
        y = ops.multiply(y, ops.constant(array(mix.norm.weight)))
        y = ops.add(y, ops.constant(array(mix.norm.bias)))
        gate = ops.silu(self.reads(xg, mix.gate.weight))
        return self.writes(ops.multiply(gate, y), mix.output.weight)

    def interpolate(self, mix: TimeMix, x: Node) -> list[Node]:
        """Return x moved towards its neighbour in five data-dependent ways: for w, k, v, r, g."""
        ops = self.ops
        delta = ops.subtract(self.shift(x), x)
        low = ops.add(x, ops.multiply(delta, self.in_order(mix.mix_x)))
        low = ops.reshape(self.reads(low, mix.mix_down.T), (-1, self.tokens, 5, MIX_RANK))
        parts = (
            ops.reshape(part, (-1, self.tokens, MIX_RANK))
            for part in ops.split(ops.tanh(low), 5, 2)  # fp32 products are faster without a tanh
        )
        bases = (mix.mix_w, mix.mix_k, mix.mix_v, mix.mix_r, mix.mix_g)
        return [
            ops.add(x, ops.multiply(delta, ops.add(self.writes(part, up.T), self.in_order(base))))
            for part, up, base in zip(parts, mix.mix_up, bases, strict=True)
        ]

    def channel_mix(self, mix: ChannelMix, x: Node) -> Node:
        ops = self.ops
        delta = ops.subtract(self.shift(x), x)
        to_k, to_r = (
            ops.add(
                x,
                ops.multiply(delta, self.in_order(m if mix.toward_neighbour else 1 - m.float())),
            )
            for m in (mix.mix_k, mix.mix_r)
        )
        key = ops.relu(self.reads(to_k, mix.key.weight))
        gate = ops.sigmoid(self.reads(to_r, mix.receptance.weight[self.order]))
        return ops.multiply(gate, self.writes(ops.multiply(key, key), mix.value.weight))


def _blocks(tower: ImageTower | TextTower) -> list[Block]:
    return cast(list[Block], list(tower.blocks))


def _order(width: int, heads: int, parts: int) -> Order:
    """Return the channels, those of the same part of every head side by side."""
    size = width // heads // parts
    return np.arange(width).reshape(heads, parts, size).swapaxes(0, 1).ravel()
