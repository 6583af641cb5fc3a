"""Compare the files below the roots with the catalog, by stat alone: no file is opened here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.images import system_reason
from rwkvsearch.data.walk import find_images
from rwkvsearch.indexer.catalog import EmbeddingRow, FileRow, RootRow
from rwkvsearch.indexer.library import Library

# Only the bytes of a file decide these, so there is no use in trying again before they change.
SETTLED = frozenset({"empty file", "not an image", "truncated file"})

Stat = tuple[int, int, int]


@dataclass(frozen=True)
class Found:
    """A file on disk: its absolute `path`, and (size in bytes, mtime in ns, inode)."""

    root_id: int
    path: Path
    relative: Path
    stat: Stat
    row_id: int | None = None


@dataclass(frozen=True)
class Known:
    """A file in the catalog. `embedded`: its image has an embedding of the model in question."""

    row_id: int
    stat: Stat
    image_id: int | None
    error: str | None
    embedded: bool


@dataclass
class Changes:
    """What a sync has to do, and what it can leave alone."""

    pending: list[Found] = field(default_factory=list)
    moved: list[Found] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    unchanged: int = 0
    known: int = 0
    still_bad: list[tuple[Path, str]] = field(default_factory=list)
    unreachable: list[tuple[Path, str]] = field(default_factory=list)
    scanned_roots: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Scope:
    """The part of a root to look at: `target` is the root itself or lies below it."""

    root_id: int
    root: Path
    target: Path


def resolve_roots(session: Session, roots: Sequence[Path]) -> list[Scope]:
    """Give every path its place: no file below `roots` belongs to two roots afterwards.

    A path inside a known root is looked at as part of it; a new root takes over the known roots
    inside it, with their files.

    Raises:
        DataError: a path does not exist and was never indexed.
    """
    known = {row.path: row for row in session.scalars(select(RootRow))}
    scopes: list[Scope] = []
    for target in sorted({_resolve(root) for root in roots}):
        if any(_reaches(scope.target, target) for scope in scopes):
            continue
        owner = next((row for path, row in known.items() if _reaches(path, target)), None)
        if owner is None:
            if not _exists(target):
                raise DataError(f"{target}: no such folder")
            owner = RootRow(path=target)
            session.add(owner)
            session.flush()
            for path in [path for path in known if _reaches(target, path)]:
                _take_over(session, owner, known.pop(path))
            known[target] = owner
        scopes.append(Scope(owner.id, owner.path, target))
    return scopes


def find_changes(
    library: Library, scopes: Sequence[Scope], model: int, on_found: Callable[[int], None]
) -> Changes:
    """Stat every file in `scopes` and compare it with the catalog; `on_found` is told the count."""
    changes = Changes()
    vanished: dict[Stat, Known] = {}
    seen = 0
    for scope in scopes:
        with library.read() as session:
            known = _known_files(session, scope, model)
        changes.known += len(known)
        blocked: list[tuple[Path, str]] = []
        found = []
        for item in _stat_files(library, scope, blocked):
            found.append(item)
            seen += 1
            on_found(seen)
        if known and not found and not blocked:
            why = f"no images there, but {len(known)} were indexed: kept, in case it is not mounted"
            blocked.append((scope.target, why))
        changes.unreachable += blocked
        if not any(path == scope.target for path, _ in blocked):
            changes.scanned_roots.add(scope.root_id)
        for item in found:
            by_name = item.path == scope.target
            _compare(changes, item, known.pop(item.relative, None), asked_for=by_name)
        for relative, file in known.items():
            path = scope.root / relative
            if not any(path.is_relative_to(folder) for folder, _ in blocked):
                changes.gone.add(file.row_id)
                if file.embedded:
                    vanished[file.stat] = file
    _find_moved(changes, vanished)
    return changes


def _compare(changes: Changes, item: Found, known: Known | None, *, asked_for: bool) -> None:
    if known is None:
        changes.pending.append(item)
    elif known.stat == item.stat and known.embedded:
        changes.unchanged += 1
    elif known.stat == item.stat and known.error in SETTLED and not asked_for:
        changes.still_bad.append((item.path, known.error or ""))
    else:
        changes.pending.append(
            Found(item.root_id, item.path, item.relative, item.stat, known.row_id)
        )


def _find_moved(changes: Changes, vanished: dict[Stat, Known]) -> None:
    """A new path with the stat of a file that is gone is that file under another name."""
    pending, changes.pending = changes.pending, []
    for item in pending:
        old = vanished.pop(item.stat, None) if item.row_id is None else None
        if old is None:
            changes.pending.append(item)
        else:
            changes.gone.remove(old.row_id)
            changes.moved.append(
                Found(item.root_id, item.path, item.relative, item.stat, old.row_id)
            )


def _stat_files(library: Library, scope: Scope, blocked: list[tuple[Path, str]]) -> Iterator[Found]:
    def note(path: Path, reason: str) -> None:
        missing = path == scope.target and reason == "file not found"
        blocked.append((path, "no such folder" if missing else reason))

    thumbnails = library.path.resolve() / "thumbs"
    for path in find_images(scope.target, on_error=note):
        if path.is_relative_to(thumbnails):
            continue
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            blocked.append((path, system_reason(error)))
            continue
        stat = (status.st_size, status.st_mtime_ns, status.st_ino)
        yield Found(scope.root_id, path, path.relative_to(scope.root), stat)


def _known_files(session: Session, scope: Scope, model: int) -> dict[Path, Known]:
    embedded = exists().where(
        EmbeddingRow.image_id == FileRow.image_id, EmbeddingRow.model == model
    )
    rows = session.execute(
        select(
            FileRow.path,
            FileRow.id,
            FileRow.size,
            FileRow.mtime_ns,
            FileRow.inode,
            FileRow.image_id,
            FileRow.error,
            embedded,
        ).where(FileRow.root_id == scope.root_id)
    )
    return {
        path: Known(row_id, (size, mtime_ns, inode), image_id, error, bool(has_embedding))
        for path, row_id, size, mtime_ns, inode, image_id, error, has_embedding in rows
        if (scope.root / path).is_relative_to(scope.target)
    }


def _reaches(root: Path, path: Path) -> bool:
    """Whether a walk from `root` comes to `path`: below it, and no name on the way is hidden."""
    if not path.is_relative_to(root):
        return False
    return not any(part.startswith(".") for part in path.relative_to(root).parts)


def _take_over(session: Session, owner: RootRow, inner: RootRow) -> None:
    prefix = inner.path.relative_to(owner.path)
    for file in session.scalars(select(FileRow).where(FileRow.root_id == inner.id)):
        file.root_id, file.path = owner.id, prefix / file.path
    session.flush()
    session.delete(inner)


def _resolve(root: Path) -> Path:
    try:
        return root.resolve()
    except (OSError, RuntimeError) as error:  # a circle of links
        raise DataError(f"{root}: no such folder") from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True
