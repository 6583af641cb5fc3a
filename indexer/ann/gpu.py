"""A copy of an ann on the GPU, where faiss-gpu is installed and its kernels run on the card.

Only for searches without a filter: faiss has no filters on GPUs. Not yet run on a GPU.
"""

from __future__ import annotations

import logging
from functools import cache
from threading import Lock
from typing import Any

import numpy as np

from rwkvsearch.indexer.ann.file import AnnFile, import_faiss
from rwkvsearch.indexer.blocks import Floats, Ids

AFTER: int = 64
"""Queries after which a copy is made: it takes seconds, which one query would not win back."""

_log = logging.getLogger(__name__)


class GpuCopy:
    """Searched by one thread at a time, as faiss asks for."""

    def __init__(self, index: Any) -> None:
        """Use `copy_to_gpu`."""
        self._index = index
        self._lock = Lock()

    def search(self, queries: Floats, count: int, params: None = None) -> tuple[Floats, Ids]:
        """Rough scores and positions `[Q, count]`, best first."""
        with self._lock:
            scores, at = self._index.search(queries, count)
        return scores, at


def copy_to_gpu(ann: AnnFile) -> GpuCopy | None:
    """The copy, after a trial search; None without a GPU, or if anything about it fails."""
    faiss = import_faiss()
    try:
        # Without a GPU faiss returns an empty index and no error.
        if getattr(faiss, "get_num_gpus", int)() == 0:
            return None
        index = faiss.index_cpu_to_all_gpus(ann.index.index)
        if probes := ann.search.get("nprobe"):
            faiss.GpuParameterSpace().set_index_parameter(index, "nprobe", probes)
        scores, at = index.search(np.ones((1, index.d), np.float32), 1)
        if not (np.isfinite(scores).all() and 0 <= at[0, 0] < ann.index.ntotal):
            raise RuntimeError("a trial search found nothing")
    # Kinds without a GPU version, kernels built for other cards, memory: the CPU has it anyway.
    except Exception as error:
        _say_once(f"{ann.kind}: {' '.join(str(error).split())[:200]}")
        return None
    return GpuCopy(index)


@cache
def _say_once(why: str) -> None:
    _log.info("searching on the CPU, the GPU cannot be used for %s", why)
