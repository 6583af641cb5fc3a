"""Measure what to put before a query.

Run as `python -m rwkvsearch.retrieval.prompt_bench --data flickr8k --split val --classes
'photos/caltech101-test-*.tar'`: searches the photographs by each caption (recall) and the pictures
of each class by its name (mean average precision, precision among the first ten) with several
prefixes, and with the mean of all of them. People type sentences and words, so both count.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.captions import load_captions
from rwkvsearch.data.descriptions.vocabulary import with_article
from rwkvsearch.data.labelled import open_labelled
from rwkvsearch.data.shards import read_classes
from rwkvsearch.retrieval.algebra_bench import average_precision
from rwkvsearch.retrieval.benchmark import embed_images, embed_texts
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.labelled_embeddings import embed_labelled_set

PREFIXES = ("", "a photo of ", "a picture of ", "an image of ", "a close-up of ")
ENSEMBLE = "mean of all"
KS = (1, 5, 10)
_BLOCK = 256

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Gallery:
    """Images `[I, D]` and texts to search them by; `owner[m]` is the label of a text.

    `labels[i]` is that of an image: its own number, or its class.
    """

    images: Floats
    labels: NDArray[np.int64]
    texts: tuple[str, ...]
    owner: NDArray[np.int64]


def ways(encoder: Encoder, texts: Sequence[str]) -> Iterator[tuple[str, Floats]]:
    """The embeddings `[M, D]` of texts with each prefix, and the mean of all."""
    total = np.zeros((len(texts), encoder.dim), np.float32)
    for prefix in PREFIXES:
        embeddings = embed_texts(encoder, [prefix + text for text in texts], lambda more: None)
        total += embeddings
        yield repr(prefix), embeddings
    yield ENSEMBLE, total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-9)


def found_by(gallery: Gallery, texts: Floats) -> Doubles:
    """For each text whether its image is among the first 1, 5 and 10, `[M, 3]`; ties against it."""
    ranks = []
    for start in range(0, len(texts), _BLOCK):
        scores = texts[start : start + _BLOCK] @ gallery.images.T
        own = gallery.owner[start : start + _BLOCK, None] == gallery.labels[None]
        best = np.where(own, scores, -np.inf).max(axis=1, keepdims=True)
        ranks.append(((scores >= best) & ~own).sum(axis=1))
    return np.stack([np.concatenate(ranks) < k for k in KS], axis=1).astype(np.float64)


def precision_of(gallery: Gallery, texts: Floats) -> Doubles:
    """For each text the average precision and the precision among the first ten, `[M, 2]`."""
    rows = []
    for text, label in zip(texts, gallery.owner, strict=True):
        scores, right = gallery.images @ text, gallery.labels == label
        first = right[np.argsort(-scores, kind="stable")[:10]]
        rows.append((average_precision(scores, right), float(first.mean())))
    return np.array(rows)


def read_captions(encoder: Encoder, data: Path, split: str | None) -> Gallery:
    """Every caption of a set, its own image is right."""
    items = load_captions(data, split).images
    images = embed_images(encoder, (item.source() for item in items), lambda more: None)
    owner = np.repeat(np.arange(len(items)), [len(item.captions) for item in items])
    texts = tuple(caption for item in items for caption in item.captions)
    return Gallery(images, np.arange(len(items)), texts, owner)


def read_names(encoder: Encoder, shards: str) -> Gallery:
    """The first name of every class of WebDataset shards, every image of the class is right."""
    classes = read_classes(shards)
    found = embed_labelled_set(
        open_labelled(shards), encoder, encoder.encode_pixels, lambda more: None
    )
    for error in found.unreadable:
        raise error
    numbers = {label: number for number, label in enumerate(classes)}
    labels = np.array([numbers[label] for label in found.labels])
    names = tuple(names[0] for names in classes.values())
    return Gallery(found.vectors, labels, names, np.arange(len(names)))


def compared(
    title: str, columns: Sequence[str], measured: dict[str, Doubles], groups: NDArray[np.int64]
) -> Iterable[str]:
    """A table of means in percent; of the last column the gain on no prefix, by bootstrap.

    `groups` `[M]` are drawn together: the captions of one picture.
    """
    yield f"\n{title}"
    yield f"{'prefix':<20}" + "".join(f"{c:>8}" for c in columns) + "   gain in the last [95 %]"
    base = next(iter(measured.values()))[:, -1]
    sizes = np.bincount(groups)
    drawn = np.random.default_rng(0).integers(0, len(sizes), (1000, len(sizes)))
    for name, figures in measured.items():
        gain = 100 * np.bincount(groups, figures[:, -1] - base)
        low, high = np.quantile(gain[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
        means = "".join(f"{100 * mean:>8.1f}" for mean in figures.mean(axis=0))
        yield f"{name:<20}{means}   {gain.sum() / sizes.sum():+.1f} [{low:+.1f}, {high:+.1f}]"


def _report(encoder: Encoder, captions: Gallery, named: dict[str, Gallery]) -> Iterable[str]:
    yield encoder.model_id
    found = {n: found_by(captions, each) for n, each in ways(encoder, captions.texts)}
    yield from compared("captions", [f"R@{k}" for k in KS], found, captions.owner)
    for shards, gallery in named.items():
        for kind, texts in {
            "the name": gallery.texts,
            "the name with a or an": [with_article(text) for text in gallery.texts],
        }.items():
            precise = {n: precision_of(gallery, each) for n, each in ways(encoder, texts)}
            title = f"{kind}, {len(texts)} classes of {Path(shards).name}"
            yield from compared(
                title,
                ["P@10", "AP"],
                {name: figures[:, ::-1] for name, figures in precise.items()},
                gallery.owner,
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Measure prefixes of queries.")
    parser.add_argument("--data", type=Path, required=True, help="captions")
    parser.add_argument("--split")
    parser.add_argument("--classes", action="append", default=[], help="WebDataset shards")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    asked = parser.parse_args()
    encoder = Encoder.load(asked.model, precision=asked.precision)
    captions = read_captions(encoder, asked.data, asked.split)
    named = {shards: read_names(encoder, shards) for shards in asked.classes}
    for line in _report(encoder, captions, named):
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
