"""Bi-WKV as a compiled scan on the CPU: cost and memory linear in the number of tokens.

The same recurrence as `reference.py`, compiled by numba for one head size at a time. The backward
pass recomputes the states of one head, keeps them in a buffer `[T, N, N]` per thread and sweeps
back over them; nothing but the inputs is stored between the passes.

Inner loops take four rows of the state at a time: the sums they add to are loaded and stored once
for all four, otherwise that round trip through memory would decide the speed (measured: 1.2 to 2.4
times faster). Heads are spread over as many threads as torch uses in the calling thread, so a
thread that runs torch on a single core stays on that core.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from rwkvsearch.kernels.reference import MAX_LOG_DECAY_INPUT

OPTIONS: dict[str, Any] = {
    # No "nnan" or "ninf": extreme inputs must behave. Sums may be reordered so that they vectorise.
    "fastmath": {"reassoc", "contract", "nsz"},
    "error_model": "numpy",
    "nogil": True,
}
MOST, LEAST = np.float32(MAX_LOG_DECAY_INPUT), np.float32(-87)
MINUS_ONE, ZERO = np.float32(-1), np.float32(0)
LOG2_E = np.float32(1 / math.log(2))
LN_2 = np.float32(math.ldexp(round(math.ldexp(math.log(2), 9)), -9))  # few bits: m * LN_2 is exact
LN_2_REST = np.float32(math.log(2) - float(LN_2))
ONE, C1, C2, C3, C4, C5, C6, C7 = (np.float32(1 / math.factorial(n)) for n in range(8))
MIN_WORK_PER_THREAD = 1 << 20
"""Multiply-adds below which a further thread costs more than it brings."""


def scan_forward(r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor) -> Tensor:
    """Compute Bi-WKV in float32 on the CPU.

    Arguments as `bi_wkv_reference`; any floating type is read as float32. Returns `[B, T, H, N]`
    float32.
    """
    r, k, v, w, u = (_readable(x) for x in (r, k, v, w, u))
    y = torch.empty_like(r)
    _over_heads(_forward_kernel(r.shape[-1]), r, k, v, w, u, y)
    return y


def scan_backward(
    gy: Tensor, r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of r, k, v, w and u in float32, given that of the output."""
    inputs = [_readable(x) for x in (gy, r, k, v, w, u)]
    grads = [torch.empty_like(inputs[0]) for _ in range(4)]
    gu = inputs[0].new_empty(r.shape[0], *u.shape)
    _over_heads(_backward_kernel(r.shape[-1]), *inputs, *grads, gu)
    gr, gk, gv, gw = grads
    return gr, gk, gv, gw, gu.sum(0)


def _readable(x: Tensor) -> Tensor:
    return x.detach().float().contiguous()


def _over_heads(kernel: Callable[..., None], *tensors: Tensor) -> None:
    """Run `kernel(start, stop, ...)` over all heads of all items of the first tensor."""
    batch, tokens, heads, size = tensors[0].shape
    jobs, arrays = batch * heads, [x.numpy() for x in tensors]
    most = jobs * tokens * size * size // MIN_WORK_PER_THREAD
    workers = max(1, min(torch.get_num_threads(), most, jobs))
    if workers == 1:
        kernel(0, jobs, *arrays)
        return
    bounds = [jobs * worker // workers for worker in range(workers + 1)]
    pool = _pool(torch.get_num_threads() - 1)
    others = [
        pool.submit(kernel, start, stop, *arrays)
        for start, stop in zip(bounds[1:-1], bounds[2:], strict=True)
    ]
    kernel(0, bounds[1], *arrays)
    for job in others:
        job.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "bi_wkv")


@cache
def _forward_kernel(size: int) -> Callable[..., None]:
    """Compile the forward pass for heads of `size` channels, a constant so that loops vectorise."""

    def forward(start, stop, r, k, v, w, u, y):  # type: ignore[no-untyped-def]
        tokens, heads = r.shape[1:3]
        decay = np.empty((tokens, size), np.float32)
        log_decay = np.empty((tokens, size), np.float32)
        bits = np.empty((tokens, size), np.int32)
        state = np.empty((size, size), np.float32)  # [key, value]
        for job in range(start, stop):
            b, h = job // heads, job % heads
            _decay(w[b, :, h], bits, log_decay, decay)
            for t in range(tokens):
                _own(size, r[b, t, h], k[b, t, h], v[b, t, h], u[h], y[b, t, h])
            for direction in range(2):
                state[:] = 0
                for s in range(tokens):
                    t = s if direction == 0 else tokens - 1 - s
                    _step(size, state, r[b, t, h], k[b, t, h], v[b, t, h], decay[t], y[b, t, h])

    return _compiled(forward)


