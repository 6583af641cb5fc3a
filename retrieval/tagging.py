"""Tag the images of a library with labels: the library twin of `rwkvsearch tag`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.descriptions.vocabulary import Word, everyday_words
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tags import Tagged, count_untagged, tag_images
from rwkvsearch.retrieval.labels import Labels, fingerprint
from rwkvsearch.retrieval.lazy_encoder import LazyEncoder


@dataclass(frozen=True)
class Tagging:
    """Which labels are given, and how sure they have to be.

    Everyday words are their rivals: a picture that shows something else altogether gets none.
    """

    words: Mapping[str, Word] = field(default_factory=everyday_words)
    templates: Sequence[str] = ()
    min_confidence: float = 0.5

    @property
    def how(self) -> str:
        """Changes with whatever changes the tags."""
        asked = fingerprint(self.words, everyday_words(), self.templates)
        return f"{asked} {self.min_confidence:g}"

    def count(self, library: Library, encoder: LazyEncoder) -> int:
        """How many images are still to be tagged so; needs no torch.

        Raises:
            LibraryError: the model has no embeddings in the library.
        """
        model = library.model(encoder.model_id, encoder.preprocessing_id)
        return count_untagged(library, model, self.how)

    def run(
        self,
        library: Library,
        encoder: LazyEncoder,
        *,
        anew: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Tagged:
        """Tag those images, `anew` all; see `tag_images`.

        Raises:
            LibraryError: no embeddings of the model, another writer, or it cannot be written.
        """
        model = library.model(encoder.model_id, encoder.preprocessing_id)
        labels = Labels(
            encoder.encoder, self.words, rivals=everyday_words(), templates=self.templates
        )

        def label(embeddings: NDArray[np.float32]) -> list[list[tuple[str, float]]]:
            found = labels.tags(embeddings, self.min_confidence)
            return [[(tag.name, tag.confidence) for tag in tags] for tags in found]

        return tag_images(library, model, label, self.how, anew=anew, progress=progress)
