"""The public Bi-WKV operator: picks a backend, says which, and never falls back in silence.

`reference` and `levels` are plain torch. `scan` and `fused` are compiled; importing this module
registers `torch.ops.rwkvsearch.bi_wkv` and its gradient for them, without importing either.
"""

import logging
import os
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from rwkvsearch.kernels.levels import bi_wkv_levels
from rwkvsearch.kernels.reference import bi_wkv_reference

logger = logging.getLogger(__name__)

SCAN_MIN_WORK = 1 << 20
"""Below this many `B*T*C*N` multiply-adds, importing the compiled scan costs more than it saves."""

SCAN_MISSING = None if find_spec("numba") else "numba is not installed"
"""Why the compiled scan cannot run here; looked up once, so that compiled models can see it."""

FUSED_MISSING = None if find_spec("triton") else "triton is not installed"
"""Why the Triton kernel cannot run on any device."""

PLAIN = {"reference": bi_wkv_reference, "levels": bi_wkv_levels}
COMPILED = {
    "scan": {"forward": "scan", "backward": "scan"},
    "fused": {"forward": "fused", "backward": "fused_backward"},
}
"""The modules of the compiled backends, imported at their first use."""
FUSED_LARGEST_SIZE = 128
Grads = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class BackendError(RuntimeError):
    """The backend asked for is unknown or cannot run here; the message says why."""


def bi_wkv(
    r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor, *, backend: str | None = None
) -> Tensor:
    """Two-sided WKV-6; see `reference.py` for the definition.

    Args:
        r, k, v, w: `[B, T, H, N]`; `w` is the log-decay input, any real number.
        u: bonus for the own token, `[H, N]`.
        backend: `reference`, `levels`, `scan` or `fused`. None picks `fused` on a CUDA device
            where triton is installed, `scan` on the CPU where numba is and the work is worth
            compiled code, otherwise `levels`; float64 always takes `levels`.

    Returns:
        `[B, T, H, N]`, float32, also under autocast; float64 for float64 input, but for the
        compiled backends, which know float32 only. Differentiable once.

    Raises:
        BackendError: the backend is unknown or cannot run here.
        ValueError: the shapes do not fit together; nothing is broadcast.
    """
    if not (r.shape == k.shape == v.shape == w.shape and u.shape == r.shape[2:]):
        shapes = ", ".join(str(list(x.shape)) for x in (r, k, v, w, u))
        raise ValueError(f"bi_wkv wants r, k, v, w [B, T, H, N] and u [H, N], not {shapes}")
    name = backend or _choose(r)
    if reason := _missing(name, r.device):
        raise BackendError(f"bi_wkv backend {name!r} cannot run here: {reason}")
    if name not in PLAIN:
        y: Tensor = torch.ops.rwkvsearch.bi_wkv(r, k, v, w, u, name)
        return y
    kind = r.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):  # it would round the products
            return PLAIN[name](r, k, v, w, u)
    return PLAIN[name](r, k, v, w, u)


def available_backends(device: torch.device | str = "cpu") -> dict[str, str | None]:
    """Return every backend of this version with None, or the reason why it cannot run there."""
    device = torch.device(device)
    return {name: _missing(name, device) for name in (*PLAIN, *COMPILED)}


def _missing(name: str, device: torch.device) -> str | None:
    if name in PLAIN:
        return None
    if name == "scan":
        return SCAN_MISSING or (None if device.type == "cpu" else f"the tensors are on {device}")
    if name == "fused":
        return FUSED_MISSING or _fused_elsewhere(device)
    known = ", ".join((*PLAIN, *COMPILED))
    raise BackendError(f"unknown bi_wkv backend {name!r}; there are {known}")


def _fused_elsewhere(device: torch.device) -> str | None:
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None if device.type == "cpu" else "TRITON_INTERPRET=1 runs on the CPU only"
    if device.type != "cuda":
        return f"the tensors are on {device}"
    if torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs an NVIDIA GPU of compute capability 8.0 or newer"
    return None


def _choose(r: Tensor) -> str:
    if r.dtype == torch.float64:
        return "levels"
    name, reason = "scan", SCAN_MISSING
    if r.device.type == "cpu":
        if r.numel() * r.shape[-1] < SCAN_MIN_WORK:
            return "levels"
    else:
        name, reason = "fused", _missing("fused", r.device)
        if r.shape[-1] > FUSED_LARGEST_SIZE:
            reason = f"heads have more than {FUSED_LARGEST_SIZE} channels"
    if not torch.compiler.is_compiling():
        _say_once(r.device.type, name, reason)
    return "levels" if reason else name


@cache
def _say_once(device: str, name: str, reason: str | None) -> None:
    if reason:
        logger.info("bi_wkv on %s: levels (%s)", device, reason)
    else:
        logger.info("bi_wkv on %s: %s (compiled)", device, name)


def _forward(r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor, backend: str) -> Tensor:
    y: Tensor = _compiled(backend, "forward")(r, k, v, w, u)
    return y


def _backward(
    gy: Tensor, r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor, backend: str
) -> Grads:
    grads: Grads = _compiled(backend, "backward")(gy, r, k, v, w, u)
    gr, gk, gv, gw, gu = (g.to(x.dtype) for g, x in zip(grads, (r, k, v, w, u), strict=True))
    return gr, gk, gv, gw, gu


def _compiled(backend: str, direction: str) -> Callable[..., Any]:
    module = import_module(f"rwkvsearch.kernels.{COMPILED[backend][direction]}")
    function: Callable[..., Any] = getattr(module, f"{backend}_{direction}")
    return function


def _register() -> None:
    forward_op = torch.library.custom_op("rwkvsearch::bi_wkv", _forward, mutates_args=())
    backward_op = torch.library.custom_op("rwkvsearch::bi_wkv_backward", _backward, mutates_args=())

    @forward_op.register_fake
    def _(r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor, backend: str) -> Tensor:
        return r.new_empty(r.shape, dtype=torch.float32)

    @backward_op.register_fake
    def _(gy: Tensor, r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor, backend: str) -> Grads:
        gr, gk, gv, gw, gu = (x.new_empty(x.shape) for x in (r, k, v, w, u))
        return gr, gk, gv, gw, gu

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.backend = inputs
        ctx.save_for_backward(*tensors)

    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        grads: Grads = torch.ops.rwkvsearch.bi_wkv_backward(gy, *ctx.saved_tensors, ctx.backend)
        return (*grads, None)

    forward_op.register_autograd(backward, setup_context=setup_context)


_register()
