"""Check of the files of a library that nobody needs: in `ann/`, `tune/`, `thumbs/` and `maps/`."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import exists, select

from rwkvsearch.indexer.ann.generation import remove_unused
from rwkvsearch.indexer.ann.tune import left_by_tune, remove_left_by_tune
from rwkvsearch.indexer.doctor.findings import Finding, fault, note, ok, some
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.maps import damaged_maps, unused_maps
from rwkvsearch.indexer.tables import FileRow, GenerationRow, ImageRow
from rwkvsearch.indexer.thumb_files import ThumbFiles


def check_leftovers(library: Library, *, is_writer: bool) -> Iterator[Finding]:
    """Files of an interrupted run, and thumbnails that are not shown any more."""
    if not is_writer and _is_written_to(library):
        yield note("leftovers", "not looked for: another rwkvsearch is writing to the library")
        return
    found = [*_in_ann(library), *_in_thumbs(library), *_in_maps(library)]
    yield from found or [ok("leftovers", "none in ann/, tune/, thumbs/ and maps/")]


def _in_ann(library: Library) -> Iterator[Finding]:
    with library.read() as session:
        used = set(session.scalars(select(GenerationRow.file_name)))
    unused = [path for path in _files(library.path / "ann") if path.name not in used]
    if unused:
        what = f"{some(len(unused), 'file')} in ann/ not in use ({_megabytes(unused)})"
        yield fault("leftovers", what, "removed", remove_unused)
    tuned = left_by_tune(library)
    if tuned:
        what = f"{some(len(tuned), 'file')} in tune/ of a run that was killed ({_megabytes(tuned)})"
        yield fault("leftovers", what, "removed", remove_left_by_tune)


def _in_thumbs(library: Library) -> Iterator[Finding]:
    thumbs = [*ThumbFiles(library.path)]
    known, live = _contents(library) if thumbs else (set(), set())
    whole = [thumb for thumb in thumbs if not thumb.part]
    if lost := [thumb.path for thumb in whole if thumb.content_hash not in known]:
        what = f"{some(len(lost), 'thumbnail')} of pictures that are not known any more"
        yield fault("leftovers", what, "removed", _Remove(lost))
    if parts := [thumb.path for thumb in thumbs if thumb.is_left_over()]:
        what = f"{some(len(parts), 'file')} in thumbs/ of a run that was killed"
        yield fault("leftovers", what, "removed", _Remove(parts))
    away = known - live
    if gone := [thumb.path for thumb in whole if thumb.content_hash in away]:
        what = f"{some(len(gone), 'thumbnail')} of pictures that are not there any more"
        yield Finding("leftovers", "note", what, "removed", _Remove(gone))  # no damage


def _in_maps(library: Library) -> Iterator[Finding]:
    if unused := unused_maps(library):
        what = f"{some(len(unused), 'file')} in maps/ not in use ({_megabytes(unused)})"
        yield fault("leftovers", what, "removed", _Remove(unused))
    if damaged := damaged_maps(library):
        what = f"{some(len(damaged), 'map')} that cannot be read"
        yield fault(
            "leftovers", what, "removed; the page of the map makes it anew", _Remove(damaged)
        )


class _Remove:
    """Remove some files."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __call__(self, library: Library) -> None:
        for path in self.paths:
            path.unlink(missing_ok=True)


def _contents(library: Library) -> tuple[set[str], set[str]]:
    """The contents of the images that are known, and of those with a live file."""
    is_live = exists().where(FileRow.image_id == ImageRow.id, FileRow.gone_at.is_(None))
    with library.read() as session:
        rows = session.execute(select(ImageRow.content_hash, is_live)).all()
    return {content for content, _ in rows}, {content for content, live in rows if live}


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []


def _megabytes(paths: list[Path]) -> str:
    return f"{sum(path.stat().st_size for path in paths) / 1e6:,.1f} MB"


def _is_written_to(library: Library) -> bool:
    """Whether another process is the writer now."""
    try:
        with (library.path / "library.lock").open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
