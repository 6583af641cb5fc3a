"""Bi-WKV as a compiled scan on the CPU: cost and memory linear in the number of tokens.

The same recurrence as `reference.py`, compiled by numba for one head size at a time. The forward
pass takes two tokens at a time through the state, which halves its traffic. The backward pass
recomputes the states of one head, keeps them in a buffer `[T, N, N]` per thread and sweeps back
over them; nothing but the inputs is stored between the passes.

Heads are spread over as many threads as torch uses in the calling thread, so one thread of a pool
that runs torch on a single core stays on that core.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from rwkvsearch.kernels.reference import decay_exponent

OPTIONS: dict[str, Any] = {
    # No "nnan" or "ninf": extreme inputs must behave. Sums may be reordered so that they vectorise.
    "fastmath": {"reassoc", "contract", "nsz"},
    "error_model": "numpy",
    "nogil": True,
}
MIN_WORK_PER_THREAD = 1 << 20
"""Multiply-adds below which a further thread costs more than it brings."""


def scan_forward(r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor) -> Tensor:
    """Compute Bi-WKV in float32 on the CPU.

    Arguments as `bi_wkv_reference`; any floating type is read as float32. Returns `[B, T, H, N]`
    float32.
    """
    decay = torch.exp(decay_exponent(w))
    r, k, v, decay, u = (_readable(x) for x in (r, k, v, decay, u))
    y = torch.empty_like(r)
    _over_heads(_forward_kernel(r.shape[-1]), r, k, v, decay, u, y)
    return y


def scan_backward(
    gy: Tensor, r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of r, k, v, w and u in float32, given that of the output."""
    log_decay = decay_exponent(w)
    decay = torch.exp(log_decay)
    inputs = [_readable(x) for x in (gy, r, k, v, decay, u)]
    grads = [torch.empty_like(inputs[0]) for _ in range(4)]
    gu = inputs[0].new_empty(r.shape[0], *u.shape)
    _over_heads(_backward_kernel(r.shape[-1]), *inputs, *grads, gu)
    gr, gk, gv, gd = grads
    return gr, gk, gv, gd.mul_(decay).mul_(log_decay), gu.sum(0)


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

    def forward(start, stop, r, k, v, decay, u, y):  # type: ignore[no-untyped-def]
        tokens, heads = r.shape[1:3]
        state = np.empty((size, size), np.float32)  # [key, value]
        for job in range(start, stop):
            b, h = job // heads, job % heads
            for t in range(tokens):
                _own(size, r[b, t, h], k[b, t, h], v[b, t, h], u[h], y[b, t, h])
            for first, onward in ((0, 1), (tokens - 1, -1)):
                state[:] = 0
                t = first
                for _ in range(tokens // 2):
                    s = t + onward
                    _two_steps(
                        size, state,
                        r[b, t, h], k[b, t, h], v[b, t, h], decay[b, t, h], y[b, t, h],
                        r[b, s, h], k[b, s, h], v[b, s, h], decay[b, s, h], y[b, s, h],
                    )  # fmt: skip
                    t = s + onward
                if tokens % 2:
                    _read(size, state, r[b, t, h], y[b, t, h])

    return _compiled(forward)


@cache
def _backward_kernel(size: int) -> Callable[..., None]:
    """Compile the backward pass for heads of `size` channels."""

    def backward(start, stop, gy, r, k, v, decay, u, gr, gk, gv, gd, gu):  # type: ignore[no-untyped-def]
        tokens, heads = r.shape[1:3]
        states = np.empty((tokens + 1, size, size), np.float32)  # [T + 1, value, key]
        adjoint = np.empty((size, size), np.float32)
        for job in range(start, stop):
            b, h = job // heads, job % heads
            gu[b, h] = 0
            for t in range(tokens):
                _own_backward(
                    size, gy[b, t, h], r[b, t, h], k[b, t, h], v[b, t, h], u[h],
                    gr[b, t, h], gk[b, t, h], gv[b, t, h], gd[b, t, h], gu[b, h],
                )  # fmt: skip
            for direction in range(2):
                states[0] = 0
                for s in range(tokens):
                    t = s if direction == 0 else tokens - 1 - s
                    _replay(
                        size, states[s], states[s + 1], gy[b, t, h], k[b, t, h], v[b, t, h],
                        decay[b, t, h], gr[b, t, h],
                    )  # fmt: skip
                adjoint[:] = 0
                for s in range(tokens - 1, -1, -1):
                    t = s if direction == 0 else tokens - 1 - s
                    _sweep(
                        size, adjoint, states[s], gy[b, t, h], r[b, t, h], k[b, t, h],
                        v[b, t, h], decay[b, t, h], gk[b, t, h], gv[b, t, h], gd[b, t, h],
                    )  # fmt: skip

    return _compiled(backward)


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile; the machine code is kept on disk where there is a folder for it."""
    kernel: Callable[..., None]
    try:
        kernel = njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # no folder for the cache: compile anew in every process
        kernel = njit(**OPTIONS)(function)
    return kernel


@njit(inline="always")
def _own(size, r, k, v, u, y):  # type: ignore[no-untyped-def]
    """Start the output of a token with its own term."""
    score = np.float32(0)
    for n in range(size):
        score += r[n] * u[n] * k[n]
    for n in range(size):
        y[n] = score * v[n]


@njit(inline="always")
def _two_steps(size, state, r, k, v, decay, y, r2, k2, v2, decay2, y2):  # type: ignore[no-untyped-def]
    """Read the state `[key, value]` into the output and pass the token, for two tokens in turn."""
    for j in range(size):
        rj, kj, dj, r2j, k2j, d2j = r[j], k[j], decay[j], r2[j], k2[j], decay2[j]
        for n in range(size):
            before = state[j, n]
            between = dj * before + kj * v[n]
            y[n] += rj * before
            y2[n] += r2j * between
            state[j, n] = d2j * between + k2j * v2[n]


@njit(inline="always")
def _read(size, state, r, y):  # type: ignore[no-untyped-def]
    """Read the state `[key, value]` into the output of the last token."""
    for j in range(size):
        for n in range(size):
            y[n] += r[j] * state[j, n]


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
    for n in range(size):
        vn, gn = v[n], gy[n]
        for j in range(size):
            gr[j] += gn * state[n, j]
            after[n, j] = decay[j] * state[n, j] + vn * k[j]


@njit(inline="always")
def _sweep(size, adjoint, state, gy, r, k, v, decay, gk, gv, gd):  # type: ignore[no-untyped-def]
    """Undo one token: `adjoint` is the gradient of the state `[value, key]` after the token."""
    for n in range(size):
        vn, gn, total = v[n], gy[n], np.float32(0)
        for j in range(size):
            a = adjoint[n, j]
            total += a * k[j]
            gk[j] += a * vn
            gd[j] += a * state[n, j]
            adjoint[n, j] = decay[j] * a + gn * r[j]
        gv[n] += total
