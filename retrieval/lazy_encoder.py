"""An installed model; its weights are read, and torch is imported, when it is first used."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.preprocess import PREPROCESSING_ID
from rwkvsearch.retrieval.models import ModelCard, Precision, checked_precision, read_card
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig

if TYPE_CHECKING:
    from rwkvsearch.retrieval.encoder import Encoder


class LazyEncoder:
    """What an engine needs of an `Encoder`; its identity comes from the card alone."""

    def __init__(self, card: ModelCard, device: str | None, precision: Precision) -> None:
        """Use `LazyEncoder.of`."""
        config = ModelConfig.from_dict(card.config)
        self.card = card
        self.precision = checked_precision(precision)
        self.model_id = card.id_of(precision)
        self.image_size = config.image.image_size
        self.preprocessing_id = f"{PREPROCESSING_ID}-{self.image_size}"
        self._device = device
        self._lock = Lock()
        self._encoder: Encoder | None = None

    @classmethod
    def of(cls, name: str, device: str | None, precision: Precision) -> Self:
        """The model called `name`; `ModelError` if it is not installed or its card is damaged."""
        return cls(read_card(name), device, precision)

    @property
    def encoder(self) -> Encoder:
        """The model itself, loaded at the first use, once for all threads.

        Raises:
            ModelError: damaged weights, or a device that cannot be used.
        """
        from rwkvsearch.retrieval.encoder import Encoder

        with self._lock:
            if self._encoder is None:
                self._encoder = Encoder.load(
                    self.card.name, device=self._device, precision=self.precision
                )
            return self._encoder

    @property
    def scale(self) -> float:
        """As `Encoder.scale`."""
        return self.encoder.scale

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `Encoder.encode_texts`."""
        return self.encoder.encode_texts(texts)

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """As `Encoder.encode_images`."""
        return self.encoder.encode_images(images)

    def encode_patches(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """As `Encoder.encode_patches`."""
        return self.encoder.encode_patches(images)
