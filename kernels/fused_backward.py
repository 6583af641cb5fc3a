"""Bi-WKV on a GPU, backward pass: the same walk over chunks as `fused.py`, from the inputs alone.

Written as y = A v, the operator is its own mirror: A with r and k exchanged is A^T, so gv is a
forward pass of gy. With gA = gy v^T, gr and gk are one kernel with exchanged arguments,

    gr_t = sum_i gA_ti k_i decay(i .. t) + own term,    gk_i = sum_t gA_ti r_t decay(i .. t) + ...

The gradient of log d at token j sums r_t * gr_t over all pairs whose path passes j. Each pair has a
boundary, as in `levels.py`, and its path is a part of each token up to there: within a chunk a 0/1
matrix product, over whole chunks one vector `[N]` per chunk and level, added up by the last kernel.
No differences, no atomics; memory between the kernels is T N + T N log2(T) / 16 per head.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# mypy: disable-error-code="assignment, operator"

from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rwkvsearch.kernels.fused import (
    CHUNK,
    add_up,
    channel_parts,
    exp2,
    is_exact,
    key_factor,
    launch_options,
    level_sums,
    load_decay,
    load_rows,
    on,
    own_edge,
    product,
    run_forward,
    zero_row,
    zeros,
)

MINUS_LN_2 = tl.constexpr(-0.6931471805599453)


def fused_backward(
    gy: Tensor, r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of `fused_forward`; the same bits every time.

    Args:
        gy: gradient of the output, `[B, T, H, N]`, any type and strides.
        r, k, v, w, u: what `fused_forward` was given.

    Returns:
        gr, gk, gv, gw `[B, T, H, N]` and gu `[H, N]`, contiguous, each in its input's type.

    Raises:
        ValueError: N is larger than 128.
    """
    batch, tokens, heads, size = r.shape
    chunks = triton.cdiv(tokens, CHUNK.value)
    levels = max(chunks - 1, 0).bit_length()
    gr, gk, gw = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (r, k, w))
    gv = run_forward(k, r, gy, w, u, v.dtype)
    if not r.numel():
        return gr, gk, gv, gw, torch.zeros(u.shape, dtype=u.dtype, device=u.device)
    empty = partial(torch.empty, dtype=torch.float32, device=r.device)
    inside = empty((2, *r.shape))
    outside = empty((2, batch, heads, chunks, max(levels, 1), size))
    gu = empty((batch, heads, chunks, size))
    parts, options = channel_parts(size), backward_options(size)
    grid = (batch * heads * chunks,)
    with on(r.device):
        for a, b, x, own, out, part, bonus in (
            (gy, v, k, r, gr, 0, gu),
            (v, gy, r, k, gk, 1, None),
        ):
            gradient_kernel[grid](
                a, b, x, own, w, u, out, inside[part], outside[part], bonus,
                a.stride(), b.stride(), x.stride(), own.stride(), w.stride(), u.stride(),
                tokens, heads, levels, size, parts, is_exact(r, k, v), **options,
            )  # fmt: skip
        decay_kernel[grid](
            w, gw, inside[0], inside[1], outside[0], outside[1], w.stride(),
            tokens, heads, levels, size, parts, **options,
        )  # fmt: skip
    return gr, gk, gv, gw, gu.sum((0, 2)).to(u.dtype)


def backward_options(size: int) -> dict[str, Any]:
    """Return the compiler's options with which the backward kernels keep everything in registers.

    The largest number of registers is named because the assembler would stop at 128 for small N.
    """
    return launch_options(2 if size <= 32 else 4 if size <= 80 else 8) | {"maxnreg": 255}


@triton.jit
def own_chunk(g, x, c, e, out, WIDTH: tl.constexpr, EXACT: tl.constexpr):
    """Add the pairs within a chunk, scores `g` `[16, 16]`, to `out`; return it and `inside`."""
    row, column = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    inside = zeros(WIDTH)
    for level in range(4):
        passed = tl.where(level_sums(level), 1.0, 0.0)
        pairs = tl.where((row ^ column) >> level == 1, g, 0.0)
        f = exp2(-add_up(passed, e, zeros(WIDTH)))
        s = f * product(pairs, x * f, zeros(WIDTH), EXACT)
        out += s
        inside = add_up(tl.trans(passed), s * c, inside)
    return out, inside


