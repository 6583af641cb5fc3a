"""The pictures of a training run: where they lie, what may be said about them, whom they match."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from rwkvsearch.data.captions import has_captions
from rwkvsearch.data.descriptions.sources import find_items
from rwkvsearch.data.descriptions.store import load_descriptions
from rwkvsearch.data.descriptions.texts import ImageSource
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.images import read_image
from rwkvsearch.retrieval.training.config import DataConfig

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
class Picture:
    """A picture in memory, or one that is read each time."""

    source: ImageSource | None
    kept: Image.Image | None = None

    def open(self) -> Image.Image:
        """Return it as upright RGB.

        Raises:
            ImageError: it cannot be decoded.
            DataError: its file is gone.
        """
        if self.kept is not None:
            return self.kept
        assert self.source is not None
        return read_image(io.BytesIO(self.source.read()))


@dataclass(frozen=True)
class Example:
    """One picture, the texts it may be shown with, and the group its positives share."""

    picture: Picture
    texts: Mapping[str, tuple[str, ...]]
    """By kind: raw, synthetic, generated. Empty: a picture without text."""
    group: str
    key: str = ""
    """SHA-256 of the file, by which a teacher's targets are found."""


@dataclass(frozen=True)
class Source:
    """Examples of one set, of which every batch holds `share`, or all where there are fewer."""

    examples: Sequence[Example]
    share: int


def read_source(config: DataConfig, home: Path, *, keep_pixels: int) -> Source:
    """Read a set: described pictures, a caption file, shards or a folder, paths relative to `home`.

    Decoded pictures stay in memory, reduced to a short side of `keep_pixels`; with 0 they are
    decoded again for each use.

    Raises:
        DataError: nothing usable there, or a picture without text.
        ImageError: a picture that is to be kept cannot be decoded.
    """
    path = home / config.path
    listed = _listed(path, config)
    if config.exclude:
        excluded = {item.key for item in find_items(home / config.exclude)}
        listed = [entry for entry in listed if entry.key not in excluded]
    with ThreadPoolExecutor() as pool:
        examples = list(pool.map(partial(_example, text=config.text, keep=keep_pixels), listed))
    if not examples:
        raise DataError(f"{path}: all of its pictures are excluded by {config.exclude}")
    return Source(examples, min(config.share, len(examples)))


@dataclass(frozen=True)
class _Listed:
    key: str
    source: ImageSource
    texts: Mapping[str, tuple[str, ...]]


def _listed(path: Path, config: DataConfig) -> list[_Listed]:
    if path.suffix in (".parquet", ".jsonl") or _is_described(path):
        return [_Listed(d.key, d.image, d.texts) for d in load_descriptions(path)]
    captions = path.suffix == ".json" or (path.is_dir() and has_captions(path))
    split = config.split if captions else None
    items = find_items(path, split=split, folder_labels=config.text == "label")
    return [_Listed(i.key, i.image, {"raw": i.raw} if i.raw else {}) for i in items]


def _is_described(path: Path) -> bool:
    return path.is_dir() and any(path.glob("descriptions-*.tar"))


def _example(entry: _Listed, text: str, keep: int) -> Example:
    texts = {} if text == "none" else entry.texts
    if not texts and text != "none":
        where = f"{entry.source.path}: {entry.key}"
        raise DataError(f'{where} has no text; `text = "none"` uses pictures without')
    group = f"{entry.source.path}:{entry.key}"
    if text == "label":
        names = [name for line in entry.texts["raw"] for name in label_names(line)]
        texts, group = {"raw": sentences(names)}, ", ".join(names).lower()
    content = entry.source.read() if keep else b""
    picture = Picture(entry.source, reduce(content, keep) if keep else None)
    return Example(picture, texts, group, hashlib.sha256(content).hexdigest() if keep else "")


def reduce(content: bytes, short_side: int) -> Image.Image:
    """Decode a picture and scale it down to a short side, in pixels, if it is larger."""
    image = read_image(io.BytesIO(content), min_side=short_side)
    scale = short_side / min(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def label_names(label: str) -> list[str]:
    """Return the names of a class: `Sea_star, starfish` has two."""
    names = (name.strip().replace("_", " ") for name in label.split(","))
    return [name for name in names if name]


def sentences(names: Sequence[str]) -> tuple[str, ...]:
    """Return every name in every template."""
    return tuple(template.replace("{}", name) for name in names for template in TEMPLATES)
