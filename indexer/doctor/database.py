"""Checks of the catalog as a database: the pages of SQLite, references, rows that nobody needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations

from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint, select, text
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.dialects import is_postgresql
from rwkvsearch.indexer.doctor.findings import Finding, fault, note, ok, some
from rwkvsearch.indexer.doctor.salvage import salvage
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sources import SHARD
from rwkvsearch.indexer.tables import FileRow, RootRow, Table

Fix = Callable[[Library], None]
_KEY_KINDS = (PrimaryKeyConstraint, UniqueConstraint)

# What a row of a table cannot be without: with the other one gone, it says nothing any more.
_DELETED = ("captions", "text_embeddings", "embeddings", "generations", "tags", "votes", "files")

_OF_LOST_MODEL = (
    "(name LIKE 'ann%:%' OR name LIKE 'tags:%') AND NOT EXISTS"
    " (SELECT 1 FROM models WHERE settings.name LIKE '%:' || models.id)"
)
_ORPHANS = {
    "ann that was replaced": (
        "generations",
        "id NOT IN (SELECT max(id) FROM generations GROUP BY model)",
    ),
    "setting of a model that is not there": ("settings", _OF_LOST_MODEL),
}

# An edited picture leaves its old content behind, an edited caption its old text.
_KEPT = {
    "image": "NOT EXISTS (SELECT 1 FROM files WHERE files.image_id = images.id)",
    "text": "NOT EXISTS (SELECT 1 FROM captions WHERE captions.text_id = texts.id)",
}


@dataclass(frozen=True)
class _Key:
    """What no two rows of a table may share, and the references to it: (table, column)."""

    noun: str
    table: str
    columns: str
    references: tuple[tuple[str, str], ...] = ()


_KEYS = (
    _Key("root", "roots", "path", (("files", "root_id"),)),
    _Key(
        "image",
        "images",
        "content_hash",
        tuple((t, "image_id") for t in ("files", "captions", "embeddings", "tags", "votes")),
    ),
    _Key("file", "files", "root_id, path", (("captions", "file_id"),)),
    _Key("text", "texts", "text", (("captions", "text_id"), ("text_embeddings", "text_id"))),
    _Key("embedding", "embeddings", "image_id, model"),
    _Key("text embedding", "text_embeddings", "text_id, model"),
    _Key("caption", "captions", "image_id, file_id, text_id, source"),
    _Key("tag", "tags", "image_id, model, label"),
)


def check_pages(library: Library, *, full: bool) -> Iterator[Finding]:
    """Whether SQLite finds its own file sound; `full` compares every index with its table."""
    pragma = "integrity_check" if full else "quick_check"
    try:
        with library.read() as session:
            said = [str(line) for line in session.scalars(text(f"PRAGMA {pragma}(20)"))]
    except LibraryError as error:  # too damaged to be checked to the end
        said = [str(error)]
    if said == ["ok"]:
        yield ok("database", f"sound ({pragma})")
        return
    first = " ".join(said[0].split())[:100]
    more = f" and {len(said) - 1} more" if len(said) > 1 else ""
    yield fault(
        "database",
        f"damaged: {first}{more}",
        "every row that can be read is written into a sound database, the damaged one is kept as "
        "library.sqlite.damaged",
        salvage,
    )


def check_references(library: Library) -> Iterator[Finding]:
    """Whether every row that a row points to is there."""
    with library.read() as session:
        broken = session.execute(text("PRAGMA foreign_key_check")).all()
    if not broken:
        yield ok("references", "every row that is pointed to is there")
    for table in sorted({row[0] for row in broken}):
        number = len({row[1] for row in broken if row[0] == table})
        yield fault(
            "references",
            f"{some(number, 'row')} of {table} point to rows that are not there",
            "files are read again by the next `index`"
            if table == "files"
            else "dropped; what can be made again is made by the next `index`",
            _mend_references,
        )


def check_orphans(library: Library) -> Iterator[Finding]:
    """Rows that nothing leads to any more."""
    found = False
    for noun, (table, condition) in _ORPHANS.items():
        with library.read() as session:
            number = _count(session, table, condition)
        if number:
            found = True
            what, _, rest = noun.partition(" ")
            drop = _dropping(table, condition)
            yield fault("orphans", f"{some(number, what)} {rest}", "dropped", drop)
    for noun, condition in _KEPT.items():
        with library.read() as session:
            number = _count(session, noun + "s", condition)
        if number:
            what = f"{some(number, noun)} that no file has any more, kept in case one comes back"
            found = True
            yield note("orphans", what, "`rwkvsearch forget --gone` drops them")
    if not found:
        yield ok("orphans", "no row is left over")


def check_duplicates(library: Library) -> Iterator[Finding]:
    """Rows that are there twice; not by the indexes that should prevent it."""
    found = False
    for key in _KEYS:
        with library.read() as session:
            spare = _spare(session, key)
        if spare:
            found = True
            yield fault(
                "duplicates",
                f"{some(len(spare), key.noun)} twice in the catalog",
                "made one",
                _merging(key),
            )
    with library.read() as session:
        nested = _twice_by_path(session)
    if nested:
        yield fault(
            "duplicates",
            f"{some(len(nested), 'file')} below two roots",
            "kept below the outer one",
            _drop_nested,
        )
    if not found and not nested:
        yield ok("duplicates", "every row is there once")


def _mend_references(library: Library) -> None:
    with library.write() as session:
        session.execute(text("PRAGMA defer_foreign_keys = ON"))
        for table in _DELETED:
            rows = session.execute(text(f"PRAGMA foreign_key_check({table})")).all()
            lost = {row[1] for row in rows}
            if table == "files":
                roots = {row[1] for row in rows if row[2] == "roots"}
                _each(
                    session,
                    "UPDATE files SET image_id = NULL, mtime_ns = -1 WHERE id = :id",
                    lost - roots,
                )
                _each(session, "DELETE FROM captions WHERE file_id = :id", roots)
                lost = roots
            _each(session, f"DELETE FROM {table} WHERE rowid = :id", lost)


def _each(session: Session, statement: str, ids: Iterable[int]) -> None:
    values = [{"id": key} for key in sorted(ids)]
    if values:
        session.execute(text(statement), values)


def _count(session: Session, table: str, condition: str) -> int:
    return int(
        session.execute(text(f"SELECT count(*) FROM {table} WHERE {condition}")).scalar_one()
    )


def _dropping(table: str, condition: str) -> Fix:
    def fix(library: Library) -> None:
        with library.write() as session:
            session.execute(text(f"DELETE FROM {table} WHERE {condition}"))

    return fix


def _spare(session: Session, key: _Key) -> list[tuple[int, int]]:
    """(a row that is one too many, the row to keep)."""
    if is_postgresql(session):
        without_indexes(session)
    rows = session.execute(
        text(
            f"SELECT id, first FROM (SELECT id, min(id) OVER (PARTITION BY {key.columns}) AS first"
            f" FROM {key.table} {'' if is_postgresql(session) else 'NOT INDEXED'}) AS t"
            " WHERE id != first"
        )
    )
    return [(spare, kept) for spare, kept in rows]


def without_indexes(session: Session) -> None:
    """Let PostgreSQL read the rows themselves until the transaction ends."""
    for way in ("indexscan", "indexonlyscan", "bitmapscan"):
        session.execute(text(f"SET LOCAL enable_{way} = off"))


def _merging(key: _Key) -> Fix:
    def fix(library: Library) -> None:
        with library.write() as session:
            for spare, kept in _spare(session, key):
                both = {"spare": spare, "kept": kept}
                for table, column in key.references:
                    for others in _unique_with(table, column):
                        same = " AND ".join(f"k.{name} = {table}.{name}" for name in others)
                        known = f"SELECT 1 FROM {table} AS k WHERE k.{column} = :kept AND {same}"
                        drop = f"DELETE FROM {table} WHERE {column} = :spare AND EXISTS ({known})"
                        session.execute(text(drop), both)
                    repoint = f"UPDATE {table} SET {column} = :kept WHERE {column} = :spare"
                    session.execute(text(repoint), both)
                session.execute(text(f"DELETE FROM {key.table} WHERE id = :spare"), both)

    return fix


def _unique_with(table: str, column: str) -> list[list[str]]:
    """The other columns of every key of a table that `column` is a part of."""
    own = Table.metadata.tables[table]
    keys = [one for one in own.constraints if isinstance(one, _KEY_KINDS)]
    names = [[member.name for member in key.columns] for key in keys]
    return [[name for name in key if name != column] for key in names if column in key]


def _twice_by_path(session: Session) -> list[int]:
    """Files of an inner root that are files of an outer one, too."""
    roots = session.execute(select(RootRow.id, RootRow.path).where(RootRow.kind != SHARD)).all()
    twice: list[int] = []
    for (outer, top), (inner, path) in permutations(roots, 2):
        if path.is_relative_to(top):
            below = path.relative_to(top)
            of_outer = session.scalars(select(FileRow.path).where(FileRow.root_id == outer))
            known = {file for file in of_outer if file.is_relative_to(below)}
            of_inner = select(FileRow.id, FileRow.path).where(FileRow.root_id == inner)
            if known:
                rows = session.execute(of_inner)
                twice += [row_id for row_id, file in rows if below / file in known]
    return twice


def _drop_nested(library: Library) -> None:
    with library.write() as session:
        nested = _twice_by_path(session)
        _each(session, "DELETE FROM captions WHERE file_id = :id", nested)
        _each(session, "DELETE FROM files WHERE id = :id", nested)
