"""Make a library of a backup: verified first, there as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Engine, exists, select, text
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.address import Address, Place, folder_of
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.backup.file import (
    DATABASE,
    Backup,
    Manifest,
    Progress,
    open_backup,
    room_error,
    too_new,
)
from rwkvsearch.indexer.backup.last_ids import go_on_from
from rwkvsearch.indexer.catalog import open_catalog
from rwkvsearch.indexer.copying import copy_rows
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.migrations import SCHEMA_VERSION
from rwkvsearch.indexer.results import FOLDER
from rwkvsearch.indexer.tables import AlbumRow, RootRow

_STAGE = "restoring"


def check_backup(file: Path, progress: Progress) -> Manifest:
    """Read a backup to its end; what it says of itself.

    Raises:
        LibraryError: it is no backup, damaged, or of a newer version.
    """
    with open_backup(file) as backup:
        backup.verify(progress)
        return backup.manifest


def restore(file: Path, place: Place, progress: Progress) -> Manifest:
    """Make the library at `place`, where there must be none, or an empty one, of a backup.

    What is derived, such as the ann, is for the caller to build. Killed at any moment, there is no
    library, or the whole.

    Raises:
        LibraryError: there is one, the backup cannot be used, or there is no space.
    """
    home = folder_of(place)
    if isinstance(place, Address):
        _look_at(place)
    else:
        _check_free(home)
    with open_backup(file) as backup:
        _check_schema(backup)
        try:
            with _stage(home) as stage:
                _unpack(backup, stage, progress)
                _check_rows(backup, stage / DATABASE)
                if isinstance(place, Address):
                    _enter(stage / DATABASE, place, backup.manifest, progress)
                _put_in_place(stage, home, database=not isinstance(place, Address))
        except OSError as error:
            raise room_error(home, error) from error
        return backup.manifest


def _check_free(home: Path) -> None:
    for name in (DATABASE, f"{DATABASE}-wal"):
        path = home / name
        if path.exists() and path.stat().st_size:
            raise LibraryError(
                f"{path} is there: move all of that library away, or name another folder with "
                "--library"
            )


def _look_at(address: Address) -> None:
    """Find out at once whether the server answers and the database is free; nothing is made."""
    from rwkvsearch.indexer.team.database import TeamDatabase

    database = TeamDatabase(address)
    with _disposing(database.engine), database.errors(), Session(database.engine) as session:
        if session.scalar(text("SELECT to_regclass('roots') IS NOT NULL")):
            _check_empty(session, address)


def _check_empty(session: Session, address: Address) -> None:
    if any(session.scalar(select(exists(select(of)))) for of in (RootRow, AlbumRow)):
        raise LibraryError(f"{address} holds a library already: name an empty database")


def _check_schema(backup: Backup) -> None:
    if backup.manifest.schema > SCHEMA_VERSION:
        raise too_new(backup.file, backup.manifest.rwkvsearch)


@contextmanager
def _stage(home: Path) -> Iterator[Path]:
    """A folder to unpack into, on the same disk; what a killed run left in it is removed."""
    stage = home / _STAGE
    shutil.rmtree(stage, ignore_errors=True)
    (stage / FOLDER).mkdir(parents=True)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _unpack(backup: Backup, stage: Path, progress: Progress) -> None:
    done = 0

    def on_bytes(number: int) -> None:
        nonlocal done
        done += number
        progress("unpacking", done, backup.bytes)

    for name in (DATABASE, *backup.results):
        with (stage / name).open("wb") as target:
            backup.copy(name, target, on_bytes)
            target.flush()
            os.fsync(target.fileno())


def _check_rows(backup: Backup, database: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?immutable=1", uri=True)) as connection:
            for name, said in backup.manifest.rows.items():
                number = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
                if number != said:
                    raise LibraryError(f"{backup.file}: {number:,} rows of {name}, not {said:,}")
    except sqlite3.Error as error:
        raise LibraryError(f"{backup.file}: its database cannot be read ({error})") from error


def _enter(database: Path, address: Address, manifest: Manifest, progress: Progress) -> None:
    """Enter the rows into another database, in one transaction."""
    source = open_catalog(database)  # an older one is brought up to this version
    with _disposing(source), Library.create(address) as library, library.writer():
        with Session(source) as rows, library.write() as target:
            _check_empty(target, address)
            copy_rows(rows, target, lambda table, *done: progress(f"entering {table}", *done))
            go_on_from(target, manifest.last_ids)


@contextmanager
def _disposing(engine: Engine) -> Iterator[None]:
    try:
        yield
    finally:
        engine.dispose()


def _put_in_place(stage: Path, home: Path, *, database: bool) -> None:
    """What lies in the folder; the database last: with it the library is there."""
    (home / FOLDER).mkdir(exist_ok=True)
    for path in sorted((stage / FOLDER).iterdir()):
        path.replace(home / FOLDER / path.name)
    if not database:
        return
    _check_free(home)  # somebody may have been quicker
    (stage / DATABASE).replace(home / DATABASE)
    folder = os.open(home, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def publish_all(library: Library, on_model: Callable[[str], None]) -> None:
    """Build what searches of a restored library go faster with; `on_model` is told each model.

    Raises:
        LibraryError: faiss is not installed, or there is no space; the library itself is whole.
    """
    with library.writer():
        for model in library.models():
            on_model(model.model_id)
            publish(library, model)
