"""Training pairs: photographs with sentences, and photographs with class names made into sentences.

Every batch is a pure function of (seed, step), so a resumed run sees what an unbroken one would.
"""

import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.captions import load_captions
from rwkvsearch.data.images import read_image
from rwkvsearch.data.preprocess import normalise
from rwkvsearch.data.shards import iterate_shards

TEMPLATES = (
    "{}",
    "a {}",
    "the {}",
    "a photo of a {}",
    "a picture of a {}",
    "a close-up of a {}",
    "a small photo of a {}",
    "this is a {}",
    "there is a {} in the picture",
    "one {} seen from the side",
)
"""Sentences around a class name; one is drawn at random each time."""


@dataclass(frozen=True)
class Example:
    """One photograph, the texts it may be shown with, and the group its positives share."""

    image: Image.Image
    texts: tuple[str, ...]
    group: str


@dataclass(frozen=True)
class Source:
    """Examples of one kind, of which every batch holds `share`."""

    examples: Sequence[Example]
    share: int


@dataclass(frozen=True)
class Batch:
    """Pixels `[B, 3, S, S]`, token ids `[B, T]` and positive groups `[B]`."""

    pixels: NDArray[np.float32]
    ids: NDArray[np.int64]
    groups: NDArray[np.int64]


class Tokenize(Protocol):
    """Texts to padded token ids `[B, T]`."""

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Tokenize."""


def captioned(path: Path, split: str) -> list[Example]:
    """Read a caption set into memory; each photograph is its own group."""
    images = load_captions(path, split).images
    with ThreadPoolExecutor() as pool:
        pictures = pool.map(lambda item: read_image(item.path), images)
        return [
            Example(picture, item.captions, str(item.path))
            for picture, item in zip(pictures, images, strict=True)
        ]


def labelled(shards: Iterable[str | Path]) -> list[Example]:
    """Read WebDataset shards into memory; photographs of one class are one group."""
    items = [item for shard in shards for item in iterate_shards(shard)]
    with ThreadPoolExecutor() as pool:
        pictures = pool.map(lambda item: read_image(io.BytesIO(item.image)), items)
        return [
            Example(picture, _sentences(item.text), item.text.strip().lower())
            for picture, item in zip(pictures, items, strict=True)
        ]


def draw_batch(
    sources: Sequence[Source], tokenize: Tokenize, *, size: int, seed: int, step: int
) -> Batch:
    """Draw the batch of `step`: photographs without repetition, one text each, augmented."""
    random = np.random.default_rng((seed, step))
    pixels, texts, groups = [], [], []
    for source in sources:
        for index in random.choice(len(source.examples), source.share, replace=False):
            example = source.examples[index]
            pixels.append(augment(example.image, size, random))
            texts.append(example.texts[random.integers(len(example.texts))])
            groups.append(example.group)
    return Batch(np.stack(pixels), tokenize(texts), _merge(groups, texts))


def _merge(*keys: Sequence[str]) -> NDArray[np.int64]:
    """Return one number per item, the same for items that share a key of any kind."""
    numbers = np.arange(len(keys[0]))
    for kind in keys:
        first: dict[str, int] = {}
        for item, key in enumerate(kind):
            other = first.setdefault(key, item)
            numbers[numbers == numbers[item]] = numbers[other]
    return numbers


def augment(image: Image.Image, size: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Crop at random (40 to 100 % of the area), mirror every second time, vary light."""
    width, height = image.size
    area = width * height * random.uniform(0.4, 1)
    ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    w, h = min(width, np.sqrt(area * ratio)), min(height, np.sqrt(area / ratio))
    left, top = random.uniform(0, width - w), random.uniform(0, height - h)
    box = (left, top, left + w, top + h)
    crop = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if random.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = normalise(np.asarray(crop))
    contrast, light = random.uniform(0.75, 1.25), random.uniform(-0.3, 0.3)
    return (pixels * np.float32(contrast) + np.float32(light)).astype(np.float32)


def _sentences(label: str) -> tuple[str, ...]:
    names = [name.strip().replace("_", " ") for name in label.split(",")]
    return tuple(template.replace("{}", name) for name in names if name for template in TEMPLATES)
