"""Zero-shot labels: which words fit a picture, and how sure that is.

The confidence of a word is its share in a softmax over all words, at the temperature the model was
trained with. A broader word has that of all its kinds together, and every word less what it would
have by its number alone: where a dog, a fox and a wolf are equally likely, `animal` is certain,
and of two words that fit alike, neither is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.descriptions.texts import Tag, digest
from rwkvsearch.data.descriptions.vocabulary import (
    Word,
    ancestors,
    everyday_words,
    find_word,
    read_words,
    with_article,
)
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.files import is_file
from rwkvsearch.retrieval.metrics import class_embeddings

MOST_TAGS = 10
"""Labels that one picture gets at most."""
_AT_ONCE = 256
Floats = NDArray[np.float32]


class LabelEncoder(Protocol):
    """What is needed of an `Encoder`."""

    @property
    def scale(self) -> float:
        """What cosines are multiplied by before a softmax."""

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """As `Encoder.encode_texts`."""


class Labels:
    """Words to choose among; `rivals` take their share, but are never given."""

    def __init__(
        self,
        encoder: LabelEncoder,
        words: Mapping[str, Word],
        *,
        rivals: Mapping[str, Word] | None = None,
        templates: Sequence[str] = (),
    ) -> None:
        """Embed the words, some seconds for hundreds.

        `templates` are sentences with `{}` for the name, of which the mean is taken; without any
        it is `a photo of a dog`, in the grammar of the word.
        """
        every = {**words, **{name: w for name, w in (rivals or {}).items() if name not in words}}
        self.names = tuple(words)
        self._scale = encoder.scale
        self._embeddings = _embed(encoder, every, templates)
        self._narrower = _narrower(every)

    def confidences(self, embeddings: Floats) -> Floats:
        """How sure each of `names` is for unit embeddings `[B, D]` of pictures, `[B, names]`.

        1 is certain, 0 no more than by chance; below, another word is likelier.
        """
        scores = embeddings @ self._embeddings.T
        return confidences(scores, self._scale, self._narrower)[:, : len(self.names)]

    def tags(self, embeddings: Floats, least: float, most: int = MOST_TAGS) -> list[list[Tag]]:
        """The `most` labels with a confidence of at least `least` of each picture, best first."""
        parts = (embeddings[at : at + _AT_ONCE] for at in range(0, len(embeddings), _AT_ONCE))
        return [self._best(row, least, most) for part in parts for row in self.confidences(part)]

    def _best(self, row: Floats, least: float, most: int) -> list[Tag]:
        best = np.argsort(-row, kind="stable")[:most]
        tags = (Tag(self.names[n], round(min(1.0, float(row[n])), 3)) for n in best)
        return [tag for tag in tags if tag.confidence >= least]


def confidences(scores: Floats, scale: float, narrower: Mapping[int, Sequence[int]]) -> Floats:
    """How sure each of W words is, from its scores `[B, W]`, as the module says.

    `narrower` names the kinds of each broader word, by column.
    """
    shares = np.exp(scale * (scores - scores.max(axis=1, keepdims=True)))
    shares /= shares.sum(axis=1, keepdims=True)
    sure, by_chance = shares.copy(), np.full(shares.shape[1], 1 / shares.shape[1], np.float32)
    for broader, kinds in narrower.items():
        sure[:, broader] += shares[:, list(kinds)].sum(axis=1)
        by_chance[broader] += len(kinds) / shares.shape[1]
    # A word that is broader than all others says nothing.
    result: Floats = (sure - by_chance) / np.maximum(1 - by_chance, np.finfo(np.float32).eps)
    return result


def choice(text: str | None) -> dict[str, Word]:
    """The words that an option names: with commas between, a file with one a line, or our own.

    Raises:
        DataError: the file cannot be read, or there is no word.
    """
    if text is None:
        return everyday_words()
    path = Path(text).expanduser() if text.startswith("~/") else Path(text)
    if "," not in text and (is_file(path) or os.sep in text or path.suffix == ".txt"):
        return read_words(path)
    names = dict.fromkeys(" ".join(name.split()) for name in text.split(",") if name.strip())
    if not names:
        raise DataError("no label: give some with commas between, or a file with one a line")
    return {name: find_word(name) for name in names}


def one_of(words: Mapping[str, Word]) -> dict[str, Word]:
    """The same words for a choice of exactly one, where none is a kind of another.

    Raises:
        DataError: there is no choice.
    """
    if len(words) < 2:
        raise DataError(f"{', '.join(words)}: give two labels or more to choose among")
    return {name: Word(w.name, w.kind, "", w.form) for name, w in words.items()}


def fingerprint(*parts: Iterable[str]) -> str:
    """Tells one choice of words, rivals and templates from another."""
    return digest(*(digest(*part) for part in parts))[:16]


def _embed(encoder: LabelEncoder, words: Mapping[str, Word], templates: Sequence[str]) -> Floats:
    if not templates:
        return np.concatenate([*_encoded(encoder, [*map(_sentence, words.values())])])
    texts = [template.replace("{}", name) for name in words for template in templates]
    owners = np.repeat(np.arange(len(words)), len(templates))
    return class_embeddings(np.concatenate([*_encoded(encoder, texts)]), owners)


def _encoded(encoder: LabelEncoder, texts: Sequence[str]) -> Iterator[Floats]:
    for start in range(0, len(texts), _AT_ONCE):
        yield encoder.encode_texts(texts[start : start + _AT_ONCE])


def _narrower(words: Mapping[str, Word]) -> dict[int, list[int]]:
    columns = {name: column for column, name in enumerate(words)}
    found: dict[int, list[int]] = {}
    for name, column in columns.items():
        for broader in ancestors(words, name):
            found.setdefault(columns[broader], []).append(column)
    return found


def _sentence(word: Word) -> str:
    phrase = with_article(word.name) if word.kind == "thing" else word.name
    if word.kind == "scene":
        phrase = f"a place {word.form}"
    if word.kind == "activity":
        phrase = f"people {word.name}"
    return f"a photo of {phrase}"
