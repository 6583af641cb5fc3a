"""The members of a WebDataset shard by key, found once and read later by their offset."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rwkvsearch.data.descriptions.texts import ImageSource
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.shards import IMAGE_SUFFIXES, refuse_cut_off


@dataclass
class Sample:
    """What a shard holds for one key."""

    image: ImageSource | None = None
    text: ImageSource | None = None
    notes: ImageSource | None = None
    """The key's `.json`."""

    def read_text(self) -> str:
        """The content of the `.txt`, empty if there is none."""
        return _decoded(self.text) if self.text else ""

    def read_notes(self) -> Any:
        """The object of the `.json`, None if there is none."""
        if self.notes is None:
            return None
        try:
            return json.loads(_decoded(self.notes))
        except (ValueError, RecursionError) as error:
            where = f"{self.notes.path}: the .json at byte {self.notes.offset}"
            raise DataError(f"{where} is not JSON: {error}") from error


@dataclass
class _Samples:
    found: dict[str, Sample] = field(default_factory=dict)

    def add(self, shard: Path, member: tarfile.TarInfo) -> None:
        name = Path(member.name)
        suffix = name.suffix.lower()
        slot = (
            "image" if suffix in IMAGE_SUFFIXES else {".txt": "text", ".json": "notes"}.get(suffix)
        )
        if slot is None or not member.isfile() or name.name.startswith("._"):
            return
        sample = self.found.setdefault(str(name.with_suffix("")), Sample())
        if getattr(sample, slot) is not None:
            raise DataError(
                f"{shard}: the key {name.with_suffix('')} has two members for its {slot}"
            )
        setattr(sample, slot, ImageSource(shard, member.offset_data, member.size))


def read_samples(shard: Path) -> dict[str, Sample]:
    """The samples of a shard that have a picture, by key. Order and errors as `read_pairs`."""
    return {key: sample for key, sample in read_pairs(shard).items() if sample.image}


def read_pairs(shard: Path) -> dict[str, Sample]:
    """All samples of a shard by key, in the order of their first member.

    Raises:
        DataError: not a tar, truncated, not readable, or a key has a part twice.
    """
    samples = _Samples()
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive.getmembers():
                samples.add(shard, member)
            refuse_cut_off(shard, archive)
    except tarfile.TarError as error:
        raise DataError(f"{shard}: not a whole tar: {error}") from error
    except OSError as error:
        raise DataError(f"{shard}: cannot be read: {error.strerror or error}") from error
    return samples.found


def _decoded(source: ImageSource) -> str:
    try:
        return source.read().decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{source.path}: the text at byte {source.offset} is not UTF-8") from error
