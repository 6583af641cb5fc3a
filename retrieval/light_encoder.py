"""An installed model for a command with one question: the text is embedded without torch."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.tokenizer import Tokenizer
from rwkvsearch.retrieval.graphs.choice import asked_engine
from rwkvsearch.retrieval.lazy_encoder import LazyEncoder
from rwkvsearch.retrieval.models import EXACT, checked_weights
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.rwkv_clip.light_text import LightText

FEW = 4
"""Texts in all that are embedded in numpy; for more, torch is worth its start."""


class LightEncoder(LazyEncoder):
    """A `LazyEncoder` whose first few texts are computed in numpy, on a CPU and in `fp32`."""

    _left = FEW
    _tower: tuple[Tokenizer, LightText] | None = None

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `Encoder.encode_texts`, equal up to rounding."""
        self._left -= len(texts)
        tower = self._light() if self._left >= 0 and self._encoder is None else None
        if tower is None:
            return super().encode_texts(texts)
        tokenizer, run = tower
        features = run(tokenizer(texts))
        embeddings: NDArray[np.float32] = features / np.linalg.norm(features, axis=1, keepdims=True)
        return embeddings

    def _light(self) -> tuple[Tokenizer, LightText] | None:
        device = self._device or os.environ.get("RWKVSEARCH_DEVICE") or "cpu"
        if device != "cpu" or self.precision != EXACT or asked_engine() != "auto":
            return None
        if self._tower is None:
            config = ModelConfig.from_dict(self.card.config).text
            if tower := LightText.read(checked_weights(self.card), config):
                self._tower = Tokenizer(config.vocabulary, config.context), tower
        return self._tower
