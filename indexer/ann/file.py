"""A published ann: a FAISS file, written all or nothing, mapped, and asked for candidates.

Inside, rows are numbered by their position; `ids` says which image each one is. Only the modules
`ann*` touch FAISS, which is imported at the first use.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.data.processor import processor_line
from rwkvsearch.indexer.ann.kinds import EXACT, Search
from rwkvsearch.indexer.blocks import Floats, Ids, is_in

MEASURED_K = 10
"""The number of hits that `search` and `ann_recall` are measured for."""

_CORE_TYPE = "OPENBLAS_CORETYPE"
_AVX2 = {"avx2", "fma"}
_AVX512 = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}
_HEAD = 4096
_SPARE = 16  # candidates beyond k: what is left out scores less than the last of them
_THINNEST = 1 / 1024  # share of the rows below which a search is not made more thorough
_REFINED = 4096  # candidates of a Refine at most, unless its search asks for more
_AFFORDABLE = 100_000  # allowed rows that are all looked at: they may lie far from the query


@dataclass(frozen=True)
class AnnFile:
    """An open file: `index` is FAISS's, `gpu` a copy on a GPU, `search` what it is searched with.

    `ann_recall` was measured when it was made, None if it was not.
    """

    index: Any
    kind: str
    search: Search = field(default_factory=dict)
    ann_recall: float | None = None
    gpu: Any | None = None

    @property
    def exact(self) -> bool:
        """Whether the rough scores are those of the stored embeddings, but for rounding."""
        return self.kind == EXACT

    @cached_property
    def ids(self) -> Ids:
        """The image id at each position."""
        ids: Ids = import_faiss().vector_to_array(self.index.id_map)
        return ids

    def mask(self, image_ids: Ids) -> NDArray[np.bool_]:
        """For each position whether its image is one of the distinct, ascending `image_ids`."""
        return is_in(self.ids, image_ids)

    def propose(
        self,
        queries: Floats,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        *,
        everywhere: bool = False,
    ) -> tuple[Floats, Ids]:
        """Candidates for the `k` best of unit `queries` `[Q, D]`: rough scores and image ids.

        Both are `[Q, m]`, best first, with `m` at least `k` if the file has so many; -1 fills up.
        Only positions with `allowed` `[ntotal]` are considered. With `everywhere` there are more of
        them, and no part of the file is passed over, as far as its kind can.
        """
        faiss = import_faiss()
        index = self.gpu if self.gpu and allowed is None and not everywhere else self.index.index
        there = self.index.ntotal if allowed is None else int(allowed.sum())
        count = (8 if everywhere else self.search.get("times", 1)) * (k + _SPARE)
        share = 1.0 if allowed is None else there / len(allowed)
        if everywhere or there <= _AFFORDABLE and allowed is not None:
            share = _THINNEST
        params = self._parameters(allowed, max(share, _THINNEST), k)
        # One query is one thread's work in every kind; more threads would wait for each other.
        faiss.omp_set_num_threads(max(1, min(len(queries), len(os.sched_getaffinity(0)))))
        scores, at = index.search(queries, max(min(count, there), 1), params=params)
        return scores, np.where(at >= 0, self.ids[np.maximum(at, 0)], -1)

    def _parameters(self, allowed: NDArray[np.bool_] | None, share: float, k: int) -> Any:
        """For `k` hits, of which a `share` of the rows can be one.

        The more are wanted, and the fewer there are, the further away they lie.
        """
        faiss = import_faiss()
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
        sel = {} if bits is None else {"sel": faiss.IDSelectorBitmap(bits)}
        effort = max(1.0, k / MEASURED_K) / share
        if probes := self.search.get("nprobe"):
            return faiss.SearchParametersIVF(nprobe=round(probes * effort), **sel)
        if ef := self.search.get("ef"):
            return faiss.SearchParametersHNSW(efSearch=round(ef * effort), **sel)
        if factor := self.search.get("k_factor"):
            factor = round(min(factor * effort, max(factor, _REFINED / (k + _SPARE))))
            base = faiss.SearchParameters(**sel)
            return faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=base)
        return faiss.SearchParameters(**sel) if sel else None


def import_faiss() -> ModuleType:
    """The faiss module, imported at the first use.

    Raises:
        LibraryError: it is not installed.
    """
    try:
        with _fitting_kernels():
            import faiss
    except ImportError as error:
        raise LibraryError(
            "faiss is not installed: pip install 'rwkvsearch[cpu]' or 'rwkvsearch[gpu]'"
        ) from error
    module: ModuleType = faiss
    return module


@contextmanager
def _fitting_kernels() -> Iterator[None]:
    """Let the BLAS inside faiss's wheel use what this processor has.

    It is older than many processors, and takes those it does not know for one of 2007, at a fifth
    of their speed. It reads the variable once, while it is loaded.
    """
    flags = set(processor_line("flags").split())
    kernels = "SkylakeX" if flags >= _AVX512 else "Haswell" if flags >= _AVX2 else None
    if kernels is None or "faiss" in sys.modules or _CORE_TYPE in os.environ:
        yield
        return
    os.environ[_CORE_TYPE] = kernels
    try:
        yield
    finally:
        del os.environ[_CORE_TYPE]


def write_file(index: Any, path: Path) -> None:
    """Write `index` and flush it to the disk; nothing is left at `path` if that fails."""
    faiss = import_faiss()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("wb") as stream:
            faiss.write_index(index, faiss.PyCallbackIOWriter(stream.write))
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def move_file(source: Path, target: Path) -> None:
    """Rename a flushed file into place, also through a power cut."""
    target.parent.mkdir(exist_ok=True)
    source.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def map_file(path: Path) -> Any | None:
    """FAISS's index in the file, mapped where its kind can be; None if it cannot be read."""
    faiss = import_faiss()
    try:
        index = read_file(path, getattr(faiss, "IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP))
        return index if isinstance(index, faiss.IndexIDMap) else None
    # Only a cache: whatever is wrong with it, the truth in the catalog answers.
    except (OSError, RuntimeError, MemoryError, ValueError, TypeError):
        return None


def read_file(path: Path, flags: int = 0) -> Any:
    """FAISS's index in the file; what it says of a damaged one is raised as it comes."""
    with path.open("rb") as stream:
        # faiss takes names in UTF-8 only, and file systems any; a map outlives the stream.
        utf8 = str(path).encode(errors="replace") == os.fsencode(path)
        name = str(path) if utf8 else f"/dev/fd/{stream.fileno()}"
        return import_faiss().read_index(name, flags)


def head_sha256(path: Path) -> str:
    """The hash of the first 4 KiB, where FAISS keeps what it cannot check itself."""
    with path.open("rb") as stream:
        return hashlib.sha256(stream.read(_HEAD)).hexdigest()
