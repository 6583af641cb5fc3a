"""The classes that labelled pictures belong to, and what the teachers make of their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rwkvsearch.retrieval.training.examples import Example, Source
from rwkvsearch.retrieval.training.targets import Targets


@dataclass(frozen=True)
class Classes:
    """Row numbers by class, and a target for each: the mean over its names in all sentences."""

    rows: Mapping[str, int]
    targets: Tensor
    """`[K, D]`."""

    @classmethod
    def read(cls, sources: Sequence[Source], targets: Targets) -> Self:
        """The classes of all sources; sets that share a class name share the class."""
        sentences: dict[str, tuple[str, ...]] = {}
        for example in (e for source in sources for e in source.examples if e.labelled):
            if example.group not in sentences:
                sentences[example.group] = tuple(t for k in example.texts.values() for t in k)
        means = [
            functional.normalize(torch.from_numpy(targets.of_texts(texts)).float(), dim=-1).mean(0)
            for texts in sentences.values()
        ]
        vectors = torch.stack(means) if means else torch.empty(0, targets.dim)
        return cls({group: row for row, group in enumerate(sentences)}, vectors)

    def rows_of(self, examples: Sequence[Example]) -> NDArray[np.int64]:
        """Return `[B]`, -1 for an example without a class."""
        rows = (self.rows[e.group] if e.labelled else -1 for e in examples)
        return np.fromiter(rows, np.int64, len(examples))
