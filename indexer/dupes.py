"""Groups of files that show the same picture: copies of one content, and near duplicates.

Near are pictures whose perceptual hashes and embeddings both agree. Either alone is not enough: an
embedding calls two pictures of one scene alike, and a hash two pictures of one layout.
`docs/library.md` has the figures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from rwkvsearch.data.perceptual import hamming
from rwkvsearch.indexer.blocks import Halves, Ids, image_ids, newest_embedding
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.near_hashes import near_pairs
from rwkvsearch.indexer.sources import resolve
from rwkvsearch.indexer.tables import FileRow, ImageRow, RootRow

MIN_SCORE = 0.4
MAX_DISTANCE = 10
_ROWS = 1024  # embeddings compared with others at a time

Pair = tuple[int, int]


@dataclass(frozen=True)
class Copy:
    """A file: `width` and `height` of its picture in pixels, its size in bytes.

    `score` and `distance` (bits) compare its picture with that of the first of its group; `score`
    is None where the content is the same.
    """

    path: Path
    image_id: int
    width: int
    height: int
    bytes: int
    mtime_ns: int
    score: float | None = None
    distance: int = 0


@dataclass(frozen=True)
class Group:
    """Files that show the same picture, the best first: the most pixels, then the oldest."""

    copies: tuple[Copy, ...]

    @property
    def exact(self) -> bool:
        """Whether all have the same content."""
        return len({copy.image_id for copy in self.copies}) == 1

    @property
    def spare_bytes(self) -> int:
        """The size of all but the first."""
        return sum(copy.bytes for copy in self.copies[1:])


@dataclass(frozen=True)
class Duplicates:
    """The groups, those that take most space first, out of `files` in `images` contents.

    `unhashed` pictures have no perceptual hash or no embedding yet: only copies of them are known.
    """

    groups: list[Group]
    files: int
    images: int
    unhashed: int


def find_duplicates(
    library: Library,
    *,
    under: Path | None = None,
    exact_only: bool = False,
    min_score: float = MIN_SCORE,
    max_distance: int = MAX_DISTANCE,
) -> Duplicates:
    """Group the files that are there, or those at and below `under`.

    Near duplicates are joined pair by pair, so the first and the last of a long row may differ more
    than the limits say. Memory: the hashes, and the embeddings of pictures with a near hash.
    """
    files, hashes = _read(library, under)
    joined = _Joined()
    unhashed = 0
    compared = _Compared(library, hashes)
    if not exact_only:
        unhashed = len(files) - len(compared.known)
        for one, other in compared.pairs(max_distance, min_score):
            joined.join(one, other)
    together: dict[int, list[int]] = defaultdict(list)
    for image_id in files:
        together[joined.first(image_id)].append(image_id)
    groups = [
        _group([copy for image_id in ids for copy in files[image_id]], compared)
        for ids in together.values()
        if len(ids) > 1 or len(files[ids[0]]) > 1
    ]
    groups.sort(key=lambda group: (-group.spare_bytes, group.copies[0].path))
    return Duplicates(groups, sum(map(len, files.values())), len(files), unhashed)


def _read(library: Library, under: Path | None) -> tuple[dict[int, list[Copy]], dict[int, int]]:
    """The files that are there and the perceptual hashes, by image id."""
    columns = (
        *(RootRow.path, FileRow.path, FileRow.size, FileRow.mtime_ns),
        *(ImageRow.id, ImageRow.width, ImageRow.height, ImageRow.perceptual_hash),
    )
    row = (
        select(*columns)
        .select_from(FileRow)
        .join(ImageRow, ImageRow.id == FileRow.image_id)
        .join(RootRow, RootRow.id == FileRow.root_id)
        .where(FileRow.gone_at.is_(None))
    )
    folder = resolve(under) if under else None
    files: dict[int, list[Copy]] = defaultdict(list)
    hashes: dict[int, int] = {}
    with library.read() as session:
        for root, path, size, mtime_ns, image_id, width, height, phash in session.execute(row):
            copy = Copy(root / path, image_id, width, height, size, mtime_ns)
            if folder is None or copy.path.is_relative_to(folder):
                files[image_id].append(copy)
                if phash is not None:
                    hashes[image_id] = phash
    return dict(files), hashes


class _Compared:
    """Pictures by hash and embedding: `known` are the ids, ascending, of those that have both."""

    def __init__(self, library: Library, hashes: dict[int, int]) -> None:
        models = library.models()
        self.library = library
        self.model = max(models, key=lambda model: model.embeddings) if models else None
        ids = np.sort(np.fromiter(hashes, np.int64, len(hashes)))
        if self.model is None:
            ids = ids[:0]
        else:
            with library.read() as session:
                newest = newest_embedding(session, self.model)
                ids = ids[np.isin(ids, image_ids(session, self.model, newest))]
        self.known = ids
        self.hashes = np.array([hashes[image_id] for image_id in ids.tolist()], np.int64)

    def pairs(self, max_distance: int, min_score: float) -> Iterator[Pair]:
        """Ids of two pictures that belong together, few of those that follow from others."""
        distinct, place, number = np.unique(self.hashes, return_inverse=True, return_counts=True)
        order = np.argsort(place, kind="stable")
        holders = np.split(order, np.cumsum(number)[:-1]) if len(order) else []
        near = near_pairs(distinct, max_distance)
        alone = np.flatnonzero(number > 1)
        wanted = np.unique(np.concatenate([near.ravel(), alone]))
        chosen = [at for key in wanted.tolist() for at in holders[key].tolist()]
        if not chosen:
            return
        ids, embeddings = self.embeddings(self.known[np.sort(chosen)])
        for one, other in [*((key, key) for key in alone.tolist()), *near.tolist()]:
            left, right = self.known[holders[one]], self.known[holders[other]]
            yield from _alike(ids, embeddings, left, right, min_score)

    def embeddings(self, images: Ids) -> tuple[Ids, Halves]:
        """Ids, ascending, and embeddings of pictures that have one."""
        if self.model is None or not len(images):
            return np.empty(0, np.int64), np.empty((0, 0), np.float16)
        return self.library.embeddings_of(self.model, images.tolist())

    def distance(self, one: int, other: int) -> int:
        """In how many bits the hashes of two known pictures differ."""
        first, second = np.searchsorted(self.known, [one, other])
        return int(hamming(int(self.hashes[first]), int(self.hashes[second])))


def _alike(ids: Ids, embeddings: Halves, left: Ids, right: Ids, min_score: float) -> Iterator[Pair]:
    """Pairs that join the pictures of `left` and `right` whose score is high enough.

    The two are the same, or have none in common.
    """
    columns = np.searchsorted(ids, right)
    same = left[0] == right[0]
    for start in range(0, len(left), _ROWS):
        rows = np.searchsorted(ids, left[start : start + _ROWS])
        for begin in range(start if same else 0, len(right), _ROWS):
            part = columns[begin : begin + _ROWS]
            scores = _scores(embeddings[rows], embeddings[part])
            for at, to in _joining(scores >= min_score):
                if rows[at] != part[to]:
                    yield int(ids[rows[at]]), int(ids[part[to]])


def _joining(near: NDArray[np.bool_]) -> Iterator[Pair]:
    """Pairs of a row and a column that join the same ones as all near pairs `[R, C]` would.

    They are fewer than rows and columns together.
    """
    rows: NDArray[np.bool_] = np.any(near, axis=1)  # those not reached yet
    columns: NDArray[np.bool_] = np.any(near, axis=0)
    for first in np.flatnonzero(rows).tolist():
        if not rows[first]:
            continue
        rows[first] = False
        anchor = int(near[first].argmax())
        edge = np.array([first])
        while len(edge):
            reached = np.flatnonzero(near[edge].any(axis=0) & columns)
            columns[reached] = False
            yield from ((first, column) for column in reached.tolist())
            edge = np.flatnonzero(near[:, reached].any(axis=1) & rows)
            rows[edge] = False
            yield from ((row, anchor) for row in edge.tolist())


def _scores(one: Halves, other: Halves) -> NDArray[np.float32]:
    left, right = one.astype(np.float32), other.astype(np.float32)
    products: NDArray[np.float32] = left @ right.T
    lengths = np.linalg.norm(left, axis=1)[:, None] * np.linalg.norm(right, axis=1)
    scores: NDArray[np.float32] = products / lengths
    return scores


def _group(copies: list[Copy], compared: _Compared) -> Group:
    """The best first, the others compared with it."""
    never = 1 << 63  # the time of a file that is still to be read again
    copies.sort(
        key=lambda c: (-c.width * c.height, c.mtime_ns if c.mtime_ns >= 0 else never, c.path)
    )
    best = copies[0].image_id
    others = sorted({copy.image_id for copy in copies} - {best})
    if not others:
        return Group(tuple(copies))
    ids, embeddings = compared.embeddings(np.array(sorted([best, *others]), np.int64))
    first = int(np.searchsorted(ids, best))
    scores = dict(
        zip(ids.tolist(), _scores(embeddings, embeddings[first : first + 1])[:, 0], strict=True)
    )
    return Group(tuple(_compare(copy, best, scores, compared) for copy in copies))


def _compare(copy: Copy, best: int, scores: dict[int, float], compared: _Compared) -> Copy:
    if copy.image_id == best:
        return copy
    distance = compared.distance(best, copy.image_id)
    return replace(copy, score=float(scores[copy.image_id]), distance=distance)


class _Joined:
    """Sets of ids that grow together."""

    def __init__(self) -> None:
        self._to: dict[int, int] = {}

    def first(self, one: int) -> int:
        """What stands for the set of `one`."""
        path = []
        while (to := self._to.get(one, one)) != one:
            path.append(one)
            one = to
        self._to.update(dict.fromkeys(path, one))
        return one

    def join(self, one: int, other: int) -> None:
        """Make one set of the two."""
        first, second = sorted((self.first(one), self.first(other)))
        if first != second:
            self._to[second] = first
