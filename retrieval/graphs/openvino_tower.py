"""One tower compiled by OpenVINO for this processor, and kept in `$RWKVSEARCH_HOME/engines`."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import platform
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rwkvsearch.data.processor import processor_line
from rwkvsearch.retrieval.graphs.quiet import openvino
from rwkvsearch.retrieval.models import home_folder

logger = logging.getLogger(__name__)

HASH_BYTES = 32
GRAPHS = 3
"""Counts the ways the graphs were written: what was kept or measured of older ones is not used."""
ROWS_AT_ONCE = 16
"""Most rows of one call: the activations of more leave the caches."""


class OpenvinoTower:
    """Inputs `[B, ...]` to features `[B, D]`, not normalised. Threads take turns."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._lock = Lock()
        shape = compiled.input(0).get_partial_shape()
        self._row = tuple(size.get_length() for size in list(shape)[1:])

    def takes(self, inputs: NDArray[np.generic]) -> bool:
        """Whether there are rows, of the shape that the graph was made for."""
        return len(inputs) > 0 and inputs.shape[1:] == self._row

    def __call__(self, inputs: NDArray[np.generic]) -> NDArray[np.float32]:
        """Compute the features, some rows at a time."""
        with self._lock:
            parts = [
                self._request.infer([inputs[start : start + ROWS_AT_ONCE]])[0].copy()
                for start in range(0, len(inputs), ROWS_AT_ONCE)
            ]
        features: NDArray[np.float32] = np.concatenate(parts)
        return features


def compile_tower(
    build: Callable[[], openvino.Model], name: str, half: bool, keep: bool = True
) -> OpenvinoTower:
    """Compile the graph that `build` returns, or take what was kept under `name`.

    `half` computes in bfloat16. What is kept fits one processor and one version of OpenVINO; a
    file that cannot be used is written anew.
    """
    core, chosen = openvino.Core(), settings(half)
    path = engines_folder() / f"{name}-{machine_key()}.blob"
    if keep and (kept := _kept(core, path, chosen)) is not None:
        return OpenvinoTower(kept)
    compiled = core.compile_model(build(), "CPU", chosen)
    if keep:
        _keep(compiled, path)
    return OpenvinoTower(compiled)


def engines_folder() -> Path:
    """Where compiled towers and what was measured of them are kept."""
    return home_folder() / "engines"


def machine_key() -> str:
    """Name the processor, the number of threads and the versions that a measurement holds for."""
    processor = platform.processor() or platform.machine()
    facts = [line for line in map(processor_line, ("model name", "flags")) if line]
    threads, versions = torch.get_num_threads(), (openvino.__version__, torch.__version__)
    told = repr((processor, facts, threads, versions, GRAPHS))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def settings(half: bool) -> dict[str, Any]:
    """Return what towers are compiled with; `half` computes in bfloat16."""
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # others may want the same cores
    }


def _kept(core: openvino.Core, path: Path, chosen: dict[str, Any]) -> Any | None:
    try:
        content = path.read_bytes()
        digest, blob = content[:HASH_BYTES], content[HASH_BYTES:]
        if hashlib.sha256(blob).digest() != digest:
            raise OSError("it is damaged")
        return core.import_model(io.BytesIO(blob), "CPU", chosen)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError) as error:
        logger.info("%s cannot be used and is made anew: %s", path, str(error).splitlines()[-1])
        return None


def _keep(compiled: Any, path: Path) -> None:
    """Write a compiled tower; a home that cannot be written to costs a compilation a start."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}.tmp")
        blob = compiled.export_model().getvalue()
        new.write_bytes(hashlib.sha256(blob).digest() + blob)
        new.replace(path)
    except OSError as error:
        logger.info("%s cannot be kept: %s", path, error.strerror)
