"""Queries whose picture is in a library or is not, made from a set of captioned photographs.

What a caption describes may well be in a library without its photograph: Flickr8k has many dogs.
So some trials remove every picture that could be meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.descriptions.vocabulary import (
    Word,
    ancestors,
    everyday_words,
    plural,
)

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

SURE = 2
"""A picture shows what so many of its captions mention."""
_MENTIONED_IF_SEEN = {
    *("animal", "bird", "vehicle", "musical instrument", "fruit", "food", "building", "plant"),
    *("sports thing", "device", "household thing", "furniture"),
}
_OTHER_MEANINGS = set(
    "bat bear box bus crane drill fan fly fork glass goal iron key leaf orange organ plate ruin "
    "saw scale ski slide swing train watch".split()
)


@dataclass(frozen=True)
class Photographs:
    """Embeddings `[I, D]` and `[M, D]` of pictures and captions; `owner[m]` is a picture's row."""

    images: Floats
    texts: Floats
    owner: Ids
    captions: tuple[str, ...]

    @cached_property
    def shared(self) -> Ids:
        """How many everyday words the captions of two pictures have in common, `[I, I]`."""
        said = (mentions(self, list(everyday_words().values())) > 0).astype(np.int64)
        shared: Ids = said @ said.T
        return shared


@dataclass(frozen=True)
class Trial:
    """Queries `[Q, D]` to one library, rows of `Photographs.images`.

    `right[q]` is the row of the picture that is meant, -1 for one that is not in the library;
    `group[q]` is the same for queries that are not independent of each other.
    """

    library: Ids
    queries: Floats
    right: Ids
    group: Ids
    picture: bool = False


def halves(photographs: Photographs) -> Iterator[Trial]:
    """Half of the pictures removed, then the other half; all captions are asked."""
    order = np.random.default_rng(0).permutation(len(photographs.images))
    for library in np.array_split(order, 2):
        yield Trial(library, photographs.texts, _right(photographs, library), photographs.owner)


def few(photographs: Photographs, size: int, times: int) -> Iterator[Trial]:
    """Libraries of so many pictures; their captions are asked, and as many of others."""
    random = np.random.default_rng(size)
    for _ in range(times):
        library = random.choice(len(photographs.images), size, replace=False)
        right = _right(photographs, library)
        there, absent = np.flatnonzero(right >= 0), np.flatnonzero(right < 0)
        asked = np.append(there, random.choice(absent, min(len(there), len(absent)), False))
        yield Trial(library, photographs.texts[asked], right[asked], photographs.owner[asked])


def unrelated(photographs: Photographs, size: int, times: int) -> Iterator[Trial]:
    """A caption and a library with its picture; and one of pictures that share no word with it.

    Words are the everyday ones that any caption of a picture mentions.
    """
    shared = photographs.shared
    random = np.random.default_rng(size)
    for caption in random.permutation(len(photographs.texts))[:times]:
        own = photographs.owner[caption : caption + 1]
        free = np.flatnonzero(shared[own[0]] == 0)
        if len(free) < size or not shared[own[0], own[0]]:
            continue
        others = random.choice(np.delete(np.arange(len(shared)), own), size - 1, replace=False)
        query = photographs.texts[caption : caption + 1]
        yield Trial(np.append(own, others), query, own, own)
        yield Trial(random.choice(free, size, replace=False), query, np.array([-1]), own)


@dataclass(frozen=True)
class Vocabulary:
    """Everyday words for things, their embeddings `[W, D]`, with and without an article."""

    words: tuple[Word, ...]
    plain: Floats
    articles: Floats


def words(photographs: Photographs, vocabulary: Vocabulary, size: int) -> Iterator[Trial]:
    """Words that captions mention, and those that none does; libraries of so many pictures."""
    random = np.random.default_rng(size)
    everything = np.arange(len(photographs.images))
    for number, shows, mentioned in _shown(photographs, vocabulary):
        if len(shows) or not len(mentioned):
            own = random.permutation(shows)[:1]
            others = random.permutation(np.setdiff1d(everything, own))[: size - len(own)]
            yield _asked(vocabulary, [number], np.append(own, others), own)


