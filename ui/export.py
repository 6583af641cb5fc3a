"""Copies of the hits, or links to them, in a folder of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.data.files import is_file
from rwkvsearch.ui.words import printable

if TYPE_CHECKING:
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.retrieval.query import Hit

How = Literal["copy", "symlink"]

_UNFINISHED = ".rwkvsearch-export"
_LONGEST_NAME = 255  # bytes, on nearly every file system


@dataclass
class Exported:
    """The new files, the best hit first; `extracted` of them are members of shards, copied out.

    `faults` says what was left out, and why.
    """

    files: list[Path] = field(default_factory=list)
    extracted: int = 0
    faults: list[str] = field(default_factory=list)


def export_hits(
    hits: Sequence[Hit],
    library: Library,
    folder: Path,
    how: How,
    progress: Callable[[int], object] = lambda done: None,
) -> Exported:
    """Put the hits into `folder`, named by rank: `001 beach.jpg`, with the times of the originals.

    The folder is made, or is there and empty. Files are written beside their place and moved there
    once all are whole, so after an error or a kill there is none of them, or none that is not
    whole. No link leads into a shard: its members are copied in either case.

    Raises:
        RwkvSearchError: the folder holds something, or cannot be written.
    """
    folder = folder.absolute()
    made = not folder.exists()
    try:
        _refuse_filled(folder)
        unfinished = folder / _UNFINISHED
        unfinished.mkdir(parents=True)
        try:
            exported = _write(hits, library, unfinished, how, progress)
            exported.files = [_move(file, folder) for file in exported.files]
        finally:
            shutil.rmtree(unfinished)
            if made and not any(folder.iterdir()):
                folder.rmdir()
    except OSError as error:
        raise RwkvSearchError(f"cannot export to {printable(folder)}: {error.strerror}") from error
    return exported


def _refuse_filled(folder: Path) -> None:
    """Refuse a folder that holds something; what an export left that was killed is removed."""
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            raise RwkvSearchError(f"{printable(folder)} is no folder: name a new one")
        return
    names = {path.name for path in folder.iterdir()}
    if names - {_UNFINISHED}:
        raise RwkvSearchError(
            f"{printable(folder)} is not empty: name a new folder, nothing is ever overwritten"
        )
    if names:
        shutil.rmtree(folder / _UNFINISHED)


def _write(
    hits: Sequence[Hit],
    library: Library,
    folder: Path,
    how: How,
    progress: Callable[[int], object],
) -> Exported:
    exported = Exported()
    digits = max([3, *(len(str(hit.rank)) for hit in hits)])
    for hit in hits:
        target = folder / _name(f"{hit.rank:0{digits}} ", hit.path.name)
        source = next((path for path in hit.paths if is_file(path)), None)
        try:
            if source is None:
                _extract(hit, library, target)
                exported.extracted += 1
            elif how == "symlink":
                target.symlink_to(source)
            else:
                _copy(source, target)
            exported.files.append(target)
        except RwkvSearchError as error:
            exported.faults.append(str(error))
        progress(1)
    return exported


def _name(rank: str, name: str) -> str:
    """A name that the file system takes, with the end of a long one, where the suffix is."""
    room = _LONGEST_NAME - len(os.fsencode(rank))
    return rank + os.fsdecode(os.fsencode(name)[-room:])


def _copy(source: Path, target: Path) -> None:
    """The content and times of a file that may have gone since it was found."""
    try:
        stream = source.open("rb")
    except OSError as error:
        raise RwkvSearchError(f"left out {printable(source)}: {error.strerror}") from error
    with stream, target.open("xb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
    shutil.copystat(source, target)


def _extract(hit: Hit, library: Library, target: Path) -> None:
    """The content of a member of a shard, with the times of the shard."""
    with library.open_image(hit.image_id) as stream, target.open("xb") as file:
        shutil.copyfileobj(stream, file)
        file.flush()
        os.fsync(file.fileno())
    shard = next((above for above in hit.path.parents if is_file(above)), None)
    if shard is not None:
        found = shard.stat()
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _move(file: Path, folder: Path) -> Path:
    """Move a whole file to its place, which nobody may have taken meanwhile."""
    target = folder / file.name
    if os.path.lexists(target):
        raise RwkvSearchError(f"{printable(target)} is there already, and is not overwritten")
    return file.rename(target)
