"""The pictures of a labelled set as vectors; what was computed before need not be again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import DataError, ImageError
from rwkvsearch.data.files import NamedBytes
from rwkvsearch.data.fingerprint import fingerprint
from rwkvsearch.data.images import read_image
from rwkvsearch.data.labelled import LabelledPicture, LabelledSet
from rwkvsearch.retrieval.encoder import Encoder

BATCH = 64

Floats = NDArray[np.float32]
Progress = Callable[[int], None]


class Cache(Protocol):
    """What keeps vectors by the SHA-256 of the file they are of."""

    def read(self, contents: Sequence[bytes]) -> dict[bytes, Floats]:
        """Those that are kept."""

    def keep(self, new: dict[bytes, Floats]) -> None:
        """Keep these, too."""


@dataclass(frozen=True)
class LabelledVectors:
    """The pictures of a set that can be read: `vectors` `[I, D]`, the label and content of each.

    `contents` are the SHA-256 of their files. `unreadable` are the others, each with its reason.
    `fingerprint` is of every picture with its label, as `data.fingerprint` has it.
    """

    vectors: Floats
    labels: tuple[str, ...]
    contents: tuple[bytes, ...]
    unreadable: tuple[ImageError, ...]
    fingerprint: str


@dataclass
class _Read:
    """A picture on its way; `pixels` is None where its vector is known."""

    picture: LabelledPicture
    content: bytes = b""
    error: ImageError | None = None
    pixels: Future[Floats] | None = None


def embed_labelled_set(
    labelled: LabelledSet,
    encoder: Encoder,
    encode: Callable[[Floats], Floats],
    progress: Progress,
    cache: Cache | None = None,
) -> LabelledVectors:
    """Return what `encode`, a method of the encoder, makes of the pixels of every picture.

    Pictures are decoded fully; a batch is decoded while the model encodes another.

    Raises:
        DataError: none of the pictures can be read, or the set is malformed.
    """
    vectors: list[Floats] = []
    labels, contents, entries = [], [], []
    unreadable: list[ImageError] = []
    for batch, known in _batches(labelled, encoder, cache):
        known |= _encoded(batch, encode, cache)
        for one in batch:
            entries.append((one.content.hex(), one.picture.label))
            if one.error is not None:
                unreadable.append(one.error)
                continue
            vectors.append(known[one.content])
            labels.append(one.picture.label)
            contents.append(one.content)
        progress(len(batch))
    if not vectors:
        first = unreadable[0] if unreadable else "there is none"
        raise DataError(f"{labelled.name}: no picture can be read: {first}")
    told = fingerprint(entries)
    return LabelledVectors(
        np.stack(vectors), tuple(labels), tuple(contents), tuple(unreadable), told
    )


def _batches(
    labelled: LabelledSet, encoder: Encoder, cache: Cache | None
) -> Iterator[tuple[list[_Read], dict[bytes, Floats]]]:
    """Batches with the vectors that the cache has; the one that follows is being decoded."""

    def read(picture: LabelledPicture) -> tuple[_Read, bytes]:
        try:
            content = picture.read()
        except ImageError as error:
            return _Read(picture, error=error), b""
        return _Read(picture, hashlib.sha256(content).digest()), content

    def prepare(content: bytes, name: str) -> Floats:
        return encoder.preprocess(read_image(NamedBytes(content, name)))

    def begin() -> tuple[list[_Read], dict[bytes, Floats]]:
        batch = [*pool.map(read, islice(remaining, BATCH))]
        known = cache.read([one.content for one, _ in batch]) if cache is not None else {}
        for one, content in batch:
            if one.error is None and one.content not in known:
                one.pixels = pool.submit(prepare, content, one.picture.name)
        return [one for one, _ in batch], known

    remaining = labelled.pictures()
    with ThreadPoolExecutor() as pool:
        current = begin()
        while current[0]:
            following = begin()
            yield current
            current = following


def _encoded(
    batch: list[_Read], encode: Callable[[Floats], Floats], cache: Cache | None
) -> dict[bytes, Floats]:
    """The vectors of what was decoded; what cannot be, has its error set."""
    pixels: dict[bytes, Floats] = {}
    for one in batch:
        if one.pixels is not None:
            try:
                pixels[one.content] = one.pixels.result()
            except ImageError as error:
                one.error = error
    new = dict(zip(pixels, encode(np.stack([*pixels.values()])), strict=True)) if pixels else {}
    if cache is not None and new:
        cache.keep(new)
    return new
