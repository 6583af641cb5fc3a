"""Batches: pictures with sentences, and pictures with class names made into sentences.

Every batch is a pure function of (seed, step), so a resumed run sees what an unbroken one would,
and each of several processes makes its own part of the same batch.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.preprocess import normalise
from rwkvsearch.retrieval.training.classes import Classes
from rwkvsearch.retrieval.training.examples import Example, Source
from rwkvsearch.retrieval.training.targets import Targets, crop_targets


class Tokenize(Protocol):
    """Texts to padded token ids `[B, T]`."""

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Tokenize."""


@dataclass(frozen=True)
class Plan:
    """What a batch will hold, before any picture is read: the same in every process.

    Examples with a text come first; `texts` has one for each of them, then further sentences.
    """

    step: int
    examples: tuple[Example, ...]
    texts: tuple[str, ...]
    groups: NDArray[np.int64]
    """`[P]`, one for each pair: the first P examples with the first P texts."""


@dataclass(frozen=True)
class Batch:
    """The part of a batch that one process computes, and the groups `[P]` of the whole batch."""

    pixels: NDArray[np.float32]
    """`[I, 3, S, S]`; the first rows belong to the first texts."""
    ids: NDArray[np.int64]
    """`[J, T]`."""
    pairs: int
    """Rows of both that are pairs."""
    groups: NDArray[np.int64]
    images_in_all: int
    """Pictures of the whole batch."""
    texts_in_all: int
    patch_targets: Tensor | None = None
    """`[I, patches, D]`."""
    text_targets: Tensor | None = None
    """`[J, D]`."""
    classes: Classes | None = None
    class_rows: NDArray[np.int64] | None = None
    """`[I]`, the class of each picture, -1 for none."""
    classed_in_all: int = 0
    """Pictures of the whole batch that have a class."""


def plan_batch(
    sources: Sequence[Source],
    *,
    seed: int,
    step: int,
    sentences: Sequence[str] = (),
    extra: int = 0,
) -> Plan:
    """Draw pictures without repetition, one text each, and `extra` of the sentences."""
    random = np.random.default_rng((seed, step))
    paired, alone = [], []
    for source in sources:
        for index in random.choice(len(source.examples), source.share, replace=False):
            example = source.examples[index]
            if example.texts:
                kinds = list(example.texts.values())
                of_kind = kinds[random.integers(len(kinds))]
                paired.append((example, of_kind[random.integers(len(of_kind))]))
            else:
                alone.append(example)
    further = [sentences[i] for i in random.integers(len(sentences), size=extra)] if extra else []
    texts = [text for _, text in paired]
    return Plan(
        step,
        (*(example for example, _ in paired), *alone),
        (*texts, *further),
        _merge([example.group for example, _ in paired], texts),
    )


def make_batch(
    plan: Plan,
    tokenize: Tokenize,
    *,
    size: int,
    patch: int,
    seed: int,
    least_area: float = 0.4,
    targets: Targets | None = None,
    classes: Classes | None = None,
    part: int = 0,
    parts: int = 1,
) -> Batch:
    """Read, augment and tokenize the given part of a planned batch.

    Pairs, pictures without text, and sentences are each dealt out evenly.

    Raises:
        DataError: nothing is left for this part.
    """
    pairs = len(plan.groups)
    mine = share_of(pairs, part, parts)
    images = [*range(*mine), *range(*share_of(len(plan.examples), part, parts, pairs))]
    texts = [*range(*mine), *range(*share_of(len(plan.texts), part, parts, pairs))]
    examples = [plan.examples[i] for i in images]
    sentences = [plan.texts[i] for i in texts]
    if not examples or not sentences:
        raise DataError(f"a batch of {len(plan.examples)} pictures is too small for {parts} parts")

    def view(number: int) -> View:
        random = np.random.default_rng((seed, plan.step, number))
        return augment(plan.examples[number].picture.open(size), size, random, least_area)

    views = list(_readers().map(view, images))
    patch_targets = text_targets = None
    if targets is not None:
        patch_targets = crop_targets(
            targets.of_images([example.key for example in examples]),
            np.array([view.box for view in views], np.float32),
            np.array([view.mirrored for view in views]),
            size // patch,
        )
        text_targets = Tensor(targets.of_texts(sentences).astype(np.float32))
    return Batch(
        np.stack([view.pixels for view in views]),
        tokenize(sentences),
        mine[1] - mine[0],
        plan.groups,
        len(plan.examples),
        len(plan.texts),
        patch_targets,
        text_targets,
        classes,
        None if classes is None else classes.rows_of(examples),
        0 if classes is None else int((classes.rows_of(plan.examples) >= 0).sum()),
    )


@cache
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="reader")


def share_of(end: int, part: int, parts: int, start: int = 0) -> tuple[int, int]:
    """Return where the given part of `start`..`end` begins and ends, dealt evenly."""
    count = end - start
    return start + count * part // parts, start + count * (part + 1) // parts


def _merge(*keys: Sequence[str]) -> NDArray[np.int64]:
    """Return one number per item, the same for items that share a key of any kind."""
    numbers = np.arange(len(keys[0]))
    for kind in keys:
        first: dict[str, int] = {}
        for item, key in enumerate(kind):
            other = first.setdefault(key, item)
            numbers[numbers == numbers[item]] = numbers[other]
    return numbers


@dataclass(frozen=True)
class View:
    """A crop of a picture: pixels `[3, S, S]` and its box as shares of the picture."""

    pixels: NDArray[np.float32]
    box: tuple[float, float, float, float]
    mirrored: bool


def augment(
    image: Image.Image, size: int, random: np.random.Generator, least_area: float = 0.4
) -> View:
    """Crop at random (`least_area` to all of the area), mirror every second time, vary light."""
    area = random.uniform(least_area, 1)
    ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
    width, height = image.size
    w = min(1.0, math.sqrt(area * ratio * height / width))
    h = min(1.0, math.sqrt(area / ratio * width / height))
    left, top = random.uniform(0, 1 - w), random.uniform(0, 1 - h)
    box = (left * width, top * height, (left + w) * width, (top + h) * height)
    crop = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    mirrored = bool(random.random() < 0.5)
    if mirrored:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = normalise(np.asarray(crop))
    contrast, light = random.uniform(0.75, 1.25), random.uniform(-0.3, 0.3)
    pixels = (pixels * np.float32(contrast) + np.float32(light)).astype(np.float32)
    return View(pixels, (left, top, w, h), mirrored)
