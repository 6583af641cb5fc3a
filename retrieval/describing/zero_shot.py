"""Tags by our own model: the words of a vocabulary that fit a picture best.

The confidence of a word is its share in a softmax over the vocabulary, at the temperature the model
was trained with. A broader word has that of all its kinds together, less what they would have by
their number alone: where a dog, a fox and a wolf are equally likely, `animal` is certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.descriptions.protocols import Failed
from rwkvsearch.data.descriptions.texts import Tag, digest
from rwkvsearch.data.descriptions.vocabulary import Word, ancestors, with_article
from rwkvsearch.retrieval.encoder import Encoder

MOST_TAGS = 10
LEAST_CONFIDENCE = 0.02
"""Tags below are not kept; which of the others are used is for the caller's threshold to say."""
_TEXTS_AT_ONCE = 256


class ZeroShotTagger:
    """Tags with the words of a vocabulary by an RWKV-CLIP encoder."""

    def __init__(self, encoder: Encoder, words: Mapping[str, Word]) -> None:
        """Embed the words: some seconds."""
        self._encoder = encoder
        self._names = list(words)
        self.model_id = f"{encoder.model_id}/{digest(*words)[:8]}"
        self._words = _embed(encoder, [f"a photo of {_phrase(word)}" for word in words.values()])
        self._holds = _holds(words)
        self._by_chance = self._holds.mean(axis=0)

    def tag(self, images: Sequence[Image.Image]) -> list[tuple[Tag, ...] | Failed]:
        """The tags of each picture with a confidence of at least `LEAST_CONFIDENCE`."""
        scores = self._encoder.encode_images(images) @ self._words.T  # [B, words]
        shares = np.exp(self._encoder.scale * (scores - scores.max(axis=1, keepdims=True)))
        shares /= shares.sum(axis=1, keepdims=True)
        confidences = (shares @ self._holds - self._by_chance) / (1 - self._by_chance)
        return [self._tags(row) for row in confidences]

    def _tags(self, confidences: NDArray[np.float32]) -> tuple[Tag, ...]:
        best = np.argsort(-confidences, kind="stable")[:MOST_TAGS]
        tags = (Tag(self._names[n], round(min(1.0, float(confidences[n])), 3)) for n in best)
        return tuple(tag for tag in tags if tag.confidence >= LEAST_CONFIDENCE)


def _embed(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    starts = range(0, len(texts), _TEXTS_AT_ONCE)
    return np.concatenate([encoder.encode_texts(texts[n : n + _TEXTS_AT_ONCE]) for n in starts])


def _holds(words: Mapping[str, Word]) -> NDArray[np.float32]:
    """Which word counts towards which: 1 for itself and its broader words, `[words, words]`."""
    rows = {name: row for row, name in enumerate(words)}
    holds = np.eye(len(words), dtype=np.float32)
    for name, row in rows.items():
        for broader in ancestors(words, name):
            holds[row, rows[broader]] = 1
    return holds


def _phrase(word: Word) -> str:
    if word.kind == "scene":
        return f"a place {word.form}"
    if word.kind == "activity":
        return f"people {word.name}"
    return with_article(word.name) if word.kind == "thing" else word.name
