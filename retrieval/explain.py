"""Why a picture was found: its score taken apart over patches and over the terms of the query.

The image tower ends in a plain mean over patch tokens, and a query is a weighted sum of its terms.
So the score is exactly the mean over patches, and exactly the sum over terms, of
`weight * (term . token) / |mean token|`. It says where the number comes from, not where a thing
is: a token has seen the whole picture, and what it knows of a dog may lie beside the dog.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.errors import QueryError
from rwkvsearch.data.preprocess import seen_part
from rwkvsearch.retrieval.heat import Panel, draw

WeightedTerm = tuple[str, float, NDArray[np.float32]]
"""The name of a term, its weight in any unit, and its unit embedding `[D]`."""


class PatchEncoder(Protocol):
    """What is needed of an `Encoder`."""

    @property
    def image_size(self) -> int:
        """Height and width of the input S, pixels."""

    def encode_patches(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """As `Encoder.encode_patches`."""


@dataclass(frozen=True)
class Part:
    """What one term has to do with the score of a picture.

    `weight` is that in a query of unit length, so that `weight * score` is what the term adds to
    the score of the whole. A term of weight 0 does not count, but has scores of its own.
    """

    name: str
    weight: float
    score: float
    """Cosine of the picture with the term."""
    patches: NDArray[np.float64]
    """`[rows, rows]`, of which `score` is the mean."""

    @property
    def signed_name(self) -> str:
        """As in a query: with a minus before it where the weight is negative."""
        return f"- {self.name}" if self.weight < 0 else self.name

    @property
    def added(self) -> float:
        """What the term adds to the score of the whole."""
        return self.weight * self.score


@dataclass(frozen=True)
class Explanation:
    """The score of a picture for a query, by patches and by terms."""

    score: float
    """Cosine of the picture with the query, in float32."""
    parts: tuple[Part, ...]

    @property
    def patches(self) -> NDArray[np.float64]:
        """`[rows, rows]`, of which `score` is the mean: what all terms add in each patch."""
        whole: NDArray[np.float64] = np.sum([p.weight * p.patches for p in self.parts], axis=0)
        return whole

    def words(self, score: float | None = None) -> str:
        """One line: the score, then each term with its own score and its share in the whole.

        `score` is what to print as that of the whole, such as the stored one of a hit.
        """
        total = self.score if score is None else score
        if len(self.parts) == 1:
            return f"score {total:.3f}: {self.parts[0].signed_name}"
        return f"score {total:.3f}: {', '.join(map(self.words_of, self.parts))}"

    def words_of(self, part: Part) -> str:
        """Such as `- snow 0.05 (-4 %)`; where the score is near 0, what it adds instead."""
        said = f"{part.signed_name} {part.score:.2f}"
        if abs(self.score) < 0.01:
            return f"{said} ({part.added:+.3f})"
        return f"{said} ({100 * part.added / self.score:+.0f} %)"


def explain(
    encoder: PatchEncoder, image: Image.Image, terms: Sequence[WeightedTerm]
) -> Explanation:
    """Take the score of an RGB image apart; its parts are in the order of `terms`.

    Decode a file with `min_side=encoder.image_size`, as it was indexed, and the score is the
    stored one up to fp16.

    Raises:
        QueryError: the terms take each other away, and nothing is asked for.
    """
    weights = np.array([weight for _, weight, _ in terms])
    embeddings = np.stack([embedding for *_, embedding in terms]).astype(np.float64)
    length = float(np.linalg.norm(weights @ embeddings))
    if length < 1e-6:
        raise QueryError("the terms of the query take each other away: nothing is left to look for")
    (tokens,) = encoder.encode_patches([image]).astype(np.float64)
    by_patch = tokens @ embeddings.T / np.linalg.norm(tokens.mean(axis=0))  # [T, terms]
    rows = isqrt(len(tokens))
    parts = tuple(
        Part(name, weight / length, float(scores.mean()), scores.reshape(rows, rows))
        for (name, weight, _), scores in zip(terms, by_patch.T, strict=True)
    )
    return Explanation(sum(part.added for part in parts), parts)


def why_picture(
    encoder: PatchEncoder,
    image: Image.Image,
    terms: Sequence[WeightedTerm],
    score: float | None = None,
    *,
    shown: Image.Image | None = None,
    squares: bool = False,
) -> tuple[Image.Image, str]:
    """Draw why an RGB image has its score; the drawing, and the same in words on one line.

    Args:
        encoder: the one that the embeddings of the terms are from.
        image: RGB, upright, as `explain` wants it.
        terms: of the query; a term of weight 0 is shown and does not count.
        score: the hit's own, printed instead of the one computed here.
        shown: the same picture in another size, to draw on; None draws on `image`.
        squares: show each patch as a square instead of smoothed.
    """
    found = explain(encoder, image, terms)
    words = found.words(score)
    canvas = shown or image
    seen = seen_part(*canvas.size, encoder.image_size)
    return draw(canvas, seen, _panels(found, words), squares=squares), words


def _panels(found: Explanation, words: str) -> list[Panel]:
    """The whole and, of several terms, each: what they add, so that they sum up to the whole."""
    if len(found.parts) == 1:
        return [Panel(words, found.patches)]
    whole = Panel(f"{words.partition(':')[0]}, all together", found.patches)
    terms = [Panel(found.words_of(p), p.patches * (p.weight or 1)) for p in found.parts]
    return [whole, *terms]
