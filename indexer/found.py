"""A file on disk and a file in the catalog, and when the two are the same."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from rwkvsearch.data.members import read_member
from rwkvsearch.data.metadata import Metadata
from rwkvsearch.data.remote import open_binary, stat_of

# A change within one tick of a coarse clock, such as that of FAT, would not be seen.
_FRESH_NS = 2_000_000_000


class Stat(NamedTuple):
    """Size in bytes, time of the last change in ns, inode and device; of a member those of its tar.

    The size is always that of the picture itself.
    """

    size: int
    mtime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """The part of a stat that tells whether a file has changed."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)

    def is_same(self, other: Stat) -> bool:
        """Whether a file with the one stat still is what it was with the other.

        An inode means something on its own device only: a disk that is mounted anew may number its
        files anew.
        """
        alike = self[:2] == other[:2]
        return alike and (self.inode == other.inode or self.device != other.device)


@dataclass(frozen=True, slots=True)
class Found:
    """A file on disk: `name` is its path below `root`, for a member that in its shard.

    `sidecars` are still to be read, `said` is what the texts beside a member say; `stamp` stands
    for either. `captions` come from a caption set, None when there is none.
    """

    root_id: int
    root: Path
    name: str
    stat: Stat
    row_id: int | None = None
    shard: Path | None = None
    offset: int | None = None
    sidecars: tuple[Path, ...] = ()
    said: tuple[Metadata, ...] = ()
    stamp: str | None = None
    captions: tuple[str, ...] | None = None

    @property
    def path(self) -> Path:
        """Absolute; of a member that of its shard and then its name."""
        return self.root / self.name

    def open(self) -> BinaryIO:
        """The bytes of the picture."""
        if self.shard is None or self.offset is None:
            return open_binary(self.path)
        return io.BytesIO(read_member(self.shard, self.offset, self.stat.size))


class Known(NamedTuple):
    """A file in the catalog. `embedded`: the model in question has nothing left to do for it."""

    row_id: int
    stat: Stat
    image_id: int | None
    error: str | None
    gone: bool
    stamp: str | None
    embedded: bool


def stamp_of(texts: Mapping[str, object]) -> str | None:
    """A short text that changes with what stands beside a picture; None for nothing."""
    if not texts:
        return None
    return hashlib.blake2b(repr(sorted(texts.items())).encode(errors="replace")).hexdigest()[:16]


def shard_stamp(shard: Path) -> str | None:
    """What stands for a shard as it is; None when it cannot be read or was written just now."""
    try:
        stat = Stat.of(stat_of(shard))
    except OSError:
        return None
    fresh = 0 <= time.time_ns() - stat.mtime_ns < _FRESH_NS
    return None if fresh else repr(tuple(stat)[:3])
