"""Small pictures of a library's images: made on demand or ahead, kept in its `thumbs/`.

WebP of quality 80 by method 2: on photographs of 320 pixels a sixth smaller than by method 0 for
two fifths more time; method 4 takes more than twice as long for 3 % less.
"""

from __future__ import annotations

import io
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Lock

from PIL import Image
from sqlalchemy import exists, select

from rwkvsearch.data.errors import LibraryError, RwkvSearchError
from rwkvsearch.data.images import read_picture
from rwkvsearch.indexer.contents import LiveImage, live_image, open_content
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.pipeline import usable_cores
from rwkvsearch.indexer.room import Room, default_room
from rwkvsearch.indexer.tables import FileRow, ImageRow
from rwkvsearch.indexer.thumb_files import SIZES, ThumbFiles

_QUALITY, _METHOD = 80, 2
_IN_MEMORY = 64 << 20  # bytes
_ROUND = 256  # pictures, between which a run can be stopped

Name = tuple[str, int]
"""The hash of the content, the longest side in pixels."""


@dataclass
class Warmed:
    """What making thumbnails ahead did: how many, and why some could not be made."""

    made: int = 0
    failed: list[str] = field(default_factory=list)


class Thumbnails:
    """The thumbnails of a library; safe to share among threads.

    Where `thumbs/` cannot be written, or the disk is full, the last ones stay in memory.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._files = ThumbFiles(library.path)
        self._memory = _Memory(_IN_MEMORY)
        self._turns = BoundedSemaphore(usable_cores())
        self._room = Room(default_room())
        self._making: dict[Name, Future[bytes]] = {}
        self._lock = Lock()
        self.made = 0
        """How many were made so far, on demand or ahead."""

    def get(self, content_hash: str, size: int = SIZES[0]) -> bytes:
        """The thumbnail as WebP, its longest side `size` pixels, or the picture's if that is less.

        Raises:
            LibraryError: no live file has this content, or none can be read and nothing is kept.
            ImageError: the picture cannot be decoded here, say without the extra it was read with.
        """
        if size not in SIZES:
            raise LibraryError(f"no thumbnails of {size} pixels, only of {SIZES[0]} and {SIZES[1]}")
        image = live_image(self._library, content_hash)
        name = content_hash, size
        return self._kept(name) or self._made_once(name, image)

    def lacking(self, size: int = SIZES[0]) -> list[str]:
        """The contents of live images without a thumbnail on the disk, in the order of the ids."""
        live = exists().where(FileRow.image_id == ImageRow.id, FileRow.gone_at.is_(None))
        with self._library.read() as session:
            known = session.scalars(
                select(ImageRow.content_hash).where(live).order_by(ImageRow.id)
            ).all()
        return self._files.lacking(known, size)

    def warm(
        self,
        contents: Sequence[str] | None = None,
        size: int = SIZES[0],
        *,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Warmed:
        """Make thumbnails ahead, of all that are `lacking` unless `contents` names some.

        A picture that cannot be read is counted and left out. What is made is kept, so a run that
        was stopped goes on where it was. `progress` is told how many were done since the last call.

        Raises:
            LibraryError: they cannot be written.
        """
        todo = self.lacking(size) if contents is None else contents
        done = Warmed()
        pool = ThreadPoolExecutor(threads or usable_cores())
        try:
            for start in range(0, len(todo), _ROUND):
                part = todo[start : start + _ROUND]
                for fault in pool.map(lambda one: self._written(one, size), part):
                    done.made += fault is None
                    done.failed += [fault] if fault else []
                    if progress is not None:
                        progress(1)
        finally:
            pool.shutdown(cancel_futures=True)
        return done

    def _kept(self, name: Name) -> bytes | None:
        return self._files.read(*name) or self._memory.get(name)

    def _made_once(self, name: Name, image: LiveImage) -> bytes:
        """Make it, or wait for the thread that does."""
        with self._lock:
            making = self._making.get(name)
            mine = making is None
            if making is None:
                making = self._making[name] = Future()
        if not mine:
            return making.result()
        try:
            # Another thread may have come to its end between the look and the lock.
            data = self._kept(name) or self._keep(name, self._make(image, name[1]))
            making.set_result(data)
            return data
        except BaseException as error:
            making.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._making[name]

    def _make(self, image: LiveImage, size: int) -> bytes:
        with self._turns, self._room.claim() as take, open_content(self._library, image) as stream:
            # No limits: those under which it was indexed have let it in.
            picture = read_picture(
                stream,
                min_side=_decoded(image, size),
                max_megapixels=math.inf,
                max_bytes=sys.maxsize,
                before_decoding=take,
            )
            data = as_webp(picture.image, size)
        with self._lock:
            self.made += 1
        return data

    def _keep(self, name: Name, data: bytes) -> bytes:
        try:
            self._files.write(*name, data)
        except OSError:
            self._memory.put(name, data)
        return data

    def _written(self, content_hash: str, size: int) -> str | None:
        """Make one for the disk; what is wrong with the picture, if anything."""
        try:
            data = self._make(live_image(self._library, content_hash), size)
        except RwkvSearchError as error:
            return str(error)
        try:
            self._files.write(content_hash, size, data)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise LibraryError(
                f"{self._files.folder}: thumbnails cannot be written: {reason}; those that were "
                "made are kept"
            ) from error
        return None


class _Memory:
    """Thumbnails up to so many bytes; the one that was not asked for longest goes first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._items: OrderedDict[Name, bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, name: Name) -> bytes | None:
        with self._lock:
            if name in self._items:
                self._items.move_to_end(name)
            return self._items.get(name)

    def put(self, name: Name, data: bytes) -> None:
        with self._lock:
            self._bytes += len(data) - len(self._items.pop(name, b""))
            self._items[name] = data
            while self._bytes > self._limit:
                self._bytes -= len(self._items.popitem(last=False)[1])


def as_webp(image: Image.Image, size: int) -> bytes:
    """Shrink `image` to `size` pixels at most and keep nothing of what its file said."""
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    image.info.clear()
    data = io.BytesIO()
    image.save(data, "WEBP", quality=_QUALITY, method=_METHOD)
    return data.getvalue()


def _decoded(image: LiveImage, size: int) -> int:
    """The `min_side` that decodes no more pixels than the thumbnail needs."""
    short, long = sorted((image.width, image.height))
    return max(1, math.ceil(size * short / long / 2))
