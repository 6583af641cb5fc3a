"""The numbers of rows go on where they were, though the newest rows may be gone."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from rwkvsearch.indexer.dialects import is_postgresql
from rwkvsearch.indexer.tables import Table

_GROWING = [
    table
    for table in Table.metadata.sorted_tables
    if table.dialect_options["sqlite"]["autoincrement"]
]


def last_ids(session: Session) -> dict[str, int]:
    """The last id of each table whose ids only grow, whether its row is still there or not."""
    if not is_postgresql(session):
        rows = session.execute(text("SELECT name, seq FROM sqlite_sequence"))
        return {name: int(last) for name, last in rows if last}
    asked = text(
        "SELECT pg_sequence_last_value(CAST(pg_get_serial_sequence(:table, 'id') AS regclass))"
    )
    found = {table.name: session.scalar(asked, {"table": table.name}) for table in _GROWING}
    return {name: int(last) for name, last in found.items() if last}


def go_on_from(session: Session, last: Mapping[str, int]) -> None:
    """Let the next rows of those tables have ids beyond `last`, and beyond all that are there."""
    for table in _GROWING:
        highest = session.scalar(select(func.max(table.c.id))) or 0
        values = {"table": table.name, "last": max(highest, last.get(table.name, 0))}
        if is_postgresql(session):
            asked = (
                "SELECT setval(pg_get_serial_sequence(:table, 'id'), greatest(:last, 1), :last > 0)"
            )
            session.execute(text(asked), values)
            continue
        session.execute(text("DELETE FROM sqlite_sequence WHERE name = :table"), values)
        session.execute(text("INSERT INTO sqlite_sequence VALUES (:table, :last)"), values)
