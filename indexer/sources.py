"""What a sync looks at: folders, single pictures and shards, each in its place in the catalog."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.remote import absolute, is_remote
from rwkvsearch.data.walk import is_image_name
from rwkvsearch.indexer.dialects import insert_new
from rwkvsearch.indexer.found import shard_stamp
from rwkvsearch.indexer.tables import FileRow, RootRow

FOLDER, SHARD, LOOSE = "folder", "shard", "loose"
_ANYWHERE = Path("/")


@dataclass(frozen=True)
class Scope:
    """The part of a root to look at: `folders` are walked, `files` looked at one by one.

    All lie below `root` or are the root itself. A shard has neither: it is read as a whole.
    """

    root_id: int
    root: Path
    kind: str
    folders: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()

    def holds(self, path: Path) -> bool:
        """Whether this scope decides if a known file is still there."""
        return (
            self.kind == SHARD or path in self.files or any(map(path.is_relative_to, self.folders))
        )


def resolve_roots(session: Session, targets: Sequence[Path]) -> list[Scope]:
    """Give every path its place: no file below `targets` belongs to two roots afterwards.

    A path inside a known folder is looked at as part of it; a new folder takes over the folders and
    the single pictures inside it. Other single pictures share one root of their own.

    Raises:
        DataError: a path does not exist and was never indexed.
    """
    known = {row.path: row for row in session.scalars(select(RootRow))}
    folders, files, shards = _sort_out(known, targets)
    scopes = _shard_scopes(session, known, shards)
    owned: dict[int, list[Path]] = defaultdict(list)
    rows: dict[int, RootRow] = {}
    reached: list[Path] = []
    for folder in sorted(folders):
        if not any(reaches(other, folder) for other in reached):
            reached.append(folder)
            owner = _owner(known, folder) or new_folder(session, folder)
            known[owner.path] = owner
            owned[owner.id].append(folder)
            rows[owner.id] = owner
    single: dict[int, list[Path]] = defaultdict(list)
    for file in sorted(files):
        if not any(reaches(folder, file) for folder in reached):
            owner = _owner(known, file) or _loose_root(session, known)
            single[owner.id].append(file)
            rows[owner.id] = owner
    return scopes + [
        Scope(key, row.path, row.kind, tuple(owned[key]), tuple(single[key]))
        for key, row in rows.items()
    ]


def known_targets(session: Session) -> list[Path]:
    """Everything that was indexed, for a sync of it all."""
    roots = session.execute(select(RootRow.id, RootRow.path, RootRow.kind)).all()
    targets = [path for _, path, kind in roots if kind != LOOSE]
    loose = [key for key, _, kind in roots if kind == LOOSE]
    single = select(FileRow.path).where(FileRow.root_id.in_(loose))
    return targets + [_ANYWHERE / path for path in session.scalars(single)]


def new_folder(session: Session, path: Path) -> RootRow:
    """A root for a folder that lies in none: it takes over what was indexed inside it."""
    known = {row.path: row for row in session.scalars(select(RootRow))}
    inside = [row for row in known.values() if row.kind == FOLDER and reaches(path, row.path)]
    loose = known.get(_ANYWHERE)
    if path == _ANYWHERE and loose is not None:
        loose.kind = FOLDER
        owner = loose
    else:
        owner = _add(session, known, path, FOLDER)
    for row in inside:
        for file in session.scalars(select(FileRow).where(FileRow.root_id == row.id)):
            file.root_id, file.path = owner.id, row.path.relative_to(path) / file.path
        session.flush()
        session.delete(row)
    if loose is not None and loose is not owner:
        for file in session.scalars(select(FileRow).where(FileRow.root_id == loose.id)):
            if reaches(path, _ANYWHERE / file.path):
                file.root_id, file.path = owner.id, (_ANYWHERE / file.path).relative_to(path)
    session.flush()
    return owner


def is_shard_name(name: str) -> bool:
    """Whether a file of this name is taken for a tar of pictures."""
    return name.lower().endswith(".tar")


def _sort_out(
    known: dict[Path, RootRow], targets: Iterable[Path]
) -> tuple[set[Path], set[Path], set[Path]]:
    """Folders, files and shards among the targets, resolved."""
    folders: set[Path] = set()
    files: set[Path] = set()
    shards: set[Path] = set()
    missing: list[Path] = []
    for target in map(resolve, targets):
        remote = is_remote(target)
        if is_shard_name(target.name) and (remote or target.is_file() or target in known):
            shards.add(target)
        elif _is(target, "file"):
            files.add(target)
        elif _is(target, "dir") or (target in known and known[target].kind == FOLDER):
            folders.add(target)
        elif is_image_name(target.name):
            files.add(target)
        elif remote or _owner(known, target) is not None:
            folders.add(target)
        else:
            missing.append(target)
    if missing:
        raise DataError(f"{missing[0]}: no such file or folder")
    return folders, files, shards


def _owner(known: dict[Path, RootRow], path: Path) -> RootRow | None:
    """The known folder whose walk comes to `path`."""
    for folder in (path, *path.parents):
        row = known.get(folder)
        if row is not None and row.kind == FOLDER and reaches(folder, path):
            return row
    return None


def reaches(root: Path, path: Path) -> bool:
    """Whether a walk from `root` comes to `path`: below it, and no name on the way is hidden."""
    if not path.is_relative_to(root):
        return False
    return not any(part.startswith(".") for part in path.relative_to(root).parts)


def _shard_scopes(
    session: Session, known: dict[Path, RootRow], shards: Iterable[Path]
) -> list[Scope]:
    """Those that are there come first: one of them may be another that is not there any more."""
    scopes = []
    for path in sorted(shards, key=lambda path: (not _is_there(path), path)):
        row = known.get(path) or _renamed(known, path)
        if row is None and _is_there(path):
            row = _add(session, known, path, SHARD)
        if row is not None:
            scopes.append(Scope(row.id, path, SHARD))
    session.flush()
    return scopes


def _renamed(known: dict[Path, RootRow], path: Path) -> RootRow | None:
    """The shard that was read to its end under another name, if it is not there any more."""
    stamp = shard_stamp(path)
    for old, row in known.items():
        if stamp and row.kind == SHARD and row.stamp == stamp and not os.path.lexists(old):
            row.path = path
            known[path] = known.pop(old)
            return row
    return None


def _loose_root(session: Session, known: dict[Path, RootRow]) -> RootRow:
    return known.get(_ANYWHERE) or _add(session, known, _ANYWHERE, LOOSE)


def _add(session: Session, known: dict[Path, RootRow], path: Path, kind: str) -> RootRow:
    session.execute(insert_new(session, RootRow), [{"path": path, "kind": kind}])
    row = known[path] = session.scalars(select(RootRow).where(RootRow.path == path)).one()
    return row


def resolve(target: Path) -> Path:
    """Where a path leads; `DataError` for a circle of links."""
    try:
        target = absolute(target)
        return target if is_remote(target) else target.resolve()
    except (OSError, RuntimeError) as error:  # a circle of links
        raise DataError(f"{target}: no such file or folder") from error


def _is_there(path: Path) -> bool:
    return is_remote(path) or os.path.lexists(path)


def _is(path: Path, kind: str) -> bool:
    """`is_file` or `is_dir`; a path that may not be looked at is taken for a folder."""
    try:
        return path.is_file() if kind == "file" else path.is_dir()
    except OSError:
        return kind == "dir"
