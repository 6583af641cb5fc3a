"""How much of the exact answer Milvus proposes, and how thoroughly it has to be asked for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rwkvsearch.indexer.ann.build import fastest, make_trial
from rwkvsearch.indexer.ann.file import MEASURED_K
from rwkvsearch.indexer.ann.kinds import TARGET
from rwkvsearch.indexer.blocks import Floats, Ids
from rwkvsearch.indexer.cluster.kinds import ClusterKind
from rwkvsearch.indexer.cluster.mark import Mark
from rwkvsearch.indexer.cluster.milvus import MOST, Collection
from rwkvsearch.indexer.library import Library, ModelInfo

SPARE = 16
"""Candidates beyond k: what is left out scores less than the last of them."""

_QUESTIONS = 100  # images, and texts
_GROWTH = 1.5  # of the rows, from which on it is measured again


@dataclass(frozen=True)
class Proposer:
    """A collection, asked in one way."""

    collection: Collection
    kind: ClusterKind
    search: dict[str, int]

    def near(
        self, queries: Floats, k: int, *, wanted: str = "", share: float = 1.0, times: int = 1
    ) -> tuple[list[tuple[Ids, Floats]], int]:
        """Candidates for the best `k`, and how many of them were asked for.

        `share` of the rows with `wanted` can be a hit; `times` as many and as thoroughly.
        """
        times *= self.search.get("times", 1)
        wide = 4 * k if "times" in self.search else 0  # nothing else makes it more thorough
        limit = min(round(times * max(k + SPARE, wide) / share), MOST)
        effort = times * max(1.0, limit / (MEASURED_K + SPARE))
        search = self.kind.effort(self.search, limit, effort)
        return self.collection.near(queries, limit, search, wanted), limit

    def propose(self, queries: Floats, k: int) -> tuple[Floats, Ids]:
        """For one query the scores and image ids `[1, m]`."""
        ((ids, scores),), _ = self.near(queries, k)
        return scores[None], ids[None]


def measured(library: Library, model: ModelInfo, collection: Collection, mark: Mark) -> Mark:
    """The mark with the fastest search that is thorough enough, measured if it is time to.

    Memory: one block of embeddings; all of them are read.
    """
    kind = ClusterKind(mark.kind)
    if kind.exact:
        return replace(mark, search={}, ann_recall=1.0, measured=mark.rows)
    known = mark.search in kind.searches and mark.ann_recall is not None
    if known and mark.measured <= mark.rows * _GROWTH and mark.rows <= mark.measured * _GROWTH:
        return mark
    trial = make_trial(library, model, mark.upto, _QUESTIONS, MEASURED_K)
    search, recall = fastest(
        kind.searches, lambda search: Proposer(collection, kind, search), trial, TARGET
    )
    return replace(mark, search=search, ann_recall=recall, measured=mark.rows)
