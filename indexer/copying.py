"""A library as a copy of another one, wherever the two lie: every row under the number it had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Table as SqlTable
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.address import Place
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.dialects import insert_many, is_postgresql
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import ImageRow, RootRow, SettingRow, Table

_BLOCK = 2_000  # rows
_LEFT_BEHIND = {"generations"}  # the index of one place says nothing to another
_OWN_SETTINGS = ("schema", "ann")  # of the place, or of its index

Progress = Callable[[str, int, int], None]
"""Is told a table, how many of its rows are copied, and how many there are."""


def copy_library(source: Library, to: Place, progress: Progress | None = None) -> int:
    """Copy all rows into a library that is made for it, and build its index; the images.

    One transaction writes what one state of the source holds: stopped at any moment, it leaves an
    empty library, into which the same command copies again.

    Raises:
        LibraryError: a library with pictures is there, or it cannot be made or written.
    """
    say = progress or (lambda table, done, total: None)
    with Library.create(to) as target, target.writer(), source.read() as reading:
        with target.write() as writing:
            if writing.scalar(select(RootRow.id).limit(1)) is not None:
                raise LibraryError(f"{target.name} holds pictures already; name an empty place")
            copy_rows(reading, writing, say)
            images = writing.scalar(select(func.count(ImageRow.id))) or 0
        for model in target.models():
            say(f"index of {model.model_id}", 0, 0)
            publish(target, model)
    return images


def copy_rows(reading: Session, writing: Session, say: Progress) -> None:
    """Copy all that is not derived into tables that have no rows, under the numbers it had."""
    for table in Table.metadata.sorted_tables:
        if table.name not in _LEFT_BEHIND:
            _copy(reading, writing, table, say)


def _copy(reading: Session, writing: Session, table: SqlTable, say: Progress) -> None:
    total = reading.scalar(select(func.count()).select_from(table)) or 0
    done = 0
    for rows in _blocks(reading, table):
        insert_many(writing, table, rows)
        done += len(rows)
        say(table.name, done, total)
    if total and "id" in table.c and is_postgresql(writing):  # what comes next is numbered behind
        sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
        writing.execute(text(f"SELECT setval({sequence}, (SELECT max(id) FROM {table.name}))"))


def _blocks(session: Session, table: SqlTable) -> Iterator[list[dict[str, Any]]]:
    row = select(table).execution_options(yield_per=_BLOCK)
    if table is SettingRow.__table__:
        row = row.where(*(~table.c.name.like(f"{name}%") for name in _OWN_SETTINGS))
    for part in session.connection().execute(row).mappings().partitions():
        yield [dict(one) for one in part]