def all_words(photographs: Photographs, vocabulary: Vocabulary) -> Iterator[Trial]:
    """The same of the library of all pictures."""
    known = [
        (n, own[:1])
        for n, own, said in _shown(photographs, vocabulary)
        if len(own) or not len(said)
    ]
    rows = np.concatenate([own if len(own) else [-1] for _, own in known])
    yield _asked(vocabulary, [n for n, _ in known], np.arange(len(photographs.images)), rows)


def removed(photographs: Photographs, vocabulary: Vocabulary) -> Iterator[Trial]:
    """Words that captions mention: all pictures, and all but those of which any caption does."""
    everything = np.arange(len(photographs.images))
    known = [each for each in _shown(photographs, vocabulary) if len(each[1])]
    rows = np.array([shows[0] for _, shows, _ in known])
    yield _asked(vocabulary, [number for number, _, _ in known], everything, rows)
    for number, _, mentioned in known:
        yield _asked(vocabulary, [number], np.setdiff1d(everything, mentioned), rows[:0])


def _shown(photographs: Photographs, vocabulary: Vocabulary) -> Iterator[tuple[int, Ids, Ids]]:
    """For each word its number, the pictures that surely show it, and all that mention it."""
    said = mentions(photographs, vocabulary.words, narrower=True)
    for number, counts in enumerate(said.T):
        yield number, np.flatnonzero(counts >= SURE), np.flatnonzero(counts)


def _asked(vocabulary: Vocabulary, numbers: Sequence[int], library: Ids, right: Ids) -> Trial:
    """Ask for words with and without article; `right` as that of a trial, empty for none."""
    queries = np.concatenate([vocabulary.plain[numbers], vocabulary.articles[numbers]])
    own = np.resize(right, len(numbers)) if len(right) else np.full(len(numbers), -1)
    return Trial(library, queries, np.tile(own, 2), np.tile(numbers, 2))


def copies(photographs: Photographs, altered: Floats, size: int, times: int) -> Iterator[Trial]:
    """Altered copies `[A, K, D]` of the first K pictures; libraries with them and unrelated ones.

    The unrelated library is asked for the untouched picture.
    """
    shared = photographs.shared
    random = np.random.default_rng(size)
    for row in random.permutation(altered.shape[1])[:times]:
        own, free = np.array([row]), np.flatnonzero(shared[row] == 0)
        if len(free) < size or not shared[row, row]:
            continue
        others = random.choice(np.delete(np.arange(len(shared)), row), size - 1, replace=False)
        way = random.integers(len(altered))
        yield Trial(np.append(own, others), altered[way, own], own, own, picture=True)
        absent = random.choice(free, size, replace=False)
        yield Trial(absent, photographs.images[own], np.array([-1]), own, picture=True)


def mentions(photographs: Photographs, asked: Sequence[Word], *, narrower: bool = False) -> Ids:
    """How many captions of each picture mention each word or its plural, `[I, W]`.

    With `narrower` a puppy is a mention of a dog.
    """
    said = np.zeros((len(photographs.images), len(asked)), np.int64)
    forms = [_forms(word, narrower) for word in asked]
    for caption, row in zip(photographs.captions, photographs.owner, strict=True):
        text = f" {' '.join(re.findall('[a-z]+', caption.lower()))} "
        said[row] += [any(form in text for form in each) for each in forms]
    return said


def countable_words() -> tuple[Word, ...]:
    """Everyday words for things that people mention when they see them, with one meaning."""
    return tuple(
        word
        for word in everyday_words().values()
        if word.kind == "thing"
        and word.parent in _MENTIONED_IF_SEEN
        and word.name not in _OTHER_MEANINGS
    )


def _forms(word: Word, narrower: bool) -> set[str]:
    known = everyday_words()
    found = [word]
    if narrower:
        found += [other for name, other in known.items() if word.name in ancestors(known, name)]
    many = [(other.form if other.kind == "thing" else "") or plural(other.name) for other in found]
    return {f" {form.lower()} " for form in [*many, *(other.name for other in found)]}


def _right(photographs: Photographs, library: Ids) -> Ids:
    return np.where(np.isin(photographs.owner, library), photographs.owner, -1)
