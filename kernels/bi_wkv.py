"""The public Bi-WKV operator: picks a backend, says which, and never falls back in silence."""

import logging
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from rwkvsearch.kernels.levels import bi_wkv_levels
from rwkvsearch.kernels.reference import bi_wkv_reference

logger = logging.getLogger(__name__)

SCAN_MIN_WORK = 1 << 20
"""Below this many `B*T*C*N` multiply-adds, importing the compiled scan costs more than it saves."""


class BackendError(RuntimeError):
    """The backend asked for is unknown or cannot run here; the message says why."""


def bi_wkv(
    r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor, *, backend: str | None = None
) -> Tensor:
    """Two-sided WKV-6; see `reference.py` for the definition.

    Args:
        r, k, v, w: `[B, T, H, N]`; `w` is the log-decay input, any real number.
        u: bonus for the own token, `[H, N]`.
        backend: `reference`, `levels` or `scan`. None picks `scan` (where numba is installed) for
            float32 and narrower work on the CPU that is worth compiled code, otherwise `levels`.

    Returns:
        `[B, T, H, N]`, float32 (float64 for float64 input). Differentiable.

    Raises:
        BackendError: the backend is unknown or cannot run here.
    """
    name = backend or _choose(r)
    _require(name)
    if name == "scan":
        from rwkvsearch.kernels.scan import bi_wkv_scan

        return bi_wkv_scan(r, k, v, w, u)
    return (bi_wkv_levels if name == "levels" else bi_wkv_reference)(r, k, v, w, u)


def available_backends() -> dict[str, str | None]:
    """Return every backend of this version with None, or the reason why it cannot run here."""
    numba_reason = None if find_spec("numba") else "numba is not installed"
    return {"reference": None, "levels": None, "scan": numba_reason}


def _choose(r: Tensor) -> str:
    compiled = r.device.type == "cpu" and r.dtype != torch.float64
    if not compiled or r.numel() * r.shape[-1] < SCAN_MIN_WORK:
        return "levels"
    name: str = _cpu_backend()
    return name


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
@cache
def _cpu_backend() -> str:
    reason = available_backends()["scan"]
    name = "levels" if reason else "scan"
    logger.info("bi_wkv on the CPU: %s (%s)", name, reason or "compiled by numba")
    return name


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
@cache
def _require(name: str) -> None:
    backends = available_backends()
    if name not in backends:
        raise BackendError(f"unknown bi_wkv backend {name!r}; there are {', '.join(backends)}")
    if reason := backends[name]:
        raise BackendError(f"bi_wkv backend {name!r} cannot run here: {reason}")
