"""From a file to what is stored of it and what the model reads: what the decoding threads do."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import DataError, ImageError
from rwkvsearch.data.files import NamedBytes
from rwkvsearch.data.images import MAX_BYTES, MAX_MEGAPIXELS, read_picture, system_reason
from rwkvsearch.data.metadata import Metadata, merge
from rwkvsearch.data.perceptual import perceptual_hash
from rwkvsearch.data.remote import is_remote
from rwkvsearch.data.sidecars import read_sidecar
from rwkvsearch.indexer.clock import Clock, Work
from rwkvsearch.indexer.entries import Content, KnownContent
from rwkvsearch.indexer.found import Found, Stat
from rwkvsearch.indexer.protocols import ImageEncoder
from rwkvsearch.indexer.room import Room

# A change within one tick of the file system's clock leaves no trace in the time of the last one.
_TICK_NS = 20_000_000
_COARSE_TICK_NS = 2_000_000_000


@dataclass(frozen=True)
class Limits:
    """Larger pictures are not decoded."""

    megapixels: float = MAX_MEGAPIXELS
    bytes: int = MAX_BYTES


@dataclass(frozen=True)
class Prepared:
    """A file after its thread: bad (`error`), or with the hash of its bytes.

    `content` is None when the catalog knows it all; `pixels` `[3, S, S]` when it has to be encoded.
    `beside` is what the texts beside the file say, `faults` what is wrong with those.
    """

    found: Found
    content_hash: str = ""
    content: Content | None = None
    pixels: NDArray[np.float32] | None = None
    beside: Metadata = Metadata()
    faults: tuple[tuple[Path, str], ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Preparation:
    """How files are prepared for a library and an encoder, by so many threads at once.

    `known` tells what the library has of a content, by its hash; `room` is the memory that all
    threads together take for files and decoded pictures.
    """

    known: Callable[[str], KnownContent | None]
    encoder: ImageEncoder
    limits: Limits
    clock: Clock
    threads: int
    room: Room

    def __call__(self, found: Found) -> Prepared:
        """Read a file; whatever is wrong with it is in the result."""
        try:
            with self.room.claim() as take:
                return self._read(found, take)
        except ImageError as error:
            return Prepared(found, error=error.reason)
        except OSError as error:
            return Prepared(found, error=system_reason(error))
        except MemoryError:
            return Prepared(found, error="unreadable: not enough memory")

    def _read(self, found: Found, take: Callable[[int], None]) -> Prepared:
        found, content = self._content(found, take)
        with self._time("hash"):
            content_hash = hashlib.sha256(content.getbuffer()).hexdigest()
            known = self.known(content_hash)
        with self._time("read"):
            beside, faults = read_beside(found)
        prepared = Prepared(found, content_hash, beside=beside, faults=faults)
        if known is not None and known.described and known.embedded:
            return prepared
        encode = known is None or not known.embedded
        return self._decode(prepared, content, take, encode=encode)

    def _content(self, found: Found, take: Callable[[int], None]) -> tuple[Found, io.BytesIO]:
        """The bytes of a file, and the file with the stat that belongs to them."""
        if found.shard is not None:
            self._check_size(found, found.stat)
        with self._time("read"), found.open() as stream:
            listed = found.shard is not None or is_remote(found.path)
            stat = found.stat if listed else Stat.of(os.fstat(stream.fileno()))
            # Hashed and decoded are the same bytes, whatever happens to the file meanwhile.
            self._check_size(found, stat)
            take(stat.size)
            content = NamedBytes(stream.read(), str(found.path))
        if len(content.getbuffer()) != stat.size:
            raise ImageError(str(found.path), "truncated file" if found.shard else _CHANGED)
        if found.shard is None:
            found = replace(found, stat=_settled(stat, time.time_ns()))
        return found, content

    def _decode(
        self, prepared: Prepared, content: io.BytesIO, take: Callable[[int], None], *, encode: bool
    ) -> Prepared:
        with self._time("decode"):
            picture = read_picture(
                content,
                min_side=self.encoder.image_size,
                max_megapixels=self.limits.megapixels,
                max_bytes=self.limits.bytes,
                before_decoding=take,
            )
        with self._time("preprocess"):
            described = Content(
                picture.width,
                picture.height,
                picture.format,
                picture.frames,
                perceptual_hash(picture.image),
                picture.metadata,
            )
            try:
                pixels = self.encoder.preprocess(picture.image) if encode else None
            # One odd picture, say 1 x 20,000 pixels, must not end the run for all others.
            except Exception as error:
                why = " ".join(str(error).split())[:80]
                path = str(prepared.found.path)
                raise ImageError(path, f"cannot be preprocessed: {why}") from error
        return replace(prepared, content=described, pixels=pixels)

    def _time(self, stage: Work) -> AbstractContextManager[None]:
        return self.clock.time(stage, self.threads)

    def _check_size(self, found: Found, stat: Stat) -> None:
        if stat.size > self.limits.bytes:
            megabytes, limit = stat.size >> 20, self.limits.bytes >> 20
            reason = f"too large: {megabytes} megabytes (limit {limit}, raise with --max-megabytes)"
            raise ImageError(str(found.path), reason)


_CHANGED = "it changed while it was read"


def read_beside(found: Found) -> tuple[Metadata, tuple[tuple[Path, str], ...]]:
    """What the texts beside a picture say, and what is wrong with those that say nothing."""
    said, faults = list(found.said), []
    for path in found.sidecars:
        try:
            said.append(read_sidecar(path))
        except DataError as error:
            faults.append((path, str(error).removeprefix(f"{path}: ")))
        except OSError as error:
            faults.append((path, system_reason(error)))
    return merge(*said), tuple(faults)


def _settled(stat: Stat, now: int) -> Stat:
    """The stat to remember: none that a change in the same tick would leave as it is."""
    coarse = stat.mtime_ns % 1_000_000_000 == 0  # FAT counts in steps of two seconds
    age = now - stat.mtime_ns
    unsettled = 0 <= age < (_COARSE_TICK_NS if coarse else _TICK_NS)
    return stat._replace(mtime_ns=-1) if unsettled else stat
