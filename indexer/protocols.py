"""What the indexer asks of others, and what it tells them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.indexer.clock import Profile


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


Stage = Literal["scan", "embed", "captions", "publish"]


@dataclass(frozen=True)
class SyncEvent:
    """How far a sync is, in files; `done` counts what is already stored for good.

    In stage `scan`, `total` is what has been found so far; in stage `captions` both count texts.
    With `path`, the event names one file that could not be used, or one root that could not be
    read, and `reason` says why.
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
