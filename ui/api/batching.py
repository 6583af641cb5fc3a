"""The text tower for many threads: texts that arrive while it is busy are its next batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
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
    embeddings: list[Floats] = field(default_factory=list)
    error: Exception | None = None


class BatchingEncoder(LazyEncoder):
    """A model that encodes the texts of concurrent calls together."""

    def __init__(self, card: ModelCard, device: str | None, precision: Precision) -> None:
        """Use `BatchingEncoder.of`."""
        super().__init__(card, device, precision)
        self._arriving = Lock()
        self._tower = Lock()
        self._waiting: list[_Job] = []

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """As `Encoder.encode_texts`; texts of other threads may be in the same batch."""
        job = _Job(list(texts))
        with _timed():
            with self._arriving:
                self._waiting.append(job)
            with self._tower:  # whoever was inside until now may have taken this job along
                if not job.embeddings and job.error is None:
                    self._encode_waiting()
        if job.error is not None:
            raise job.error
        return job.embeddings[0]

    def encode_images(self, images: Sequence[Image.Image]) -> Floats:
        """As `Encoder.encode_images`."""
        with _timed():
            return super().encode_images(images)

    def _encode_waiting(self) -> None:
        with self._arriving:
            jobs, self._waiting = self._waiting, []
        try:
            batch = super().encode_texts([text for job in jobs for text in job.texts])
        except Exception as error:
            for job in jobs:
                job.error = error
            return
        ends = np.cumsum([len(job.texts) for job in jobs])
        for job, end in zip(jobs, ends.tolist(), strict=True):
            job.embeddings.append(batch[end - len(job.texts) : end])


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
