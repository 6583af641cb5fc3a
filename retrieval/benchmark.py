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
from rwkvsearch.retrieval.encoder import Encoder

T = TypeVar("T")
Progress = Callable[[int], None]
"""Told how many images or texts were encoded since the last call."""

BATCH = 64


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
