"""What the filters can be set to in a library, with the number of live images that each leaves.

Every part is one pass of SQLite, together under a second for 100,000 images: keep the answer for as
long as the library does not change.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import LargeBinary, case, func, select, type_coerce
from sqlalchemy.orm import Session

from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sources import LOOSE
from rwkvsearch.indexer.tables import CaptionRow, FileRow, ImageRow, RootRow
from rwkvsearch.indexer.tags import count_tags
from rwkvsearch.indexer.texts import IS_SAID

DEPTH, FOLDERS = 8, 300

_IMAGES, _FILES, _ROOTS = (row.__table__.c for row in (ImageRow, FileRow, RootRow))
_LIVE_FILE = (_FILES.image_id.is_not(None), _FILES.gone_at.is_(None))
_IS_LIVE = select(_FILES.id).where(_FILES.image_id == _IMAGES.id, _FILES.gone_at.is_(None)).exists()
_WIDTH, _HEIGHT = _IMAGES.width, _IMAGES.height
_TURNED = case((_WIDTH > _HEIGHT, "landscape"), (_WIDTH < _HEIGHT, "portrait"), else_="square")
_GROUPS = (
    select(
        _IMAGES.format,
        _IMAGES.camera,
        _TURNED,
        func.count(),
        func.count(_IMAGES.latitude + _IMAGES.longitude),
        func.min(_IMAGES.taken_at),
        func.max(_IMAGES.taken_at),
    )
    .where(_IS_LIVE)
    .group_by(_IMAGES.format, _IMAGES.camera, _TURNED)
)
_PATHS = select(_FILES.root_id, type_coerce(_FILES.path, LargeBinary), _FILES.image_id).where(
    *_LIVE_FILE
)


class Count(NamedTuple):
    """A value that a filter can have, and how many images it leaves."""

    value: str
    images: int


class Folder(NamedTuple):
    """A folder, or a shard or a folder in one, and how many images lie at any depth below it."""

    path: Path
    images: int


@dataclass(frozen=True)
class Facets:
    """The values of each filter, the most frequent first; they leave the images with a live file.

    `folders`: what was indexed, and what is up to `DEPTH` folders below that, the `FOLDERS` with
    most images; a folder is never without the one it lies in. `first_taken` and `last_taken` are
    `taken_at` of the earliest and the latest image. `captioned` have texts, `placed` a place.
    """

    images: int
    folders: tuple[Folder, ...]
    cameras: tuple[Count, ...]
    formats: tuple[Count, ...]
    orientations: tuple[Count, ...]
    tags: tuple[Count, ...]
    first_taken: str | None
    last_taken: str | None
    captioned: int
    placed: int


def facets_of(library: Library) -> Facets:
    """Count what is in the library now."""
    with library.read() as session:
        groups = session.connection().execute(_GROUPS).all()
        told = select(func.count(CaptionRow.image_id.distinct())).where(IS_SAID)
        captioned = session.scalar(told) or 0
        folders = _folders(session)
    number = [group[3] for group in groups]
    return Facets(
        images=sum(number),
        folders=tuple(folders),
        cameras=_counts((group[1], group[3]) for group in groups),
        formats=_counts((group[0], group[3]) for group in groups),
        orientations=_counts((group[2], group[3]) for group in groups),
        tags=tuple(Count(*tag) for tag in count_tags(library)),
        first_taken=min((group[5] for group in groups if group[5]), default=None),
        last_taken=max((group[6] for group in groups if group[6]), default=None),
        captioned=captioned,
        placed=sum(group[4] for group in groups),
    )


def _counts(values: Iterable[tuple[str | None, int]]) -> tuple[Count, ...]:
    found: Counter[str] = Counter()
    for value, images in values:
        if value is not None:
            found[value] += images
    return tuple(Count(*one) for one in sorted(found.items(), key=lambda one: (-one[1], one[0])))


def _folders(session: Session) -> list[Folder]:
    """The folders with most images; of equal ones the outer comes first, so none loses its own."""
    roots = {
        key: (os.fsencode(path), kind)
        for key, path, kind in session.execute(select(_ROOTS.id, _ROOTS.path, _ROOTS.kind))
    }
    inside: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for key, path, image_id in session.connection().execute(_PATHS).all():
        inside[key, path.rpartition(b"/")[0]].append(image_id)
    offered: set[bytes] = set()
    places: dict[bytes, list[int]] = defaultdict(list)
    for (key, name), images in inside.items():
        root, kind = roots[key]
        place = _joined(root, name)
        places[place] += images
        offered.update([place] if kind == LOOSE else _within(root, name))
    found = sorted(_below(places, offered).items(), key=lambda one: (-one[1], one[0]))
    return [Folder(Path(os.fsdecode(place)), images) for place, images in found[:FOLDERS]]


def _below(places: dict[bytes, list[int]], offered: set[bytes]) -> dict[bytes, int]:
    """How many different images lie below each of the folders that are offered."""
    seen = Counter(image_id for images in places.values() for image_id in images)
    copied = {image_id for image_id, files in seen.items() if files > 1}
    counts: Counter[bytes] = Counter()
    copies: dict[bytes, set[int]] = defaultdict(set)
    for place, images in places.items():
        again = copied.intersection(images) if copied else copied
        single = len(images) - sum(seen[image_id] > 1 for image_id in images)
        for outer in _outer(place):
            if outer in offered:
                counts[outer] += single
                copies[outer] |= again
    return {place: counts[place] + len(copies[place]) for place in offered}


def _within(root: bytes, name: bytes) -> Iterator[bytes]:
    """The root and the folders below it on the way to `name`, as far as they are offered."""
    yield root
    parts = name.split(b"/")[:DEPTH] if name else []
    for end in range(1, len(parts) + 1):
        yield _joined(root, b"/".join(parts[:end]))


def _outer(place: bytes) -> Iterator[bytes]:
    """The folder itself and all that it lies in."""
    while True:
        yield place
        if place in (b"/", b""):
            return
        place = place.rpartition(b"/")[0] or b"/"


def _joined(root: bytes, name: bytes) -> bytes:
    return root.rstrip(b"/") + b"/" + name if name else root
