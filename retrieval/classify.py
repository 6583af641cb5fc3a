"""Pictures from files to embeddings, a batch at a time, however many there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import ImageError
from rwkvsearch.data.images import read_image

if TYPE_CHECKING:
    from rwkvsearch.retrieval.encoder import Encoder

BATCH = 64

Result = NDArray[np.float32] | ImageError


def embed_files(encoder: Encoder, files: Iterable[Path]) -> Iterator[tuple[Path, Result]]:
    """Yield each file with the embedding `[D]` of its picture, or why there is none, in order.

    The next batch is decoded in threads while the model encodes this one.
    """

    def prepare(path: Path) -> Result:
        try:
            return encoder.preprocess(read_image(path, min_side=encoder.image_size))
        except ImageError as error:
            return error

    def begin() -> list[tuple[Path, Future[Result]]]:
        return [(path, pool.submit(prepare, path)) for path in islice(remaining, BATCH)]

    remaining = iter(files)
    with ThreadPoolExecutor() as pool:
        following = begin()
        while following:
            current, following = following, begin()
            yield from _encoded(encoder, [(path, job.result()) for path, job in current])


def _encoded(encoder: Encoder, batch: list[tuple[Path, Result]]) -> Iterator[tuple[Path, Result]]:
    """The embeddings in the place of the pixels."""
    pixels = [found for _, found in batch if not isinstance(found, ImageError)]
    embeddings = iter(encoder.encode_pixels(np.stack(pixels)) if pixels else ())
    for path, found in batch:
        yield path, found if isinstance(found, ImageError) else next(embeddings)