@triton.jit
def add_keys(
    acc, between, a_ptr, b_ptr, x_ptr, w_ptr, as_, bs, xs, ws,
    first, at, SIDE: tl.constexpr, step,
    T, N: tl.constexpr, PARTS: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Add the pairs with 16 keys, going outward from `at`, decayed up to the border, to `acc`."""
    i = tl.arange(0, CHUNK)
    row, column = i[:, None], i[None, :]
    t = tl.minimum(first + i, T - 1)
    of = at - i if SIDE < 0 else tl.minimum(at + i, T - 1)
    g = tl.zeros((CHUNK, CHUNK), tl.float32)
    for p in tl.static_range(len(PARTS)):
        a = load_rows(a_ptr, as_, t, N, PARTS[p][0], PARTS[p][1], AGAIN=True)
        b = load_rows(b_ptr, bs, of, N, PARTS[p][0], PARTS[p][1])
        g = product(a, tl.trans(b), g, EXACT)
    g = tl.where((first + row < T) & (at + SIDE * column < T), g, 0.0)
    sums, farther = (), ()
    for p in tl.static_range(len(PARTS)):
        f, beyond = key_factor(
            w_ptr, ws, at, SIDE, step, between[p], T, N, PARTS[p][0], PARTS[p][1]
        )
        x = load_rows(x_ptr, xs, of, N, PARTS[p][0], PARTS[p][1])
        sums += (product(g, x * f, acc[p], EXACT),)
        farther += (beyond,)
    return sums, farther


@triton.jit
def close_level(
    acc, out, inside, c_ptr, w_ptr, outside_ptr, cs, ws,
    first, SIDE: tl.constexpr, T, N: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Decay `acc` from the border to the own tokens; add it to `out`, its paths to both shares."""
    i = tl.arange(0, CHUNK)
    row, column = i[:, None], i[None, :]
    t = tl.minimum(first + i, T - 1)
    passing = tl.where((column > row) if SIDE < 0 else (column < row), 1.0, 0.0)
    outs, insides = (), ()
    for p in tl.static_range(len(PARTS)):
        n = PARTS[p][0] + tl.arange(0, PARTS[p][1])
        s = acc[p] * own_edge(w_ptr, ws, first, SIDE, T, N, PARTS[p][0], PARTS[p][1])
        outs += (out[p] + s,)
        s *= load_rows(c_ptr, cs, t, N, PARTS[p][0], PARTS[p][1], AGAIN=True)
        insides += (add_up(passing, s, inside[p]),)
        tl.store(outside_ptr + n, tl.sum(s, 0), mask=n < N)
    return outs, insides


@triton.jit
def gradient_kernel(  # noqa: C901
    a_ptr, b_ptr, x_ptr, c_ptr, w_ptr, u_ptr, out_ptr, inside_ptr, outside_ptr, gu_ptr,
    as_, bs, xs, cs, ws, us,
    T, H, LEVELS, N: tl.constexpr, PARTS: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Write sum_i (a_t . b_i) x_i decay(i .. t) of one chunk and its share in the gradient of d.

    `c` is the input that this is the gradient of. The share is `inside` `[B, T, H, N]` for paths
    within the chunk and `outside` `[B, H, chunks, LEVELS, N]` for those over the chunks beside it.
    """
    chunks = tl.cdiv(T, CHUNK)
    chunk = tl.program_id(0) % chunks
    head = tl.program_id(0) // chunks % H
    batch = (tl.program_id(0) // chunks // H).to(tl.int64)
    a_ptr += batch * as_[0] + head * as_[2]
    b_ptr += batch * bs[0] + head * bs[2]
    x_ptr += batch * xs[0] + head * xs[2]
    c_ptr += batch * cs[0] + head * cs[2]
    w_ptr += batch * ws[0] + head * ws[2]
    inside_ptr += batch * T * H * N + head * N
    out_ptr += batch * T * H * N + head * N
    outside_ptr += tl.program_id(0).to(tl.int64) * tl.maximum(LEVELS, 1) * N
    i = tl.arange(0, CHUNK)
    row, column = i[:, None], i[None, :]
    first = chunk * CHUNK
    t = tl.minimum(first + i, T - 1)

    g = tl.zeros((CHUNK, CHUNK), tl.float32)
    for p in tl.static_range(len(PARTS)):
        a = load_rows(a_ptr, as_, t, N, PARTS[p][0], PARTS[p][1])
        b = load_rows(b_ptr, bs, t, N, PARTS[p][0], PARTS[p][1])
        g = product(a, tl.trans(b), g, EXACT)
    g = tl.where((first + row < T) & (first + column < T), g, 0.0)
    own = tl.sum(tl.where(row == column, g, 0.0), 1)

    out, inside = (), ()
    for p in tl.static_range(len(PARTS)):
        n = PARTS[p][0] + tl.arange(0, PARTS[p][1])
        u = tl.load(u_ptr + head * us[0] + n * us[1], mask=n < N, other=0.0).to(tl.float32)
        x = load_rows(x_ptr, xs, t, N, PARTS[p][0], PARTS[p][1])
        c = load_rows(c_ptr, cs, t, N, PARTS[p][0], PARTS[p][1])
        e = load_decay(w_ptr, ws, t, N, PARTS[p][0], PARTS[p][1])
        if gu_ptr is not None:
            share = tl.sum(own[:, None] * x * c, 0)
            tl.store(gu_ptr + tl.program_id(0).to(tl.int64) * N + n, share, mask=n < N)
        o, passing = own_chunk(g, x, c, e, own[:, None] * u[None, :] * x, PARTS[p][1], EXACT)
        out += (o,)
        inside += (passing,)

    for SIDE in tl.static_range(-1, 2, 2):
        between = ()
        for p in tl.static_range(len(PARTS)):
            between += (zero_row(PARTS[p][1]),)
        done = 0
        for level in range(LEVELS):
            if (chunk >> level) % 2 == (1 if SIDE < 0 else 0):
                left = chunk if SIDE < 0 else chunks - 1 - chunk
                steps = tl.minimum(1 << level, left - done)
                acc = ()
                for p in tl.static_range(len(PARTS)):
                    acc += (zeros(PARTS[p][1]),)
                for step in range(done, done + steps):
                    at = first + (-1 if SIDE < 0 else CHUNK) + SIDE * CHUNK * step
                    acc, between = add_keys(
                        acc, between, a_ptr, b_ptr, x_ptr, w_ptr, as_, bs, xs, ws,
                        first, at, SIDE, step, T, N, PARTS, EXACT,
                    )  # fmt: skip
                out, inside = close_level(
                    acc, out, inside, c_ptr, w_ptr, outside_ptr + level * N, cs, ws,
                    first, SIDE, T, N, PARTS,
                )  # fmt: skip
                done += steps
    for p in tl.static_range(len(PARTS)):
        n = PARTS[p][0] + tl.arange(0, PARTS[p][1])[None, :]
        here = (first + row) * (H * N) + n
        mask = (first + row < T) & (n < N)
        tl.store(out_ptr + here, out[p], mask=mask)
        tl.store(inside_ptr + here, inside[p], mask=mask)


@triton.jit
def decay_kernel(
    w_ptr, gw_ptr, inside_a, inside_b, outside_a, outside_b, ws,
    T, H, LEVELS, N: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Write gw of one chunk: add up both shares and the paths over the whole chunk, times log d."""
    chunks = tl.cdiv(T, CHUNK)
    chunk = tl.program_id(0) % chunks
    head = tl.program_id(0) // chunks % H
    batch = (tl.program_id(0) // chunks // H).to(tl.int64)
    w_ptr += batch * ws[0] + head * ws[2]
    of_head = (batch * H + head) * chunks * tl.maximum(LEVELS, 1) * N
    i = tl.arange(0, CHUNK)
    first = chunk * CHUNK
    for p in tl.static_range(len(PARTS)):
        n = PARTS[p][0] + tl.arange(0, PARTS[p][1])
        over = zero_row(PARTS[p][1])
        for level in range(LEVELS):
            half = chunk >> level << level
            right = (chunk >> level) % 2
            start = chunk + 1 if right == 1 else half
            end = tl.minimum(half + (1 << level), chunks) if right == 1 else chunk
            for other in range(start, end):
                one = of_head + (other * LEVELS + level) * N + n
                over += tl.load(outside_a + one, mask=n < N, other=0.0)
                over += tl.load(outside_b + one, mask=n < N, other=0.0)
        here = batch * T * H * N + (first + i[:, None]) * (H * N) + head * N + n[None, :]
        mask = (first + i[:, None] < T) & (n[None, :] < N)
        g = tl.load(inside_a + here, mask=mask, other=0.0)
        g += tl.load(inside_b + here, mask=mask, other=0.0)
        e = load_decay(w_ptr, ws, tl.minimum(first + i, T - 1), N, PARTS[p][0], PARTS[p][1])
        tl.store(gw_ptr + here, e * (g + over[None, :]) * MINUS_LN_2, mask=mask)
