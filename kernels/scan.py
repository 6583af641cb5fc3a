"""Bi-WKV as a compiled scan on the CPU: cost and memory linear in the number of tokens.

The same recurrence as `reference.py`, compiled by numba for one head size at a time, heads spread
over threads. The backward pass recomputes the states of one head, keeps them in a per-thread buffer
`[T, N, N]` and sweeps back over them; nothing but the inputs is stored between the passes.

Importing this module registers `torch.ops.rwkvsearch.bi_wkv_scan`; numba must be present.
"""

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from rwkvsearch.kernels.reference import decay_exponent

# No "nnan" or "ninf": extreme inputs must behave. Sums may be reordered so that they vectorise.
_one_at_a_time = threading.Lock()
OPTIONS: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz"},
    "error_model": "numpy",
    "nogil": True,
}


def bi_wkv_scan(r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor) -> Tensor:
    """Compute Bi-WKV in float32 on the CPU.

    Arguments as `bi_wkv_reference`; any floating type is read as float32. Returns `[B, T, H, N]`
    float32.
    """
    r, k, v, w, u = (x.float().contiguous() for x in (r, k, v, w, u))
    log_decay = decay_exponent(w)
    y: Tensor = torch.ops.rwkvsearch.bi_wkv_scan(r, k, v, torch.exp(log_decay), u)
    return y


def _forward(r: Tensor, k: Tensor, v: Tensor, decay: Tensor, u: Tensor) -> Tensor:
    y = torch.empty_like(r)
    _with_threads(_forward_kernel(r.shape[-1]), r, k, v, decay, u, y)
    return y


def _backward(
    gy: Tensor, r: Tensor, k: Tensor, v: Tensor, decay: Tensor, u: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    grads = [torch.empty_like(r) for _ in range(4)]
    gu = r.new_empty(r.shape[0], *u.shape)
    _with_threads(_backward_kernel(r.shape[-1]), gy.contiguous(), r, k, v, decay, u, *grads, gu)
    return grads[0], grads[1], grads[2], grads[3], gu.sum(0)


def _with_threads(kernel: Callable[..., None], *tensors: Tensor) -> None:
    workers = min(torch.get_num_threads(), get_num_threads())
    with _one_at_a_time:  # not every threading layer of numba may be entered twice
        kernel(workers, *(x.detach().numpy() for x in tensors))


def _register() -> None:
    forward_op = torch.library.custom_op("rwkvsearch::bi_wkv_scan", _forward, mutates_args=())
    backward_op = torch.library.custom_op(
        "rwkvsearch::bi_wkv_scan_backward", _backward, mutates_args=()
    )

    @forward_op.register_fake
    def _(r: Tensor, k: Tensor, v: Tensor, decay: Tensor, u: Tensor) -> Tensor:
        return torch.empty_like(r)

    @backward_op.register_fake
    def _(
        gy: Tensor, r: Tensor, k: Tensor, v: Tensor, decay: Tensor, u: Tensor
    ) -> tuple[Tensor, ...]:
        return (*(torch.empty_like(x) for x in (r, k, v, decay)), torch.empty_like(u))

    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor, ...]:
        grads: tuple[Tensor, ...] = torch.ops.rwkvsearch.bi_wkv_scan_backward(
            gy, *ctx.saved_tensors
        )
        return grads

    forward_op.register_autograd(backward, setup_context=setup_context)


_register()


@cache
def _forward_kernel(size: int) -> Callable[..., None]:
    """Compile the forward pass for heads of `size` channels, a constant so that loops vectorise."""

    def forward(workers, r, k, v, decay, u, y):  # type: ignore[no-untyped-def]
        batch, tokens, heads, _ = r.shape
        for worker in prange(workers):
            state = np.empty((size, size), np.float32)  # [key, value]
            for job in range(worker, batch * heads, workers):
                b, h = job // heads, job % heads
                state[:] = 0
                for t in range(tokens):
                    _own(size, r[b, t, h], k[b, t, h], v[b, t, h], u[h], y[b, t, h])
                    _step(
                        size, state, r[b, t, h], k[b, t, h], v[b, t, h], decay[b, t, h], y[b, t, h]
                    )
                state[:] = 0
                for t in range(tokens - 1, -1, -1):
                    _step(
                        size, state, r[b, t, h], k[b, t, h], v[b, t, h], decay[b, t, h], y[b, t, h]
                    )

    return _compiled(forward)


@cache
def _backward_kernel(size: int) -> Callable[..., None]:
    """Compile the backward pass for heads of `size` channels."""

    def backward(workers, gy, r, k, v, decay, u, gr, gk, gv, gd, gu):  # type: ignore[no-untyped-def]
        batch, tokens, heads, _ = r.shape
        for worker in prange(workers):
            states = np.empty((tokens + 1, size, size), np.float32)  # [T + 1, value, key]
            adjoint = np.empty((size, size), np.float32)
            for job in range(worker, batch * heads, workers):
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
    """Compile over threads; the machine code is kept on disk where there is a folder for it."""
    kernel: Callable[..., None]
    try:
        kernel = njit(parallel=True, cache=True, **OPTIONS)(function)
    except RuntimeError:  # no folder for the cache: compile anew in every process
        kernel = njit(parallel=True, **OPTIONS)(function)
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
def _step(size, state, r, k, v, decay, y):  # type: ignore[no-untyped-def]
    """Read the state `[key, value]` into the output, then pass the token."""
    for j in range(size):
        rj, kj, dj = r[j], k[j], decay[j]
        for n in range(size):
            y[n] += rj * state[j, n]
            state[j, n] = dj * state[j, n] + kj * v[n]


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
