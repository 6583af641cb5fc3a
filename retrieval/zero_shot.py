"""Zero-shot classification: each picture gets the class whose name, in sentences, is nearest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.class_names import Names
from rwkvsearch.data.errors import ImageError
from rwkvsearch.data.labelled import LabelledSet
from rwkvsearch.retrieval.accuracy import Accuracy, accuracy_of
from rwkvsearch.retrieval.benchmark import embed_texts
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.labelled_embeddings import embed_labelled_set
from rwkvsearch.retrieval.metrics import class_embeddings, class_ranks

Progress = Callable[[int], None]

TEMPLATES = ("a photo of a {}",)
"""Sentences a class name is put in when none are given."""


@dataclass(frozen=True)
class ZeroShotResult:
    """Accuracy over the pictures that could be read, and those that could not."""

    accuracy: Accuracy
    unreadable: tuple[ImageError, ...]
    fingerprint: str


def measure_zero_shot(
    encoder: Encoder,
    labelled: LabelledSet,
    classes: Names,
    templates: Sequence[str],
    progress: Progress,
) -> ZeroShotResult:
    """Classify every picture of a set by the nearest class embedding, ties pessimistic.

    `classes` hold every label of the set; each of `templates` holds `{}` once.

    Raises:
        DataError: no picture can be read, or the set is malformed.
    """
    texts = embed_classes(encoder, classes, templates, progress)
    found = embed_labelled_set(labelled, encoder, encoder.encode_pixels, progress)
    numbers = {label: number for number, label in enumerate(classes)}
    labels = np.array([numbers[label] for label in found.labels])
    ranks = class_ranks(found.vectors, texts, labels)
    accuracy = accuracy_of(ranks, labels, spoken_names(classes))
    return ZeroShotResult(accuracy, found.unreadable, found.fingerprint)


def embed_classes(
    encoder: Encoder, classes: Names, templates: Sequence[str], progress: Progress
) -> NDArray[np.float32]:
    """Return an embedding of each class, `[K, D]`: the mean over its names in all templates."""
    prompts, owner = [], []
    for number, names in enumerate(classes.values()):
        sentences = [template.replace("{}", name) for name in names for template in templates]
        prompts += sentences
        owner += [number] * len(sentences)
    return class_embeddings(embed_texts(encoder, prompts, progress), np.array(owner))


def spoken_names(classes: Names) -> list[str]:
    """A name of each class that no other has: the first one, or all of them together."""
    first = Counter(names[0] for names in classes.values())
    return [names[0] if first[names[0]] == 1 else ", ".join(names) for names in classes.values()]
