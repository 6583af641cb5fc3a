"""What the indexer asks of others, and what it tells them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.indexer.clock import Profile

if TYPE_CHECKING:
    from rwkvsearch.indexer.filters import Filters
    from rwkvsearch.indexer.library import ModelInfo


class ImageEncoder(Protocol):
    """Turns pictures into embeddings. `preprocess` is called from several threads at once."""

    @property
    def model_id(self) -> str:
        """Names the weights and their precision."""

    @property
    def preprocessing_id(self) -> str:
        """Names what `preprocess` does."""

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""

    @property
    def image_size(self) -> int:
        """S, the side of the square that the model sees, in pixels."""

    @property
    def weights_sha256(self) -> str:
        """The hash of the weights file."""

    def preprocess(self, image: Image.Image) -> NDArray[np.float32]:
        """An RGB picture as pixels `[3, S, S]`."""

    def encode_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pixels `[B, 3, S, S]` as L2-normalised embeddings `[B, D]`."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts as L2-normalised embeddings `[B, D]` in the same space."""


class ImageIndex(Protocol):
    """The live images of one model, whatever proposes the candidates. Safe among threads."""

    @property
    def model(self) -> ModelInfo:
        """The model it was opened for."""

    @property
    def kind(self) -> str | None:
        """What proposes, None if everything is compared."""

    @property
    def exact(self) -> bool:
        """Whether every search is exact without asking for it."""

    @property
    def ann_recall(self) -> float | None:
        """The share of the exact best 10 that a search returns, None if it was not measured."""

    @property
    def rows(self) -> int:
        """How many images there were at the first use."""

    @property
    def size(self) -> int:
        """About as many, known at once."""

    def close(self) -> None:
        """Let go of what proposes; the library stays open."""

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        among: NDArray[np.int64] | None = None,
        *,
        exact: bool = False,
        filters: Filters | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The `k` best images of each query `[Q, D]`: scores `[Q, k]` and image ids `[Q, k]`.

        Best first, equal scores by image id; only of the image ids `among`, if given. `filters` may
        say what led to `among`, for an index that can filter by itself. `k` is cut to what there
        is. Scores are always exact; that nothing better exists is certain if `exact`.

        Raises:
            QueryError: the queries have another dimension, or one has no direction.
            LibraryError: what proposes cannot be reached.
        """


Stage = Literal["scan", "embed", "captions", "publish", "mirror"]


@dataclass(frozen=True)
class SyncEvent:
    """How far a sync is, in files; `done` counts what is already stored for good.

    In stage `scan`, `total` is what has been found so far; in stage `captions` both count texts, in
    stage `mirror` images, in stage `publish` those in the index. With `path`, the event names one
    file that could not be used, or one root that could not be read, and `reason` says why.
    """

    stage: Stage
    total: int
    done: int = 0
    errors: int = 0
    embedded: int = 0
    path: Path | None = None
    reason: str | None = None


Progress = Callable[[SyncEvent], None]


@dataclass(frozen=True)
class SyncReport:
    """What a sync did, in files: `scanned = added + reused + unchanged + len(errors)`.

    `added` were embedded; `reused` hold a content that was embedded before, or were moved; `errors`
    are all bad files that are there now; `removed` are gone; `unreachable` roots and folders could
    not be read, and what was known below them is kept. `faults` are texts beside pictures that
    could not be read, `texts` how many were embedded. `seconds` is wall-clock time.
    """

    scanned: int
    added: int
    reused: int
    unchanged: int
    removed: int
    errors: list[tuple[Path, str]]
    unreachable: list[tuple[Path, str]]
    faults: list[tuple[Path, str]]
    texts: int
    seconds: float
    profile: Profile

    @property
    def outcomes(self) -> dict[str, int]:
        """Files by what became of them, for logs and metrics."""
        return {
            "embedded": self.added,
            "known": self.reused,
            "unchanged": self.unchanged,
            "gone": self.removed,
            "bad": len(self.errors),
        }
