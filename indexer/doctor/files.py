"""Checks of the files: there, as they were at the last sync, and of the content that is known."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select, update

from rwkvsearch.data.images import system_reason
from rwkvsearch.data.members import read_member
from rwkvsearch.data.remote import open_binary, stat_of
from rwkvsearch.data.walk import find_images
from rwkvsearch.indexer.doctor.embeddings import UNREAD, mark_unread
from rwkvsearch.indexer.doctor.findings import Finding, fault, note, ok, some
from rwkvsearch.indexer.entries import mark_gone
from rwkvsearch.indexer.found import Stat
from rwkvsearch.indexer.library import Library, chunks
from rwkvsearch.indexer.sources import LOOSE, SHARD
from rwkvsearch.indexer.tables import FileRow, ImageRow, RootRow

_CHUNK = 5_000


@dataclass(frozen=True)
class _File:
    """A file as the catalog has it; `content_hash` is None for a bad one."""

    row_id: int
    root_id: int
    root: Path
    kind: str
    path: Path
    stat: Stat
    offset: int | None
    content_hash: str | None

    @property
    def on_disk(self) -> Path:
        """The file itself, or the shard that it is in."""
        return self.root if self.kind == SHARD else self.root / self.path


@dataclass
class _Seen:
    """What was found, by row id."""

    alike: list[int] = field(default_factory=list)
    gone: dict[int, _File] = field(default_factory=dict)
    changed: dict[int, _File] = field(default_factory=dict)
    altered: dict[int, _File] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)


def check_files(library: Library, sample: int | None, *, contents: bool) -> Iterator[Finding]:
    """Whether files are on disk as the catalog says: `sample` of them, None for all.

    With `contents` they are read, too, and hashed again. A root of which no file is there is taken
    for unmounted, which is no fault; so is the folder of a file that was indexed by itself.
    """
    seen, absent = _Seen(), defaultdict(list)
    reached: set[int] = set()
    number = 0
    for file in _live_files(library, sample):
        number += 1
        try:
            status = Stat.of(stat_of(file.on_disk))
        except (FileNotFoundError, NotADirectoryError):
            absent[file.root_id].append(file)
            continue
        except OSError as error:
            seen.unreadable[file.on_disk] = system_reason(error)
            continue
        reached.add(file.root_id)
        if not _is_as_recorded(file, status):
            seen.changed[file.row_id] = file
        elif contents and not _is_content(file, seen):
            seen.altered[file.row_id] = file
        else:
            seen.alike.append(file.row_id)
    for root_id, files in absent.items():
        if files[0].kind == LOOSE:
            yield from _look_beside(files, seen)
        elif root_id in reached or _is_alive(files[0]):
            seen.gone |= {file.row_id: file for file in files}
        else:
            count = some(len(files), "file")
            yield note("files", f"{files[0].root} is not there; {count} not looked at")
    yield from _report(seen, number, contents=contents)


def _look_beside(files: Sequence[_File], seen: _Seen) -> Iterator[Finding]:
    """Of files indexed one by one, those are gone whose folder is still there."""
    unmounted: dict[Path, int] = defaultdict(int)
    for file in files:
        folder = file.on_disk.parent
        if folder.is_dir():
            seen.gone[file.row_id] = file
        else:
            unmounted[folder] += 1
    for folder, number in unmounted.items():
        yield note("files", f"{folder} is not there; {some(number, 'file')} not looked at")


def _report(seen: _Seen, number: int, *, contents: bool) -> Iterator[Finding]:
    again = "read again by the next `index`"
    if seen.gone:
        what = f"{_some(seen.gone)} not there any more"
        yield fault("files", what, "marked as gone, as `index` does", _marking_gone([*seen.gone]))
    if seen.changed:
        what = f"{_some(seen.changed)} changed since the last sync"
        yield fault("files", what, again, _unread([*seen.changed]))
    if seen.altered:
        what = f"{_some(seen.altered)} with another content, but the size and time of before"
        yield fault("files", what, again, _unread([*seen.altered]))
    for path, reason in [*seen.unreadable.items()][:10]:
        yield note("files", f"{path}: {reason}")
    if not seen.gone and not seen.changed and not seen.altered:
        how = "size, time and content" if contents else "size and time"
        alike = len(seen.alike)
        yield ok("files", f"{alike:,} of {some(number, 'file')} looked at: {how} as recorded")


def _some(files: dict[int, _File]) -> str:
    first = next(iter(files.values()))
    name = str(first.root / first.path)
    return f"{some(len(files), 'file')} ({name if name.isprintable() else repr(name)[1:-1]}" + (
        ", ...)" if len(files) > 1 else ")"
    )


def _live_files(library: Library, sample: int | None) -> Iterator[_File]:
    live = FileRow.gone_at.is_(None)
    with library.read() as session:
        ids = select(FileRow.id).where(live)
        ids = ids.order_by(FileRow.id) if sample is None else ids.order_by(func.random())
        chosen = sorted(session.scalars(ids.limit(sample)))
    columns = (
        *(FileRow.id, FileRow.root_id, RootRow.path, RootRow.kind, FileRow.path),
        *(FileRow.size, FileRow.mtime_ns, FileRow.inode, FileRow.device, FileRow.offset),
        ImageRow.content_hash,
    )
    row = (
        select(*columns)
        .select_from(FileRow)
        .join(RootRow, RootRow.id == FileRow.root_id)
        .outerjoin(ImageRow, ImageRow.id == FileRow.image_id)
    )
    for start in range(0, len(chosen), _CHUNK):
        with library.read() as session:
            part = session.execute(row.where(FileRow.id.in_(chosen[start : start + _CHUNK]))).all()
        for row_id, root_id, root, kind, path, size, mtime, inode, device, offset, content in part:
            stat = Stat(size, mtime, inode, device)
            yield _File(row_id, root_id, root, kind, path, stat, offset, content)


def _is_as_recorded(file: _File, status: Stat) -> bool:
    if file.stat.mtime_ns == UNREAD:  # to be read again anyway
        return True
    if file.kind == SHARD:
        status = status._replace(size=file.stat.size)
    return file.stat.is_same(status)


def _is_content(file: _File, seen: _Seen) -> bool:
    if file.content_hash is None or file.stat.mtime_ns == UNREAD:
        return True
    try:
        if file.offset is not None:
            data = read_member(file.root, file.offset, file.stat.size)
            return hashlib.sha256(data).hexdigest() == file.content_hash
        with open_binary(file.on_disk) as stream:
            digest = hashlib.file_digest(stream, "sha256")  # type: ignore[arg-type]
            return digest.hexdigest() == file.content_hash
    except OSError as error:
        seen.unreadable[file.on_disk] = system_reason(error)
        return True


def _is_alive(file: _File) -> bool:
    """Whether its root has any picture now, as a sync asks; a shard goes with its folder."""
    if file.kind == SHARD:
        return file.root.parent.is_dir()
    return next(find_images(file.root), None) is not None


def _marking_gone(row_ids: Sequence[int]) -> Callable[[Library], None]:
    def fix(library: Library) -> None:
        with library.write() as session:
            mark_gone(session, row_ids)

    return fix


def _unread(row_ids: Sequence[int]) -> Callable[[Library], None]:
    def fix(library: Library) -> None:
        with library.write() as session:
            mark_unread(session, row_ids)
            for ids in chunks(row_ids):
                roots = select(FileRow.root_id).where(FileRow.id.in_(ids))
                session.execute(update(RootRow).where(RootRow.id.in_(roots)).values(stamp=None))

    return fix
