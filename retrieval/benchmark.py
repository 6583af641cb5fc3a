"""Measuring a model: recall@k on captioned sets, zero-shot accuracy on labelled ones."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.captions import CaptionSet
from rwkvsearch.data.images import read_image
from rwkvsearch.data.shards import iterate_shards, read_classes
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.metrics import Recall, class_embeddings, recall_at_k, top_k_accuracy

T = TypeVar("T")
Progress = Callable[[int], None]
"""Told how many images or texts were encoded since the last call."""

TEMPLATES = ("a photo of a {}",)
"""Sentences a class name is put in when none are given."""
BATCH = 64


@dataclass(frozen=True)
class RecallResult:
    """Recall in percent and what it was measured on."""

    recall: Recall
    images: int
    captions: int
    prefix: str


@dataclass(frozen=True)
class Accuracy:
    """Zero-shot accuracy in percent and what it was measured on."""

    top1: float
    top5: float
    images: int
    classes: int


def measure_recall(
    encoder: Encoder, captions: CaptionSet, prefix: str, progress: Progress
) -> RecallResult:
    """Embed every image and caption of a set and rank each against the other, ties pessimistic.

    Pictures are decoded fully. `prefix` is put before every caption.

    Raises:
        ImageError: a picture of the set cannot be read.
    """
    paths = [item.path for item in captions.images]
    texts = [prefix + caption for item in captions.images for caption in item.captions]
    counts = [len(item.captions) for item in captions.images]
    images = embed_images(encoder, paths, progress)
    recall = recall_at_k(
        images, embed_texts(encoder, texts, progress), np.repeat(np.arange(len(counts)), counts)
    )
    return RecallResult(recall, len(paths), len(texts), prefix)


def measure_accuracy(
    encoder: Encoder, shards: str | Path, templates: Sequence[str], progress: Progress
) -> Accuracy:
    """Classify every image of WebDataset shards by the nearest class embedding, ties pessimistic.

    Classes are the distinct texts; a class embedding is the mean over its names and `templates`,
    each of which holds `{}` once.

    Raises:
        DataError: no shards, or a malformed one.
        ImageError: a picture cannot be read.
    """
    classes = read_classes(shards)
    prompts, owner = [], []
    for number, names in enumerate(classes.values()):
        sentences = [template.replace("{}", name) for name in names for template in templates]
        prompts += sentences
        owner += [number] * len(sentences)
    texts = class_embeddings(embed_texts(encoder, prompts, progress), np.array(owner))
    images, labels = embed_labelled(encoder, shards, classes, progress)
    top = top_k_accuracy(images, texts, labels)
    return Accuracy(top["top1"], top["top5"], len(labels), len(classes))


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
