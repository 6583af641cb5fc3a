"""Many pictures and texts to embeddings, for measurements."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.images import read_image
from rwkvsearch.data.shards import iterate_shards
from rwkvsearch.retrieval.encoder import Encoder

T = TypeVar("T")
Progress = Callable[[int], None]
"""Told how many images or texts were encoded since the last call."""

BATCH = 64


def embed_labelled(
    encoder: Encoder, shards: str | Path, classes: Iterable[str], progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the embeddings `[I, D]` of all images of WebDataset shards, and their class numbers.

    `classes` are the texts of the shards, in the order of their numbers.
    """
    numbers = {text: number for number, text in enumerate(classes)}
    labels: list[int] = []

    def files() -> Iterator[io.BytesIO]:
        for item in iterate_shards(shards):
            labels.append(numbers[item.text])
            file = io.BytesIO(item.image)
            file.name = item.key
            yield file

    images = embed_images(encoder, files(), progress)
    return images, np.array(labels)


def embed_images(
    encoder: Encoder, sources: Iterable[Path | io.BytesIO], progress: Progress
) -> NDArray[np.float32]:
    """Return the embeddings `[I, D]`; a batch is decoded while the model encodes another."""

    def prepare(source: Path | io.BytesIO) -> NDArray[np.float32]:
        return encoder.preprocess(read_image(source))

    parts = []
    with ThreadPoolExecutor() as pool:
        batches = _batches(sources)
        following = [pool.submit(prepare, source) for source in next(batches, [])]
        while following:
            current = following
            following = [pool.submit(prepare, source) for source in next(batches, [])]
            parts.append(encoder.encode_pixels(np.stack([job.result() for job in current])))
            progress(len(current))
    return np.concatenate(parts)


def embed_texts(encoder: Encoder, texts: Sequence[str], progress: Progress) -> NDArray[np.float32]:
    """Return the embeddings `[M, D]` of texts."""
    parts = []
    for batch in _batches(texts):
        parts.append(encoder.encode_texts(batch))
        progress(len(batch))
    return np.concatenate(parts)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
