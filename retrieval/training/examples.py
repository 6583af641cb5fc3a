"""The pictures of a training run: where they lie, what may be said about them, whom they match."""

import hashlib
import io
import logging
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
from rwkvsearch.data.errors import DataError, ImageError
from rwkvsearch.data.images import IMAGE_SUFFIXES, read_image
from rwkvsearch.data.shards import split_label
from rwkvsearch.retrieval.training.config import DataConfig

logger = logging.getLogger(__name__)

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

    def open(self, min_side: int | None = None) -> Image.Image:
        """Return it as upright RGB, perhaps smaller, see `read_image`.

        A grey picture stands in for one that cannot be decoded, with a warning: it must not stop
        a run of days.

        Raises:
            DataError: its file is gone.
        """
        if self.kept is not None:
            return self.kept
        assert self.source is not None
        try:
            return read_image(io.BytesIO(self.source.read()), min_side=min_side)
        except ImageError as error:
            logger.warning("%s: %s; grey stands in", self.source.path, error.reason)
            return Image.new("RGB", (32, 32), (128, 128, 128))


@dataclass(frozen=True)
class Example:
    """One picture, the texts it may be shown with, and the group its positives share."""

    picture: Picture
    texts: Mapping[str, tuple[str, ...]]
    """By kind: raw, synthetic, generated. Empty: a picture without text."""
    group: str
    key: str = ""
    """SHA-256 of the file, by which a teacher's targets are found."""
    labelled: bool = False
    """Whether `group` is a class, and the texts are its names in sentences."""


@dataclass(frozen=True)
class Source:
    """Examples of one set, of which every batch holds `share`, or all where there are fewer."""

    examples: Sequence[Example]
    share: int


def read_source(config: DataConfig, home: Path, *, keep_pixels: int) -> Source:
    """Read a set: described pictures, a caption file, shards or a folder, paths relative to `home`.

    Decoded pictures stay in memory, reduced to a short side of `keep_pixels`; with 0 they are
    decoded again for each use. One that cannot be decoded is left out, with a warning.

    Raises:
        DataError: nothing usable there, a picture without text, or an `exclude` that excludes none.
    """
    path = home / config.path
    listed = _listed(path, config)
    if config.exclude:
        excluded = {_name(item.key) for item in find_items(home / config.exclude)}
        kept = [entry for entry in listed if _name(entry.key) not in excluded]
        if len(kept) == len(listed):
            raise DataError(f"{home / config.exclude}: no name in there is one of {path}")
        listed = kept
    with ThreadPoolExecutor() as pool:
        found = pool.map(partial(_example, text=config.text, keep=keep_pixels), listed)
        examples = [example for example in found if example]
    if not examples:
        raise DataError(f"{path}: no picture is left that can be used")
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
    split = config.split or None if captions else None
    items = find_items(path, split=split, folder_labels=config.text == "label")
    return [_Listed(i.key, i.image, {"raw": i.raw} if i.raw else {}) for i in items]


def _is_described(path: Path) -> bool:
    return path.is_dir() and any(path.glob("descriptions-*.tar"))


def _name(key: str) -> str:
    """Return a key without the suffix of a picture: shards have none, folders do."""
    stem, dot, suffix = key.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else key


def _example(entry: _Listed, text: str, keep: int) -> Example | None:
    texts = {} if text == "none" else entry.texts
    if not texts and text != "none":
        where = f"{entry.source.path}: {entry.key}"
        raise DataError(
            f'{where} has no text; give it one, take it out, or use the set with `text = "none"`'
        )
    group = f"{entry.source.path}:{entry.key}"
    if text == "label":
        names = [name for line in entry.texts.get("raw", ()) for name in label_names(line)]
        if not names:
            raise DataError(f"{entry.source.path}: {entry.key} has no class name")
        texts, group = {"raw": sentences(names)}, ", ".join(names).lower()
    if not keep:
        return Example(Picture(entry.source), texts, group, labelled=text == "label")
    content = entry.source.read()
    try:
        picture = Picture(entry.source, reduce(content, keep))
    except ImageError as error:
        logger.warning("left out %s (%s): %s", entry.key, entry.source.path, error.reason)
        return None
    key = hashlib.sha256(content).hexdigest()
    return Example(picture, texts, group, key, labelled=text == "label")


def fingerprint(sources: Sequence[Source]) -> str:
    """Return a hash of what batches are drawn from: shares, texts and, where known, pictures."""
    sha = hashlib.sha256()
    for source in sources:
        sha.update(f"{len(source.examples)} {source.share}".encode())
        for example in source.examples:
            sha.update(f"{example.key} {sorted(example.texts.items())}".encode())
    return sha.hexdigest()


def reduce(content: bytes, short_side: int) -> Image.Image:
    """Decode a picture and scale it down to a short side, in pixels, if it is larger."""
    image = read_image(io.BytesIO(content), min_side=short_side)
    scale = short_side / min(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def label_names(label: str) -> list[str]:
    """Return the names of a class, as they are written in sentences."""
    return [name.replace("_", " ") for name in split_label(label)]


def sentences(names: Sequence[str]) -> tuple[str, ...]:
    """Return every name in every template."""
    return tuple(template.replace("{}", name) for name in names for template in TEMPLATES)
