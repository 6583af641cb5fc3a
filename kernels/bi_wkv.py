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

SCAN_MISSING = None if find_spec("numba") else "numba is not installed"
"""Why the compiled scan cannot run here; looked up once, so that compiled models can see it."""


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
        `[B, T, H, N]`, float32, also under autocast; float64 for float64 input, but for `scan`,
        which knows float32 only. Differentiable.

    Raises:
        BackendError: the backend is unknown or cannot run here.
    """
    name = backend or _choose(r)
    _require(name)
    if torch.amp.is_autocast_available(r.device.type) and torch.is_autocast_enabled(r.device.type):
        with torch.autocast(r.device.type, enabled=False):  # it would round the products
            return bi_wkv(r, k, v, w, u, backend=name)
    if name == "scan":
        from rwkvsearch.kernels.scan import bi_wkv_scan

        return bi_wkv_scan(r, k, v, w, u)
    return (bi_wkv_levels if name == "levels" else bi_wkv_reference)(r, k, v, w, u)


def available_backends() -> dict[str, str | None]:
    """Return every backend of this version with None, or the reason why it cannot run here."""
    return {"reference": None, "levels": None, "scan": SCAN_MISSING}


def _choose(r: Tensor) -> str:
    compiled = r.device.type == "cpu" and r.dtype != torch.float64
    if not compiled or r.numel() * r.shape[-1] < SCAN_MIN_WORK:
        return "levels"
    if not torch.compiler.is_compiling():
        _say_once()
    return "levels" if SCAN_MISSING else "scan"


@cache
def _say_once() -> None:
    name = "levels" if SCAN_MISSING else "scan"
    logger.info("bi_wkv on the CPU: %s (%s)", name, SCAN_MISSING or "compiled by numba")


def _require(name: str) -> None:
    backends = available_backends()
    if name not in backends:
        raise BackendError(f"unknown bi_wkv backend {name!r}; there are {', '.join(backends)}")
    if reason := backends[name]:
        raise BackendError(f"bi_wkv backend {name!r} cannot run here: {reason}")
