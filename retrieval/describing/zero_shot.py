"""Tags by our own model: the words of a vocabulary that fit a picture best, as `labels` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image

from rwkvsearch.data.descriptions.protocols import Failed
from rwkvsearch.data.descriptions.texts import Tag, digest
from rwkvsearch.data.descriptions.vocabulary import Word
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.labels import Labels

LEAST_CONFIDENCE = 0.02
"""Tags below are not kept; which of the others are used is for the caller's threshold to say."""


class ZeroShotTagger:
    """Tags with the words of a vocabulary by an RWKV-CLIP encoder."""

    def __init__(self, encoder: Encoder, words: Mapping[str, Word]) -> None:
        """Embed the words: some seconds."""
        self._encoder = encoder
        self.model_id = f"{encoder.model_id}/{digest(*words)[:8]}"
        self._labels = Labels(encoder, words)

    def tag(self, images: Sequence[Image.Image]) -> list[tuple[Tag, ...] | Failed]:
        """The tags of each picture with a confidence of at least `LEAST_CONFIDENCE`."""
        embeddings = self._encoder.encode_images(images)
        return [tuple(tags) for tags in self._labels.tags(embeddings, LEAST_CONFIDENCE)]
