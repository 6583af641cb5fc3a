"""Compare the files of some scopes with the catalog, by stat alone: no picture is opened here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import ColumnElement, LargeBinary, and_, select, type_coerce
from sqlalchemy.orm import Session

from rwkvsearch.data.images import IMAGE_SUFFIXES
from rwkvsearch.data.remote import stat_of
from rwkvsearch.data.walk import is_image_name
from rwkvsearch.indexer.found import Found, Known, Stat, shard_stamp
from rwkvsearch.indexer.library import Library, chunks
from rwkvsearch.indexer.look import Look, is_empty
from rwkvsearch.indexer.sources import SHARD, Scope
from rwkvsearch.indexer.tables import EmbeddingRow, FileRow, ImageRow, RootRow

# Only the bytes of a file decide these, so there is no use in trying again before they change.
SETTLED = frozenset({"empty file", "not an image", "truncated file"})
_NOT_A_PICTURE = f"not the name of a picture (known are {', '.join(sorted(IMAGE_SUFFIXES))})"
Troubles = list[tuple[Path, str]]


@dataclass
class Changes:
    """What a sync has to do, and what it can leave alone."""

    pending: list[Found] = field(default_factory=list)
    """To be read."""
    moved: list[Found] = field(default_factory=list)
    """Known files under another name."""
    refreshed: list[Found] = field(default_factory=list)
    """Known files that came back, or lie on a disk that was mounted anew."""
    retold: list[Found] = field(default_factory=list)
    """Known files with other texts beside them."""
    gone: set[int] = field(default_factory=set)
    """Rows of files that are not there any more."""
    unchanged: int = 0
    known: int = 0
    still_bad: Troubles = field(default_factory=list)
    unusable: Troubles = field(default_factory=list)
    """Named one by one, but not there, or not the name of a picture."""
    unreachable: Troubles = field(default_factory=list)
    scanned_roots: dict[int, str | None] = field(default_factory=dict)
    """With the stamp of a shard."""
    vanished: dict[Stat, Known] = field(default_factory=dict)
    """Files whose picture is known, but not where they were."""


def find_changes(
    library: Library,
    scopes: Sequence[Scope],
    model: int,
    look: Look,
    on_found: Callable[[int], None],
) -> Changes:
    """Stat every file in `scopes` and compare it with the catalog; `on_found` is told the count."""
    changes = Changes()
    seen = 0
    for scope in scopes:
        with library.read() as session:
            known = _known_files(session, scope, model)
            root = session.get_one(RootRow, scope.root_id)
        changes.known += sum(not file.gone for file in known.values())
        if scope.kind == SHARD and _is_as_before(root.stamp, scope, known):
            _leave_alone(changes, scope, known)
            continue
        stamp = shard_stamp(scope.root) if scope.kind == SHARD else None
        blocked: Troubles = []
        found = _counted(look(scope, blocked), seen, on_found)
        number = _compare_all(changes, scope, known, found)
        seen += number
        _missing(changes, scope, known, blocked, empty=not number)
        if scope.root_id in changes.scanned_roots and not blocked:
            changes.scanned_roots[scope.root_id] = stamp
    if any(item.row_id is None for item in changes.pending):
        with library.read() as session:
            _add_absent(session, changes, model)
        _find_moved(changes)
    return changes


def _counted(found: Iterable[Found], seen: int, on_found: Callable[[int], None]) -> Iterator[Found]:
    for number, item in enumerate(found, seen + 1):
        on_found(number)
        yield item


def _compare_all(
    changes: Changes, scope: Scope, known: dict[str, Known], found: Iterable[Found]
) -> int:
    """Compare what is found below a scope; `known` keeps what is not found. How many they were."""
    asked = {os.fspath(path.relative_to(scope.root)): path for path in scope.files}
    number = 0
    for item in found:
        number += 1
        by_name = asked.pop(item.name, None) is not None
        _compare(changes, item, known.pop(item.name, None), asked_for=by_name)
    for name, path in asked.items():
        if name not in known:
            why = "file not found" if is_image_name(path.name) else _NOT_A_PICTURE
            changes.unusable.append((path, why))
    return number


def _missing(
    changes: Changes, scope: Scope, known: dict[str, Known], blocked: Troubles, *, empty: bool
) -> None:
    """Say which of the known files that were not found are gone, and what could not be read."""
    live = sum(not file.gone for file in known.values())
    unmounted = scope.root in scope.folders or scope.folders and is_empty(scope.root)
    if live and empty and not blocked and unmounted:
        why = (
            f"no images there, but {live} were indexed: kept, in case it is not mounted "
            "(`rwkvsearch forget` drops them)"
        )
        blocked += [(scope.root, why)]
    blocked = [
        (path, "no such folder" if path in scope.folders and why == "file not found" else why)
        for path, why in blocked
    ]
    changes.unreachable += blocked
    if not any(path == scope.root or path in scope.folders for path, _ in blocked):
        changes.scanned_roots[scope.root_id] = None
    for name, file in known.items():
        path = scope.root / name if blocked else scope.root
        if not file.gone and not any(path.is_relative_to(other) for other, _ in blocked):
            changes.gone.add(file.row_id)
            if file.embedded and scope.kind != SHARD:  # members of one size share their stat
                changes.vanished[file.stat] = file


def _compare(changes: Changes, item: Found, known: Known | None, *, asked_for: bool) -> None:
    if known is None:
        changes.pending.append(item)
        return
    same = known.stat.is_same(item.stat)
    if same and known.embedded:
        changes.unchanged += 1
        if known.stat == item.stat and known.stamp == item.stamp:
            if not known.gone and item.captions is None:
                return
        item = replace(item, row_id=known.row_id)
        if known.gone or known.stat != item.stat:
            changes.refreshed.append(item)
        if item.stamp != known.stamp or item.captions is not None:
            changes.retold.append(item)
        return
    item = replace(item, row_id=known.row_id)
    if same and known.error in SETTLED and not asked_for:
        changes.still_bad.append((item.path, known.error or ""))
        if known.gone:
            changes.refreshed.append(item)
    else:
        changes.pending.append(item)


def _find_moved(changes: Changes) -> None:
    """A new path with the stat of a file that is gone is that file under another name."""
    pending, changes.pending = changes.pending, []
    for item in pending:
        new = item.row_id is None and item.shard is None
        old = changes.vanished.pop(item.stat, None) if new else None
        if old is None:
            changes.pending.append(item)
            continue
        changes.gone.discard(old.row_id)
        item = replace(item, row_id=old.row_id)
        changes.moved.append(item)
        if item.stamp != old.stamp or item.captions is not None:
            changes.retold.append(item)


def _add_absent(session: Session, changes: Changes, model: int) -> None:
    """New files may be old ones from elsewhere: gone in an earlier run, or moved out of a root."""
    new = {i.stat for i in changes.pending if i.row_id is None and i.shard is None}
    taken = {item.row_id for item in changes.pending + changes.refreshed}
    for inodes in chunks(sorted({stat.inode for stat in new})):
        whole = and_(FileRow.inode.in_(inodes), FileRow.offset.is_(None))
        for name, known in _read(session, model, whole):
            if not known.embedded or known.stat not in new or known.row_id in taken:
                continue
            if known.stat not in changes.vanished:
                if known.gone or not os.path.lexists(_place(session, known.row_id) / name):
                    changes.vanished[known.stat] = known


def _place(session: Session, row_id: int) -> Path:
    """The root of a file."""
    root = select(RootRow.path).join(FileRow, FileRow.root_id == RootRow.id)
    return session.scalars(root.where(FileRow.id == row_id)).one()


def read_files(session: Session, root_id: int, model: int) -> Iterable[tuple[str, Known]]:
    """Every file of a root, by its path below it."""
    return _read(session, model, FileRow.root_id == root_id)


def _is_as_before(stamp: str | None, scope: Scope, known: dict[str, Known]) -> bool:
    """Whether a shard is the one that was read to its end, and nothing is left to do for it."""
    if stamp is None or stamp != shard_stamp(scope.root) or not known:
        return False
    now = stat_of(scope.root)
    return all(
        not file.gone
        and file.stat[1:3] == (now.st_mtime_ns, now.st_ino)
        and (file.embedded or file.error in SETTLED)
        for file in known.values()
    )


def _leave_alone(changes: Changes, scope: Scope, known: dict[str, Known]) -> None:
    changes.scanned_roots[scope.root_id] = shard_stamp(scope.root)
    for name, file in known.items():
        if file.error is not None and not file.gone:
            changes.still_bad.append((scope.root / name, file.error))
        elif not file.gone:
            changes.unchanged += 1


def _known_files(session: Session, scope: Scope, model: int) -> dict[str, Known]:
    """The files that this scope decides about, by their path below the root."""
    of_root = FileRow.root_id == scope.root_id
    names = [os.fspath(path.relative_to(scope.root)) for path in scope.files]
    if scope.kind == SHARD or scope.root in scope.folders:
        return dict(read_files(session, scope.root_id, model))
    if scope.folders:
        files = frozenset(names)
        below = tuple(f"{path.relative_to(scope.root)}{os.sep}" for path in scope.folders)
        every = _read(session, model, of_root)
        return {name: known for name, known in every if name in files or name.startswith(below)}
    found: dict[str, Known] = {}
    for part in chunks(range(len(names))):
        paths = [names[at] for at in part]
        found |= _read(session, model, and_(of_root, FileRow.path.in_(paths)))
    return found


def _read(session: Session, model: int, which: ColumnElement[bool]) -> Iterable[tuple[str, Known]]:
    this_model = and_(EmbeddingRow.image_id == ImageRow.id, EmbeddingRow.model == model)
    rows = session.execute(
        select(
            type_coerce(FileRow.path, LargeBinary),  # as they are: a Path each takes seconds
            FileRow.id,
            FileRow.size,
            FileRow.mtime_ns,
            FileRow.inode,
            FileRow.device,
            FileRow.image_id,
            FileRow.error,
            FileRow.gone_at,
            FileRow.sidecars,
            EmbeddingRow.id.is_not(None) & ImageRow.perceptual_hash.is_not(None),
        )
        .outerjoin(ImageRow, ImageRow.id == FileRow.image_id)
        .outerjoin(EmbeddingRow, this_model)
        .where(which)
    )
    for path, row_id, size, mtime_ns, inode, device, image_id, error, gone_at, stamp, done in rows:
        stat = Stat(size, mtime_ns, inode, device)
        gone = gone_at is not None
        yield os.fsdecode(path), Known(row_id, stat, image_id, error, gone, stamp, bool(done))
