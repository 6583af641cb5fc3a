"""Changes a person asks for by name: forget what was indexed, or follow a folder that moved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.data.remote import absolute
from rwkvsearch.indexer.ann.generation import remove_unused
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.dialects import is_postgresql
from rwkvsearch.indexer.facts import images_told_by, settle_facts
from rwkvsearch.indexer.library import Library, chunks
from rwkvsearch.indexer.sources import FOLDER, LOOSE, SHARD, new_folder, reaches
from rwkvsearch.indexer.tables import (
    CaptionRow,
    EmbeddingRow,
    FileRow,
    GenerationRow,
    ImageRow,
    RootRow,
    TextEmbeddingRow,
    TextRow,
)
from rwkvsearch.indexer.thumb_files import ThumbFiles


def forget(library: Library, path: Path) -> int:
    """Drop a file, or everything below a folder, with the embeddings and texts nobody else needs.

    Returns the number of files dropped, those that were gone already among them.

    Raises:
        LibraryError: nothing below `path` is known, or another writer is at work.
    """
    with library.writer():
        with library.write() as session:
            path = _known_place(session, library, path)
            inside = [row.id for row in _roots(session) if row.path.is_relative_to(path)]
            files = _files_below(session, path)
            _read_again(session, path)
            _drop_files(session, [*files])
            session.execute(delete(RootRow).where(RootRow.id.in_(inside)))
            dropped = _drop_orphans(session)
        _drop_derived(library, dropped)
    return len(files)


def forget_gone(library: Library) -> int:
    """Drop every file that is not there any more, as `forget`; the number of files."""
    with library.writer():
        with library.write() as session:
            gone = session.scalars(select(FileRow.id).where(FileRow.gone_at.is_not(None))).all()
            _drop_files(session, gone)
            dropped = _drop_orphans(session)
        _drop_derived(library, dropped)
    return len(gone)


def relocate(library: Library, old: Path, new: Path) -> int:
    """Write down that what was below `old` lies below `new` now; the number of files.

    Nothing is read: the next sync finds every file where it is said to be, or marks it as gone.
    Where a file is known at the new place already, the old entry is dropped.

    Raises:
        LibraryError: nothing below `old` is known, one lies inside the other, or another writer.
    """
    new = new.resolve()
    with library.writer(), library.write() as session:
        old = _known_place(session, library, old)
        if old.is_relative_to(new) or new.is_relative_to(old):
            raise LibraryError(f"{old} and {new} lie inside each other: `index` finds such moves")
        files = _files_below(session, old)
        roots = [row for row in _roots(session) if row.path.is_relative_to(old)]
        for root in roots:
            _move_root(session, root, new / root.path.relative_to(old))
        left = _files_below(session, old)
        _move_files(session, {row: new / path.relative_to(old) for row, path in left.items()}, new)
        has_files = exists().where(FileRow.root_id == RootRow.id)
        emptied = RootRow.id.in_([row.id for row in roots])
        session.execute(delete(RootRow).where(emptied, ~has_files))
    return len(files)


def _known_place(session: Session, library: Library, path: Path) -> Path:
    """The path as it was indexed: as it is written, else where its links lead."""
    path = absolute(path)
    for place in (Path(os.path.normpath(Path.cwd() / path)), path.resolve()):
        roots = any(row.path.is_relative_to(place) for row in _roots(session))
        if roots or _files_below(session, place):
            return place
    raise LibraryError(f"{path}: nothing there was indexed into {library.name}")


def _read_again(session: Session, path: Path) -> None:
    """Let the shard that `path` lies in be opened by the next sync."""
    for root in _roots(session):
        if path.is_relative_to(root.path):
            root.stamp = None
    session.flush()


def _roots(session: Session) -> Sequence[RootRow]:
    return session.scalars(select(RootRow).where(RootRow.kind != LOOSE)).all()


def _files_below(session: Session, folder: Path) -> dict[int, Path]:
    """The absolute paths of the files at or below `folder`, by row id."""
    found: dict[int, Path] = {}
    for root in session.scalars(select(RootRow)):
        if root.path.is_relative_to(folder) or folder.is_relative_to(root.path):
            rows = select(FileRow.id, FileRow.path).where(FileRow.root_id == root.id)
            paths = ((row_id, root.path / path) for row_id, path in session.execute(rows))
            found |= {row_id: path for row_id, path in paths if path.is_relative_to(folder)}
    return found


def _folder_of(session: Session, path: Path) -> RootRow | None:
    """The indexed folder whose walk comes to `path`."""
    folders = (row for row in _roots(session) if row.kind == FOLDER)
    return next((row for row in folders if reaches(row.path, path)), None)


def _move_root(session: Session, root: RootRow, place: Path) -> None:
    """Give a root its new path, unless that is known: then its files move one by one.

    The members of a shard do not: they are what the shard at the new place holds.
    """
    known = place in {row.path for row in _roots(session)}
    if root.kind == SHARD and known:
        _drop_files(session, [*_files_below(session, root.path)])
    elif root.kind == SHARD or not known and not _folder_of(session, place):
        root.path, root.stamp = place, None
    session.flush()


def _move_files(session: Session, places: dict[int, Path], new: Path) -> None:
    """Put files where they are said to be: into the indexed folder that holds that place.

    Without one, single pictures stay among those, and others make `new` an indexed folder.
    """
    known = {*_files_below(session, new).values()}
    _drop_files(session, [row_id for row_id, path in places.items() if path in known])
    left = {row_id: path for row_id, path in places.items() if path not in known}
    loose = session.scalar(select(RootRow).where(RootRow.kind == LOOSE))
    single = _ids_of(session, loose, left) if loose is not None else set()
    owner = _folder_of(session, new)
    if owner is None and left.keys() - single:
        owner = new_folder(session, new)
    rows = []
    for row_id, path in left.items():
        root = owner or loose
        if root is not None:
            place = {"root_id": root.id, "path": path.relative_to(root.path)}
            rows.append(place | {"id": row_id})
    if rows:
        session.execute(update(FileRow), rows)


def _ids_of(session: Session, root: RootRow, row_ids: Iterable[int]) -> set[int]:
    """Which of the files belong to `root`."""
    found: set[int] = set()
    for ids in chunks([*row_ids]):
        rows = select(FileRow.id).where(FileRow.root_id == root.id, FileRow.id.in_(ids))
        found |= {*session.scalars(rows)}
    return found


def _drop_derived(library: Library, content_hashes: Iterable[str]) -> None:
    """So that no ann file holds what was dropped, and no thumbnail shows it."""
    ThumbFiles(library.path).remove(content_hashes)
    for model in library.models():
        publish(library, model)
    remove_unused(library)


def _drop_files(session: Session, row_ids: Sequence[int]) -> None:
    told = images_told_by(session, row_ids)
    for ids in chunks(row_ids):
        session.execute(delete(CaptionRow).where(CaptionRow.file_id.in_(ids)))
        session.execute(delete(FileRow).where(FileRow.id.in_(ids)))
    settle_facts(session, told)


def _drop_orphans(session: Session) -> Sequence[str]:
    """Images without a file, texts without an image, and what was made of them; the contents."""
    lost = ~exists().where(FileRow.image_id == ImageRow.id)
    contents = session.scalars(select(ImageRow.content_hash).where(lost)).all()
    ids = select(ImageRow.id).where(lost).scalar_subquery()
    session.execute(delete(CaptionRow).where(CaptionRow.image_id.in_(ids)))
    dropped = session.execute(delete(EmbeddingRow).where(EmbeddingRow.image_id.in_(ids)))
    session.execute(delete(ImageRow).where(lost))
    unsaid = ~exists().where(CaptionRow.text_id == TextRow.id)
    texts = select(TextRow.id).where(unsaid).scalar_subquery()
    session.execute(delete(TextEmbeddingRow).where(TextEmbeddingRow.text_id.in_(texts)))
    session.execute(delete(TextRow).where(unsaid))
    # The index of a server loses the rows by itself.
    if dropped.rowcount and not is_postgresql(session):  # type: ignore[attr-defined]
        session.execute(delete(GenerationRow))
    return contents
