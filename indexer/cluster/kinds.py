"""The kinds of index that Milvus may be asked for: what was measured, and what only a server has.

milvus-lite takes the name of any kind, and compares everything where it does not know it: so only
those that it really builds are let through there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.ann.kinds import SMALL

METRIC: Final = "IP"
"""Of unit embeddings the cosine."""
EXACT: Final = "FLAT"
_LARGE: Final = "HNSW"

_HNSW: Final = {"M": 32, "efConstruction": 200}
_EF: Final = [{"ef": ef} for ef in (64, 128, 256, 512)]
_PROBES: Final = [{"nprobe": probes} for probes in (16, 32, 64, 128, 256)]
_SEGMENT = 400_000  # rows: each segment of a server has an index of its own
_ROWS_A_CELL = 39  # that faiss wants to train a cell with


@dataclass(frozen=True)
class ClusterKind:
    """One of `KINDS` by its name in Milvus."""

    name: str

    @classmethod
    def parse(cls, text: str) -> ClusterKind:
        """The kind of this name, in any case.

        Raises:
            LibraryError: rwkvsearch does not know how to search it.
        """
        if text.upper() not in _SEARCHES:
            known = ", ".join(_SEARCHES)
            raise LibraryError(f"{text!r} is no kind of cluster index; known are {known}")
        return cls(text.upper())

    @classmethod
    def default(cls, rows: int) -> ClusterKind:
        """The kind for so many rows: exact as long as nobody notices how long that takes."""
        return cls(EXACT if rows < SMALL else _LARGE)

    @property
    def exact(self) -> bool:
        """Whether its scores are those of the stored embeddings, but for rounding."""
        return self.name == EXACT

    @property
    def in_lite(self) -> bool:
        """Whether milvus-lite builds it, instead of comparing everything without a word."""
        return self.name in _IN_LITE

    @property
    def searches(self) -> list[dict[str, int]]:
        """Ways to search it, the fastest first; `times`: so many times as many candidates."""
        return _SEARCHES[self.name]

    def build(self, rows: int, dim: int) -> dict[str, Any]:
        """The parameters to build it with, for so many rows of `dim` numbers."""
        if self.name in ("HNSW", "HNSW_SQ"):
            return _HNSW | ({"sq_type": "SQ8"} if self.name == "HNSW_SQ" else {})
        if self.name == "IVF_PQ":
            return {"nlist": _cells(rows), "m": _parts(dim), "nbits": 8}
        if self.name in ("IVF_FLAT", "IVF_SQ8", "IVF_RABITQ", "SCANN"):
            return {"nlist": _cells(rows)}
        return {}

    def effort(self, search: dict[str, int], limit: int, times: float) -> dict[str, int]:
        """`search` for so many candidates, `times` as thorough."""
        more = {name: math.ceil(value * times) for name, value in search.items() if name != "times"}
        for name in ("ef", "search_list", "itopk_size", "reorder_k"):
            if name in more:
                more[name] = max(more[name], limit)
        if "nprobe" in more:
            more["nprobe"] = min(more["nprobe"], 65_536)
        return more


_IN_LITE: Final = ("HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", EXACT, "AUTOINDEX")
_SEARCHES: Final[dict[str, list[dict[str, int]]]] = {
    "HNSW": _EF,
    "HNSW_SQ": _EF,
    "IVF_FLAT": _PROBES,
    "IVF_SQ8": _PROBES,
    EXACT: [{}],
    "AUTOINDEX": [{"times": times} for times in (1, 2, 4, 8)],
    # What follows only a server has.
    "DISKANN": [{"search_list": size} for size in (32, 64, 128, 256)],
    "SCANN": [{**probes, "reorder_k": 256} for probes in _PROBES],
    "IVF_PQ": _PROBES,
    "IVF_RABITQ": _PROBES,
    "GPU_CAGRA": [{"itopk_size": size} for size in (64, 128, 256, 512)],
}
KINDS: Final = tuple(_SEARCHES)
IN_LITE: Final = _IN_LITE


def _cells(rows: int) -> int:
    rows = min(rows, _SEGMENT)
    return max(1, min(round(4 * math.sqrt(rows)), rows // _ROWS_A_CELL))


def _parts(dim: int) -> int:
    """Parts of an embedding that get a code each: of eight numbers if they fit, else fewer."""
    return next(dim // size for size in (8, 4, 2, 1) if dim % size == 0)
