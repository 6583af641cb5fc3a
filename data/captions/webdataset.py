"""Captioned pictures in WebDataset shards: `key.jpg` with `key.txt`, `key.json` or both.

The captions are `caption` or `captions` of the JSON, else the lines of the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rwkvsearch.data.captions.naming import split_of, stands_for, title_of
from rwkvsearch.data.captions.sets import Entry, Listing
from rwkvsearch.data.descriptions.tars import Sample, read_pairs
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.shards import find_shards


def holds_shards(source: Path) -> bool:
    """Whether `source` is a tar, a glob of them, or a folder with tars, perhaps one a split."""
    if source.is_dir():
        return any(True for pattern in ("*.tar", "*/*.tar") for _ in source.glob(pattern))
    return source.suffix == ".tar" or is_glob(source)


def is_glob(source: Path) -> bool:
    """Whether it is a pattern, and not the name of something that is there."""
    return bool(set(str(source)) & set("*?[")) and not source.exists()


def read_shards(source: Path, split: str | None) -> Listing:
    """The images of the shards of one split, told by the name of the shard or of its folder.

    Without `split` only those of test, where there are some, are read.
    """
    shards = _shards(source)
    splits = {shard: _split_of(shard) for shard in shards}
    asked = split or "test"
    chosen = [s for s in shards if splits[s] == asked or stands_for(asked, splits[s])]
    entries = [entry for shard in chosen or shards for entry in _entries(shard, splits[shard])]
    whole = source.is_dir()
    return Listing(source.absolute().name if whole else title_of((chosen or shards)[0]), entries)


def _shards(source: Path) -> list[Path]:
    if source.is_dir() and not any(source.glob("*.tar")):
        return sorted(path for path in source.glob("*/*.tar") if _split_of(path))
    return find_shards(source)


def _split_of(shard: Path) -> str | None:
    folder = shard.absolute().parent.name
    return split_of(shard.stem) or (folder if folder.lower() == split_of(folder) else None)


def _entries(shard: Path, split: str | None) -> Iterator[Entry]:
    pairs = read_pairs(shard)
    if not pairs:
        raise DataError(f"{shard}: holds no key.jpg with a key.txt or key.json")
    for key, sample in pairs.items():
        if sample.image is None:
            raise DataError(f"{shard}: the key {key} has no image")
        captions = tuple(_captions(sample))
        yield Entry(str(shard.absolute() / key), captions, split, inside=sample.image)


def _captions(sample: Sample) -> list[str]:
    notes: Any = sample.read_notes()
    said = notes.get("captions", notes.get("caption")) if isinstance(notes, dict) else None
    texts = [t for t in (said if isinstance(said, list) else [said]) if isinstance(t, str)]
    return [text.strip() for text in texts or sample.read_text().splitlines() if text.strip()]