@cache
def _backward_kernel(size: int) -> Callable[..., None]:
    """Compile the backward pass for heads of `size` channels."""

    def backward(start, stop, gy, r, k, v, w, u, gr, gk, gv, gw, gu):  # type: ignore[no-untyped-def]
        tokens, heads = r.shape[1:3]
        decay = np.empty((tokens, size), np.float32)
        log_decay = np.empty((tokens, size), np.float32)
        bits = np.empty((tokens, size), np.int32)
        states = np.empty((tokens + 1, size, size), np.float32)  # [T + 1, value, key]
        adjoint = np.empty((size, size), np.float32)
        for job in range(start, stop):
            b, h = job // heads, job % heads
            gu[b, h] = 0
            _decay(w[b, :, h], bits, log_decay, decay)
            for t in range(tokens):
                _own_backward(
                    size, gy[b, t, h], r[b, t, h], k[b, t, h], v[b, t, h], u[h],
                    gr[b, t, h], gk[b, t, h], gv[b, t, h], gw[b, t, h], gu[b, h],
                )  # fmt: skip
            for direction in range(2):
                states[0] = 0
                for s in range(tokens):
                    t = s if direction == 0 else tokens - 1 - s
                    _replay(
                        size, states[s], states[s + 1], gy[b, t, h], k[b, t, h], v[b, t, h],
                        decay[t], gr[b, t, h],
                    )  # fmt: skip
                adjoint[:] = 0
                for s in range(tokens - 1, -1, -1):
                    t = s if direction == 0 else tokens - 1 - s
                    _sweep(
                        size, adjoint, states[s], gy[b, t, h], r[b, t, h], k[b, t, h],
                        v[b, t, h], decay[t], gk[b, t, h], gv[b, t, h], gw[b, t, h],
                    )  # fmt: skip
            for t in range(tokens):
                for j in range(size):
                    gw[b, t, h, j] *= decay[t, j] * log_decay[t, j]

    return _compiled(backward)


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile; the machine code is kept on disk where there is a folder for it."""
    kernel: Callable[..., None]
    try:
        kernel = njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # no folder for the cache: compile anew in every process
        kernel = njit(**OPTIONS)(function)
    return kernel


@njit(error_model="numpy", nogil=True)
def _decay(w, bits, log_decay, decay):  # type: ignore[no-untyped-def]
    """Write `log d = -exp(w)` and `d = exp(-exp(w))` of one head, all `[T, N]`."""
    decay[:] = w
    _exp(decay.ravel(), bits.ravel(), log_decay.ravel())
    log_decay *= MINUS_ONE
    _exp(log_decay.ravel(), bits.ravel(), decay.ravel())


@njit(error_model="numpy", nogil=True, fastmath={"contract"})  # the order of these sums matters
def _exp(x, bits, out):  # type: ignore[no-untyped-def]
    """Write `exp(x)` in float32; 0 below -87, near where float32 becomes denormal.

    `exp(x) = 2^m exp(f)` with `|f| <= ln(2) / 2`; eight terms of the series are exact to rounding.
    """
    power = bits.view(np.float32)
    for n in range(len(x)):
        a = MOST if x[n] > MOST else x[n]
        a = LEAST if a < LEAST else a
        m = np.rint(a * LOG2_E)
        f = (a - m * LN_2) - m * LN_2_REST
        bits[n] = (np.int32(m) + 127) << 23
        low = ONE + f * (C1 + f * (C2 + f * C3))
        out[n] = low + f * f * f * f * (C4 + f * (C5 + f * (C6 + f * C7)))
    for n in range(len(x)):
        out[n] = ZERO if x[n] < LEAST else out[n] * power[n]


@njit(inline="always")
def _own(size, r, k, v, u, y):  # type: ignore[no-untyped-def]
    """Start the output of a token with its own term."""
    score = np.float32(0)
    for n in range(size):
        score += r[n] * u[n] * k[n]
    for n in range(size):
        y[n] = score * v[n]


@njit(inline="always")
def _step(size, state, r, k, v, decay, y):  # type: ignore[no-untyped-def]
    """Read the state `[key, value]` into the output, then pass the token."""
    fours = size // 4 * 4
    for j in range(0, fours, 4):
        r0, r1, r2, r3 = r[j], r[j + 1], r[j + 2], r[j + 3]
        k0, k1, k2, k3 = k[j], k[j + 1], k[j + 2], k[j + 3]
        d0, d1, d2, d3 = decay[j], decay[j + 1], decay[j + 2], decay[j + 3]
        for n in range(size):
            s0, s1, s2, s3 = state[j, n], state[j + 1, n], state[j + 2, n], state[j + 3, n]
            y[n] += (r0 * s0 + r1 * s1) + (r2 * s2 + r3 * s3)
            state[j, n] = d0 * s0 + k0 * v[n]
            state[j + 1, n] = d1 * s1 + k1 * v[n]
            state[j + 2, n] = d2 * s2 + k2 * v[n]
            state[j + 3, n] = d3 * s3 + k3 * v[n]
    for j in range(fours, size):
        for n in range(size):
            y[n] += r[j] * state[j, n]
            state[j, n] = decay[j] * state[j, n] + k[j] * v[n]


@njit(inline="always")
def _own_backward(size, gy, r, k, v, u, gr, gk, gv, gd, gu):  # type: ignore[no-untyped-def]
    """Start every gradient of a token with that of its own term."""
    score, grad = np.float32(0), np.float32(0)
    for n in range(size):
        score += r[n] * u[n] * k[n]
        grad += gy[n] * v[n]
    for n in range(size):
        gr[n] = grad * u[n] * k[n]
        gk[n] = grad * u[n] * r[n]
        gv[n] = score * gy[n]
        gd[n] = 0
        gu[n] += grad * r[n] * k[n]


@njit(inline="always")
def _replay(size, state, after, gy, k, v, decay, gr):  # type: ignore[no-untyped-def]
    """Advance the state `[value, key]` by one token and collect the gradient of r."""
    fours = size // 4 * 4
    for n in range(0, fours, 4):
        g0, g1, g2, g3 = gy[n], gy[n + 1], gy[n + 2], gy[n + 3]
        v0, v1, v2, v3 = v[n], v[n + 1], v[n + 2], v[n + 3]
        for j in range(size):
            s0, s1, s2, s3 = state[n, j], state[n + 1, j], state[n + 2, j], state[n + 3, j]
            gr[j] += (g0 * s0 + g1 * s1) + (g2 * s2 + g3 * s3)
            after[n, j] = decay[j] * s0 + v0 * k[j]
            after[n + 1, j] = decay[j] * s1 + v1 * k[j]
            after[n + 2, j] = decay[j] * s2 + v2 * k[j]
            after[n + 3, j] = decay[j] * s3 + v3 * k[j]
    for n in range(fours, size):
        for j in range(size):
            gr[j] += gy[n] * state[n, j]
            after[n, j] = decay[j] * state[n, j] + v[n] * k[j]


@njit(inline="always")
def _sweep(size, adjoint, state, gy, r, k, v, decay, gk, gv, gd):  # type: ignore[no-untyped-def]
    """Undo one token: `adjoint` is the gradient of the state `[value, key]` after the token."""
    fours = size // 4 * 4
    for n in range(0, fours, 4):
        g0, g1, g2, g3 = gy[n], gy[n + 1], gy[n + 2], gy[n + 3]
        v0, v1, v2, v3 = v[n], v[n + 1], v[n + 2], v[n + 3]
        t0, t1, t2, t3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for j in range(size):
            a0, a1, a2, a3 = adjoint[n, j], adjoint[n + 1, j], adjoint[n + 2, j], adjoint[n + 3, j]
            t0 += a0 * k[j]
            t1 += a1 * k[j]
            t2 += a2 * k[j]
            t3 += a3 * k[j]
            gk[j] += (a0 * v0 + a1 * v1) + (a2 * v2 + a3 * v3)
            gd[j] += (a0 * state[n, j] + a1 * state[n + 1, j]) + (
                a2 * state[n + 2, j] + a3 * state[n + 3, j]
            )
            adjoint[n, j] = decay[j] * a0 + g0 * r[j]
            adjoint[n + 1, j] = decay[j] * a1 + g1 * r[j]
            adjoint[n + 2, j] = decay[j] * a2 + g2 * r[j]
            adjoint[n + 3, j] = decay[j] * a3 + g3 * r[j]
        gv[n] += t0
        gv[n + 1] += t1
        gv[n + 2] += t2
        gv[n + 3] += t3
    for n in range(fours, size):
        total = np.float32(0)
        for j in range(size):
            a = adjoint[n, j]
            total += a * k[j]
            gk[j] += a * v[n]
            gd[j] += a * state[n, j]
            adjoint[n, j] = decay[j] * a + gy[n] * r[j]
        gv[n] += total
