"""Find the images that pass filters: each part by one statement, the cheapest first.

Of few images a part is asked one by one. Of more it is asked as a whole, which SQLite answers from
an index or in one pass, and numpy cuts the sets. Ids come as one JSON text, ten times faster than
as rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Select,
    and_,
    func,
    not_,
    or_,
    select,
    text,
    type_coerce,
)
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import QueryError
from rwkvsearch.data.remote import absolute, shown
from rwkvsearch.indexer.blocks import Ids, distinct, is_in
from rwkvsearch.indexer.dialects import among, fits_glob, gathered
from rwkvsearch.indexer.filters import Box, Filters
from rwkvsearch.indexer.globs import Globs
from rwkvsearch.indexer.tables import CaptionRow, FileRow, ImageRow, RootRow, TagRow
from rwkvsearch.indexer.texts import IS_SAID

FEW = 8
"""One in so many images is few: to look up one takes that much longer than to pass over it."""

Condition = ColumnElement[bool]
Part = tuple[ColumnElement[Any], list[Condition]]

# Tables and no entities, so that no objects are made.
_IMAGES, _FILES, _ROOTS = (row.__table__.c for row in (ImageRow, FileRow, RootRow))
_IMAGE_OF_CAPTION, _IMAGE_OF_TAG = CaptionRow.__table__.c.image_id, TagRow.__table__.c.image_id
_NUMBER = select(func.max(_IMAGES.id))
_IS_THERE = (_FILES.gone_at.is_(None), _FILES.image_id.is_not(None))
_OF_ROOT = _FILES.root_id == _ROOTS.id


def passing(session: Session, filters: Filters) -> Ids:
    """As `filters.images_passing`."""
    ids: Ids | None = None
    for column, conditions in _of_images(session, filters):
        ids = _narrowed(session, ids, column, conditions)
    ids = _with_file(session, ids, filters)
    if filters.captioned is not None:
        told = is_in(ids, _narrowed(session, ids, _IMAGE_OF_CAPTION, [IS_SAID]))
        ids = ids[told if filters.captioned else ~told]
    return ids


def _of_images(session: Session, filters: Filters) -> Iterator[Part]:
    """What is asked of the images themselves, what has an index first."""
    taken = [
        *([_IMAGES.taken_at >= filters.taken_from] if filters.taken_from else []),
        *([_IMAGES.taken_at < filters.taken_to] if filters.taken_to else []),
    ]
    if taken:
        yield _IMAGES.id, taken
    if filters.cameras:
        names = [name.casefold().strip() for name in filters.cameras]
        known = _distinct(session, "images", "camera")
        asked = [one for one in known if any(name in one.casefold() for name in names)]
        yield _IMAGES.id, [_IMAGES.camera.in_(asked)]
    for tag in filters.tags:
        known = _distinct(session, "tags", "label")
        asked = [one for one in known if one.casefold() == tag.casefold().strip()]
        yield _IMAGE_OF_TAG, [TagRow.__table__.c.label.in_(asked)]
    if filters.box:
        yield _IMAGES.id, _in_box(filters.box)
    if seen := _seen(filters):
        yield _IMAGES.id, seen


def _seen(filters: Filters) -> list[Condition]:
    """Of the picture itself."""
    width, height = _IMAGES.width, _IMAGES.height
    turned = {"landscape": width > height, "portrait": width < height, "square": width == height}
    return [
        *([width >= filters.min_width] if filters.min_width else []),
        *([height >= filters.min_height] if filters.min_height else []),
        *([width * height >= filters.min_megapixels * 1e6] if filters.min_megapixels else []),
        *([turned[filters.orientation]] if filters.orientation else []),
        *([_IMAGES.format.in_(filters.format_names)] if filters.formats else []),
    ]


def _in_box(box: Box) -> list[Condition]:
    east_of, west_of = _IMAGES.longitude >= box.west, _IMAGES.longitude <= box.east
    inside = and_(east_of, west_of) if box.west <= box.east else or_(east_of, west_of)
    if 180 in (abs(box.west), abs(box.east)):
        inside = or_(inside, func.abs(_IMAGES.longitude) == 180)  # one meridian with two names
    return [_IMAGES.latitude.between(box.south, box.north), inside]


def _with_file(session: Session, ids: Ids | None, filters: Filters) -> Ids:
    """Of `ids` those with a live file that every folder and pattern is asked of."""
    conditions: list[Condition] = [*_IS_THERE]
    if filters.folders:
        conditions.append(_below(session, filters.folders))
    if not filters.globs:
        return _narrowed(session, ids, _FILES.image_id, conditions)
    globs = Globs(filters.globs)
    fits = or_(
        *(
            fits_glob(parts, glob.pattern)
            for glob in globs.sql
            for parts in ([_FILES.path], *([[_ROOTS.path, _FILES.path]] if glob.absolute else []))
        )
    )
    conditions.append(_OF_ROOT)
    if globs.exact or not globs.leave_out:
        conditions.append(not_(fits) if globs.leave_out else fits)
    if globs.exact:
        return _narrowed(session, ids, _FILES.image_id, conditions)
    places = [type_coerce(column, LargeBinary) for column in (_ROOTS.path, _FILES.path)]
    rows = _run(session, select(_FILES.image_id, *places).where(*conditions), _FILES.image_id, ids)
    decode = os.fsdecode
    fitting = [one for one, root, path in rows if globs.passes(decode(root), decode(path))]
    return _cut(np.array(fitting, np.int64), ids)


def _below(session: Session, folders: Sequence[Path]) -> Condition:
    """Whether a file lies at or below one of the folders."""
    rows = session.connection().execute(select(_ROOTS.id, _ROOTS.path)).all()
    parts: list[Condition] = []
    for folder in map(absolute, folders):
        # As written for what was found behind a link, as resolved for the rest, as roots are.
        places = {Path(os.path.normpath(Path.cwd() / folder)), folder.resolve()}
        part = [one for place in places for one in _at(rows, place)]
        known = select(select(_FILES.id).where(or_(*part)).exists()) if part else None
        if known is None or not session.connection().scalar(known):
            raise QueryError(
                f"{shown(folder)}: nothing below it was indexed; `rwkvsearch stats` lists what was"
            )
        parts += part
    return or_(*parts)


def _at(roots: Sequence[Any], place: Path) -> Iterator[Condition]:
    inside = [key for key, path in roots if path.is_relative_to(place)]
    if inside:
        yield among(_FILES.root_id, "inside", json.dumps(inside))
    for key, path in roots:
        if place != path and place.is_relative_to(path):
            name = os.fsencode(place.relative_to(path))
            first, last = name + b"/", name + bytes([ord("/") + 1])
            yield and_(_FILES.root_id == key, _FILES.path == name)
            yield and_(_FILES.root_id == key, _FILES.path >= first, _FILES.path < last)


def _narrowed(
    session: Session, ids: Ids | None, column: ColumnElement[Any], conditions: Sequence[Condition]
) -> Ids:
    """Of `ids`, of all if None, those that a row with `conditions` has in `column`."""
    together = select(gathered(column)).where(*conditions)
    ((found,),) = _run(session, together, column, ids)
    return _cut(np.array(json.loads(found), np.int64), ids)


def _run(
    session: Session, asked: Select[Any], column: ColumnElement[Any], ids: Ids | None
) -> Sequence[Any]:
    """The rows, of `ids` only where those are few."""
    connection = session.connection()
    if ids is None or FEW * len(ids) > (connection.scalar(_NUMBER) or 0):
        return connection.execute(asked).all()
    few = {"among": json.dumps(ids.tolist())}
    return connection.execute(asked.where(among(column, "among")), few).all()


def _cut(found: Ids, ids: Ids | None) -> Ids:
    found = distinct(found)
    return found if ids is None else found[is_in(found, ids)]


def _distinct(session: Session, table: str, column: str) -> list[str]:
    """The values of an indexed column, each found from the one before: the rows are many."""
    following = text(
        f"WITH RECURSIVE seen(value) AS (SELECT min({column}) FROM {table} UNION ALL"
        f" SELECT (SELECT min({column}) FROM {table} WHERE {column} > value) FROM seen"
        " WHERE value IS NOT NULL) SELECT value FROM seen WHERE value IS NOT NULL"
    )
    return [*session.connection().scalars(following)]
