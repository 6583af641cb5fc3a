"""The text tower for many threads: texts that arrive while it is busy are its next batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, local

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.retrieval.lazy_encoder import LazyEncoder
from rwkvsearch.retrieval.models import ModelCard, Precision

Floats = NDArray[np.float32]


@dataclass(eq=False)
class _Job:
    texts: list[str]
    embeddings: Future[Floats] = field(default_factory=Future)


class BatchingEncoder(LazyEncoder):
    """A model that encodes the texts of concurrent calls together.

    It computes in one thread of its own: torch keeps threads and memory for every thread that
    calls it, and a server has dozens.
    """

    def __init__(self, card: ModelCard, device: str | None, precision: Precision) -> None:
        """Use `BatchingEncoder.of`."""
        super().__init__(card, device, precision)
        self._arriving = Lock()
        self._waiting: list[_Job] = []
        self._model = ThreadPoolExecutor(1, "model")

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """As `Encoder.encode_texts`; texts of other threads may be in the same batch."""
        job = _Job(list(texts))
        with self._arriving:
            self._waiting.append(job)
        with _timed():
            self._model.submit(self._encode_waiting)
            return job.embeddings.result()

    def encode_images(self, images: Sequence[Image.Image]) -> Floats:
        """As `Encoder.encode_images`."""
        return self._computed(super().encode_images, images)

    def encode_patches(self, images: Sequence[Image.Image]) -> Floats:
        """As `Encoder.encode_patches`."""
        return self._computed(super().encode_patches, images)

    def _computed(
        self, encode: Callable[[Sequence[Image.Image]], Floats], images: Sequence[Image.Image]
    ) -> Floats:
        with _timed():
            return self._model.submit(encode, images).result()

    def _encode_waiting(self) -> None:
        """Nothing, if those who came later were taken along."""
        with self._arriving:
            jobs, self._waiting = self._waiting, []
        if not jobs:
            return
        try:
            batch = super().encode_texts([text for job in jobs for text in job.texts])
        except Exception as error:
            for job in jobs:
                job.embeddings.set_exception(error)
            return
        ends = np.cumsum([len(job.texts) for job in jobs])
        for job, end in zip(jobs, ends.tolist(), strict=True):
            job.embeddings.set_result(batch[end - len(job.texts) : end])


_spent = local()


def seconds_encoding() -> float:
    """How long this thread has waited for the model so far: the difference of two calls tells."""
    return getattr(_spent, "seconds", 0.0)


@contextmanager
def _timed() -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        _spent.seconds = seconds_encoding() + time.perf_counter() - began
