"""Find the pictures below a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from rwkvsearch.data.images import IMAGE_SUFFIXES, system_reason


def find_images(
    root: Path, *, on_error: Callable[[Path, str], None] | None = None
) -> Iterator[Path]:
    """Yield every image file below `root`, or `root` itself if it is one, in sorted order.

    Hidden names are skipped. Links to files are used, links to folders are not followed. A folder
    that cannot be listed goes to `on_error` with its reason and does not stop the walk.
    """
    waiting = [(root, not _is_file(root))]
    while waiting:
        path, is_folder = waiting.pop()
        if is_folder:
            waiting.extend(reversed(_list(path, on_error)))
        elif _is_image_name(path.name):
            yield path


def _list(folder: Path, on_error: Callable[[Path, str], None] | None) -> list[tuple[Path, bool]]:
    """The folders (True) and image files (False) in `folder`, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((e for e in entries if e.name[0] != "."), key=lambda e: e.name)
    except OSError as error:
        if on_error is not None:
            on_error(folder, system_reason(error))
        return []
    kinds = ((folder / entry.name, _is_folder_or_image(entry)) for entry in found)
    return [(path, kind) for path, kind in kinds if kind is not None]


def _is_folder_or_image(entry: os.DirEntry[str]) -> bool | None:
    # is_file follows a link and raises on a circle of links.
    with suppress(OSError):
        if entry.is_dir(follow_symlinks=False):
            return True
        if _is_image_name(entry.name) and entry.is_file():
            return False
    return None


def _is_file(path: Path) -> bool:
    with suppress(OSError):
        return path.is_file()
    return False


def _is_image_name(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES
