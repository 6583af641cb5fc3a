"""What is asked for: terms with weights, filters, and how much of the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.filters import Filters


class Crop(NamedTuple):
    """A part of a picture, in shares of its width and height from the upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Term:
    """One part of a query: `text`, or exactly one of `path`, `image`, `image_id`, `embedding`.

    A negative `weight` turns away from what the term shows.
    """

    text: str = ""
    path: Path | None = None
    image: Image.Image | None = field(default=None, compare=False)
    """RGB."""
    image_id: int | None = None
    """Of an image in the library."""
    embedding: NDArray[np.float32] | None = field(default=None, compare=False)
    """`[D]`, of any length."""
    weight: float = 1.0
    crop: Crop | None = None
    """Only this part of the picture."""

    def __str__(self) -> str:
        """As it is written in a query, without its sign."""
        size = abs(self.weight)
        shown = np.format_float_positional(size, trim="-")
        return self.name if size == 1 else f"{shown}:{self.name}"

    @property
    def name(self) -> str:
        """The words, or what stands for the picture."""
        if self.path is not None:
            return str(self.path) if self.path.is_absolute() else f"./{self.path}"
        if self.image_id is not None:
            return f"image {self.image_id}"
        if self.image is not None:
            return "a picture"
        return self.text if self.embedding is None else "an embedding"


@dataclass(frozen=True)
class Query:
    """A whole query; `QueryError` for one that makes no sense."""

    terms: tuple[Term, ...]
    every: bool = False
    """Whether each positive term has to hold: the weakest one counts, instead of the sum."""
    filters: Filters = Filters()
    k: int = 10
    offset: int = 0
    """So many of the best hits are passed over."""
    min_confidence: float = 0.0
    """Hits below are left out."""
    diverse: bool = False
    """Of pictures that look nearly the same, such as a burst, only the best."""
    liked: tuple[int, ...] = ()
    """Ids of images that are right: the query turns towards them."""
    disliked: tuple[int, ...] = ()
    """Ids of images that are wrong: the query turns away from them, and they are left out."""

    def __post_init__(self) -> None:
        """Refuse a query that makes no sense."""
        for term in self.terms:
            if not isfinite(term.weight) or not term.weight:
                raise QueryError(f"{term.name}: a weight cannot be {term.weight}")
        if not any(term.weight > 0 for term in self.terms):
            raise QueryError("the query says only what is not wanted: add what is")
        if self.k < 1:
            raise QueryError(f"k must be at least 1, not {self.k}")
        if self.offset < 0:
            raise QueryError(f"offset must be at least 0, not {self.offset}")


@dataclass(frozen=True)
class Hit:
    """One result: higher `score` (cosine, -1 to 1) is better."""

    rank: int
    """From 1."""
    image_id: int
    paths: tuple[Path, ...]
    """Every file with this content, at least one."""
    score: float
    """Cosine of the image with the query; of the weakest term, if every term has to hold."""
    confidence: float = 0.0
    """How unusual the score is for this library, from 0 to 1; see `confidence.py`."""
    terms: tuple[float, ...] = ()
    """Cosine of the image with each term, in the order of the query."""

    @property
    def path(self) -> Path:
        """The first file with this content."""
        return self.paths[0]


@dataclass(frozen=True)
class TextHit:
    """A text that fits: higher `score` (cosine) is better."""

    rank: int
    text: str
    score: float
    image_ids: tuple[int, ...] = ()
    """The images of the library that it belongs to."""
