"""The pictures to describe, with the texts they come with: a folder, a caption set or shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rwkvsearch.data.captions import has_captions, load_captions
from rwkvsearch.data.descriptions.tars import Sample, read_samples
from rwkvsearch.data.descriptions.texts import ImageSource, Item, one_line
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.shards import find_shards
from rwkvsearch.data.walk import find_images


def find_items(
    source: Path | str, *, split: str | None = None, folder_labels: bool = False
) -> list[Item]:
    """Every picture of a set, in a fixed order.

    `source` is a Karpathy or COCO captions json or its folder (`split` as in `load_captions`), a
    `.tar`, a folder or a glob of tars, or a folder of pictures, where `dog.txt` beside `dog.jpg`
    holds its captions, one a line. `folder_labels` takes the name of the folder of each picture as
    its raw text, `_` and `-` as spaces.

    Raises:
        DataError: nothing there, no pictures, or a fault in a caption set or shard.
    """
    path = Path(source)
    if path.suffix == ".json" or (path.is_dir() and has_captions(path)):
        return _captioned(path, split)
    if split is not None:
        raise DataError(f"{path}: only a caption set has splits, and this is none")
    if path.suffix == ".tar" or set(str(source)) & set("*?[") or _holds_tars(path):
        return [item for shard in find_shards(source) for item in _from_shard(shard)]
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    items = [_from_file(file, path, folder_labels) for file in find_images(path)]
    if not items:
        raise DataError(f"{path}: no pictures, captions json or .tar found")
    return items


def _captioned(path: Path, split: str | None) -> list[Item]:
    images = load_captions(path, split).images
    home = (path if path.is_dir() else path.parent).absolute()
    return [
        Item(
            str(i.path.relative_to(home) if i.path.is_relative_to(home) else i.path),
            ImageSource(i.path),
            one_line(i.captions),
        )
        for i in images
    ]


def _from_shard(shard: Path) -> Iterator[Item]:
    for key, sample in read_samples(shard).items():
        assert sample.image is not None
        yield Item(key, sample.image, one_line(list(_shard_texts(sample))))


def _shard_texts(sample: Sample) -> Iterator[str]:
    """The raw texts of our own notes; of others the captions, else the lines of the `.txt`."""
    notes: Any = sample.read_notes()
    if isinstance(notes, dict) and isinstance(notes.get("texts"), list):
        yield from (saying["text"] for saying in notes["texts"] if saying.get("kind") == "raw")
        return
    stated = notes.get("captions", notes.get("caption")) if isinstance(notes, dict) else None
    texts = stated if isinstance(stated, list) else [stated]
    if captions := [text for text in texts if isinstance(text, str)]:
        yield from captions
    else:
        yield from sample.read_text().splitlines()


def _from_file(file: Path, root: Path, folder_labels: bool) -> Item:
    key = str(file.relative_to(root)) if file != root else file.name
    raw: list[str] = []
    beside = file.with_suffix(".txt")
    if beside.is_file():
        try:
            raw = beside.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise DataError(f"{beside}: cannot be read: {reason}") from error
    elif folder_labels:
        raw = [file.absolute().parent.name.replace("_", " ").replace("-", " ")]
    return Item(key, ImageSource(file), one_line(raw))


def _holds_tars(path: Path) -> bool:
    return path.is_dir() and next(path.glob("*.tar"), None) is not None
