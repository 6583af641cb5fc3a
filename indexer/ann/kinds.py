"""The kinds of ann: which there are, which one fits how many rows, and when it is built again.

Every figure here is explained in `docs/ann.md`.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.library import ModelInfo
from rwkvsearch.indexer.tables import SettingRow

Search = dict[str, int]
"""How thoroughly a file is searched: `nprobe`, `ef`, `k_factor`, and `times`, see `SearchIndex`."""

EXACT: Final = "SQfp16"
TARGET: Final = 0.99
"""The ann_recall that a search should reach."""

SMALL: Final = 20_000
"""From so many rows on, an exact search takes longer than a person notices."""
_LARGE = 1_000_000
_KINDS: Final = (
    EXACT,
    "SQ8",
    "RaBitQ",
    "RaBitQ,Refine(SQfp16)",
    "RaBitQ,Refine(SQ8)",
    "HNSW32,SQ8",
    "IVF,SQ8",
    "IVF,RaBitQ",
)
_KNOWN = re.compile(
    r"(IVF\d*,|HNSW\d+,)?(Flat|SQ8|SQfp16|RaBitQ)(,Refine\((Flat|SQ8|SQfp16)\))?|HNSW\d+"
)
_FEW, _SHARE_FRESH, _SHARE_DEAD = 4_000, 0.02, 0.2  # rows
_GROWTH = 1.25  # of the cells that are right; that is 1.6 times the rows


@dataclass(frozen=True)
class Kind:
    """A kind of ann by its faiss factory string; `IVF` without a number fits the rows."""

    name: str

    @classmethod
    def parse(cls, text: str) -> Kind:
        """The kind of a factory string.

        Raises:
            QueryError: none that rwkvsearch can search and filter.
        """
        if not _KNOWN.fullmatch(text):
            raise QueryError(
                f"{text!r} is no kind of ann that rwkvsearch knows; it knows {', '.join(_KINDS)}, "
                "with other numbers too (IVF1024,SQ8)"
            )
        return cls(text)

    @property
    def exact(self) -> bool:
        """Whether its best candidates prove that nothing better was left out."""
        return self.name == EXACT

    @property
    def grows(self) -> bool:
        """Whether adding rows to its file is much cheaper than building it."""
        return self.name.startswith(("IVF", "HNSW"))

    @property
    def least(self) -> int:
        """Rows below which it cannot be made."""
        match = re.match(r"IVF(\d+),", self.name)
        return int(match[1]) if match else 1

    def factory(self, rows: int) -> str:
        """The complete factory string for so many rows."""
        return re.sub(r"^IVF,", f"IVF{cells(rows)},", self.name)

    def made(self, factory: str, rows: int) -> bool:
        """Whether a file of kind `factory` is of this kind, and still right for `rows`."""
        if not self.name.startswith("IVF,"):
            return factory == self.name
        match = re.fullmatch(r"IVF(\d+),(.*)", factory)
        if match is None or match[2] != self.name.removeprefix("IVF,"):
            return False
        return 1 / _GROWTH <= cells(rows) / int(match[1]) <= _GROWTH

    def searches(self) -> list[Search]:
        """Ways to search it, the fastest first."""
        if self.exact:
            return [{}]
        if self.name.startswith("IVF"):
            times = 4 if self.name.endswith("RaBitQ") else 1
            return [{"nprobe": probes, "times": times} for probes in (16, 32, 64, 128, 256)]
        if self.name.startswith("HNSW"):
            return [{"ef": ef} for ef in (64, 128, 256, 512)]
        if "Refine" in self.name:
            return [{"k_factor": factor} for factor in (4, 10, 20)]
        return [{"times": times} for times in ((4, 8, 16) if "RaBitQ" in self.name else (1, 4))]


def default_kind(rows: int) -> Kind:
    """The kind for so many rows where nothing was measured."""
    if rows < SMALL:
        return Kind(EXACT)
    return Kind("RaBitQ,Refine(SQfp16)" if rows < _LARGE else "IVF,SQ8")


def candidates(rows: int) -> list[Kind]:
    """What `tune` compares where it is not told: all, but for what takes too long to build."""
    return [Kind(name) for name in _KINDS if rows < _LARGE or not name.startswith("HNSW")]


def cells(rows: int) -> int:
    """Cells of an IVF for so many rows: four times the square root, if each gets four rows."""
    return max(min(round(4 * math.sqrt(rows)), rows // 4), 1)


def kind_for(session: Session, model: ModelInfo, rows: int) -> Kind:
    """What was chosen for this library, else the default."""
    default, row = default_kind(rows), session.get(SettingRow, _setting(model))
    chosen = json.loads(row.value) if row else {}
    if not chosen or chosen.get("instead_of", default.name) != default.name:
        return default
    kind = Kind.parse(chosen["kind"])
    return kind if rows >= kind.least else default


def choose_kind(
    session: Session, model: ModelInfo, kind: Kind, *, instead_of: Kind | None = None
) -> None:
    """Keep `kind` for later generations: all, or as long as `instead_of` would be the default."""
    value = {"kind": kind.name} | ({"instead_of": instead_of.name} if instead_of else {})
    session.merge(SettingRow(name=_setting(model), value=json.dumps(value)))


def too_many_fresh(fresh: int, rows: int) -> bool:
    """Whether so many rows that are not in a file of `rows` make a new one worth its time."""
    return fresh > (max(_FEW, _SHARE_FRESH * rows) if rows >= SMALL else 0)


def too_many_dead(dead: int, rows: int) -> bool:
    """Whether so many dead among the `rows` of a file are worth a new one without them."""
    return dead > max(_FEW, _SHARE_DEAD * rows)


def _setting(model: ModelInfo) -> str:
    return f"ann:{model.key}"
