"""Albums: saved queries of a library, and the votes of its owner on their hits.

The query is a text that only `retrieval` understands.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import LibraryError, NameTaken, NotThere
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import AlbumRow, ImageRow, VoteRow

_SHOWN = 10


@dataclass(frozen=True)
class Album:
    """A saved query; `liked` and `disliked` are image ids, ascending."""

    name: str
    query: str
    created_at: float
    """Seconds since 1970."""
    liked: tuple[int, ...] = ()
    disliked: tuple[int, ...] = ()


def save_album(library: Library, name: str, query: str, *, replace: bool = False) -> None:
    """Keep a query under a name; with `replace`, in the place of one that has it, votes and all.

    Raises:
        LibraryError: the name is empty, or the library cannot be written.
        NameTaken: there is an album of that name.
    """
    with library.write() as session:
        _check_new(session, name, "use --replace to put this one in its place", taken=replace)
        session.execute(delete(AlbumRow).where(AlbumRow.name == name))
        session.add(AlbumRow(name=name, query=query, created_at=time.time()))


def read_albums(library: Library) -> list[Album]:
    """Return all albums by name."""
    with library.read() as session:
        rows = session.scalars(select(AlbumRow).order_by(AlbumRow.name)).all()
        return [_album(session, row) for row in rows]


def album_names(library: Library) -> list[str]:
    """Return the names of all albums, in order."""
    with library.read() as session:
        return list(session.scalars(select(AlbumRow.name).order_by(AlbumRow.name)))


def read_album(library: Library, name: str) -> Album:
    """Return one album; `NotThere` names those there are if there is none of that name."""
    with library.read() as session:
        return _album(session, _row(session, name))


def delete_album(library: Library, name: str) -> None:
    """Forget an album and its votes; errors as `read_album`."""
    with library.write() as session:
        session.execute(delete(AlbumRow).where(AlbumRow.id == _row(session, name).id))


def rename_album(library: Library, name: str, new: str) -> None:
    """Give an album another name.

    Raises:
        LibraryError: the new name is empty.
        NotThere: there is no such album.
        NameTaken: the new name is that of another.
    """
    with library.write() as session:
        row = _row(session, name)
        if new != name:
            _check_new(session, new, "delete that one first, or choose another name")
            row.name = new


def vote(
    library: Library, name: str, liked: Collection[int] = (), disliked: Collection[int] = ()
) -> None:
    """Keep that images belong in an album, or do not; the last vote on an image counts.

    Raises:
        LibraryError: an image is both.
        NotThere: no such album or image.
    """
    if both := {*liked} & {*disliked}:
        raise LibraryError(f"image {min(both)} cannot be liked and disliked at once")
    with library.write() as session:
        album_id = _row(session, name).id
        for image_id in (*liked, *disliked):
            if session.get(ImageRow, image_id) is None:
                raise NotThere(f"there is no image {image_id} in {library.name}")
            session.merge(VoteRow(album_id=album_id, image_id=image_id, liked=image_id in liked))


def forget_votes(library: Library, name: str, image_id: int | None = None) -> None:
    """Forget the vote on one image of an album, or all votes; errors as `read_album`."""
    with library.write() as session:
        of_album = delete(VoteRow).where(VoteRow.album_id == _row(session, name).id)
        one = () if image_id is None else (VoteRow.image_id == image_id,)
        session.execute(of_album.where(*one))


def _check_new(session: Session, name: str, advice: str, *, taken: bool = False) -> None:
    if not name.strip():
        raise LibraryError("an album needs a name")
    if not _is_text(name):
        raise LibraryError(f"{name!r} is not UTF-8: an album needs another name")
    if not taken and session.scalar(select(AlbumRow.id).where(AlbumRow.name == name)):
        raise NameTaken(f"there is an album {name!r} already: {advice}")


def _row(session: Session, name: str) -> AlbumRow:
    named = select(AlbumRow).where(AlbumRow.name == name)
    row = session.scalar(named) if _is_text(name) else None
    if row is None:
        names = session.scalars(select(AlbumRow.name).order_by(AlbumRow.name)).all()
        shown = ", ".join(repr(there) for there in names[:_SHOWN])
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        known = f"there are {shown}{more}" if names else "make one with `rwkvsearch album save`"
        raise NotThere(f"there is no album {name!r}: {known}")
    return row


def _is_text(name: str) -> bool:
    """Whether SQLite can keep it: surrogates, which stand for undecodable bytes, it cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _album(session: Session, row: AlbumRow) -> Album:
    votes = session.execute(
        select(VoteRow.image_id, VoteRow.liked)
        .where(VoteRow.album_id == row.id)
        .order_by(VoteRow.image_id)
    ).all()
    liked = tuple(image_id for image_id, right in votes if right)
    disliked = tuple(image_id for image_id, right in votes if not right)
    return Album(row.name, row.query, row.created_at, liked, disliked)
