"""The few expressions that SQLite and PostgreSQL write in another way, each under one name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Insert,
    LargeBinary,
    String,
    Table,
    bindparam,
    func,
    insert,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import literal
from sqlalchemy.sql.functions import FunctionElement

from rwkvsearch.indexer.tables import POSTGRESQL


def is_postgresql(session: Session) -> bool:
    """Whether the session is one of a PostgreSQL database."""
    return session.get_bind().dialect.name == POSTGRESQL


def insert_new(session: Session, table: Any) -> Insert:
    """An INSERT that passes over rows which another writer has entered before."""
    if is_postgresql(session):
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table).on_conflict_do_nothing()
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table).on_conflict_do_nothing()


def insert_many(session: Session, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns, none of which is there yet: many, and quickly."""
    if rows and is_postgresql(session):
        from rwkvsearch.indexer.team.bulk import copy_in

        copy_in(session, table, rows)
    elif rows:
        session.execute(insert(table), rows)


def enter_new(session: Session, table: Any, key: str, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that are numbered as they come, but for those whose `key` is there already.

    On PostgreSQL they are entered in the order of `key`, so that no two writers of the same rows
    wait for each other in a circle.
    """
    if rows and is_postgresql(session):
        sequence = func.pg_get_serial_sequence(table.__tablename__, "id")
        numbers = select(func.nextval(sequence)).select_from(func.generate_series(1, len(rows)))
        ids = sorted(session.scalars(numbers))
        numbered = [row | {"id": number} for row, number in zip(rows, ids, strict=True)]
        rows = sorted(numbered, key=lambda row: str(row[key]))
    if rows:
        session.execute(insert_new(session, table), rows)


class _Condition(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True

    def self_group(self, against: object = None) -> _Condition:
        """Itself: `= 1` after it would keep SQLite from using an index."""
        return self


class _Among(_Condition):
    """The arguments are the column and the parameter."""

    inherit_cache = True


def among(column: Any, name: str, ids: str | None = None) -> ColumnElement[bool]:
    """Whether an integer column is in a list given as JSON, by the parameter `name` or as `ids`.

    One text for any number of ids, so that the statement is compiled once.
    """
    value = bindparam(name, type_=String) if ids is None else bindparam(name, ids, String)
    return _Among(column, value)


class _Gathered(FunctionElement[str]):
    type = String()
    inherit_cache = True


def gathered(column: Any) -> ColumnElement[str]:
    """All values of an integer column as one JSON array: ten times faster than a row each."""
    return _Gathered(column)


class _Fits(_Condition):
    """The arguments are the pattern and the parts of the path."""

    inherit_cache = True


def fits_glob(parts: Sequence[Any], pattern: bytes) -> ColumnElement[bool]:
    """Whether `/path/`, or `root/path/` if there are two parts, fits a pattern of `globs`."""
    return _Fits(literal(pattern, LargeBinary), literal(_as_like(pattern), LargeBinary), *parts)


@compiles(_Among, "sqlite")
def _among_sqlite(element: Any, compiler: SQLCompiler, **kw: Any) -> str:
    column, value = (compiler.process(part, **kw) for part in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({value}))"


@compiles(_Among, POSTGRESQL)
def _among_postgresql(element: Any, compiler: SQLCompiler, **kw: Any) -> str:
    column, value = (compiler.process(part, **kw) for part in element.clauses)
    ids = f"unnest(CAST(translate({value}, '[]', '{{}}') AS bigint[]))"
    return f"{column} IN (SELECT {ids})"


@compiles(_Gathered, "sqlite")
def _gathered_sqlite(element: Any, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_group_array({compiler.process(element.clauses, **kw)})"


@compiles(_Gathered, POSTGRESQL)
def _gathered_postgresql(element: Any, compiler: SQLCompiler, **kw: Any) -> str:
    values = f"array_agg({compiler.process(element.clauses, **kw)})"
    return f"coalesce(CAST(array_to_json({values}) AS text), '[]')"


@compiles(_Fits, "sqlite")
def _fits_sqlite(element: Any, compiler: SQLCompiler, **kw: Any) -> str:
    glob, _, *parts = element.clauses
    *root, path = (f"CAST({compiler.process(part, **kw)} AS TEXT)" for part in parts)
    whole = "".join(f"rtrim({part}, '/') || " for part in root) + f"'/' || {path} || '/'"
    return f"({whole}) GLOB CAST({compiler.process(glob, **kw)} AS TEXT)"


@compiles(_Fits, POSTGRESQL)
def _fits_postgresql(element: Any, compiler: SQLCompiler, **kw: Any) -> str:
    _, like, *parts = element.clauses
    *root, path = (compiler.process(part, **kw) for part in parts)
    slash = "CAST('/' AS bytea)"
    whole = "".join(f"rtrim({part}, {slash}) || " for part in root) + f"{slash} || {path}"
    return f"({whole} || {slash}) LIKE {compiler.process(like, **kw)}"


def _as_like(glob: bytes) -> bytes:
    """The pattern as LIKE writes it: a class is one of one character, as `globs` makes them."""

    def part(found: re.Match[bytes]) -> bytes:
        one, single = found[0], found[1]
        if single is None and one in (b"*", b"?"):
            return b"%" if one == b"*" else b"_"
        plain = single or one
        return b"\\" + plain if plain in (b"%", b"_", b"\\") else plain

    return re.sub(rb"\[(.)\]|.", part, glob, flags=re.DOTALL)
