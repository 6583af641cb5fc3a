"""Walk a folder: its pictures with their stat, and the text files that may belong to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rwkvsearch.data.files import is_file
from rwkvsearch.data.images import IMAGE_SUFFIXES, system_reason

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".rwkvsearchignore"
_TEXT_SUFFIXES = frozenset({".txt", ".json", ".xmp"})

OnError = Callable[[Path, str], None]


@dataclass(frozen=True)
class Listing:
    """One folder: its pictures by name, sorted, and the stat of the text files beside them."""

    folder: Path
    pictures: dict[str, os.stat_result]
    texts: dict[str, os.stat_result]


@dataclass(frozen=True)
class Rules:
    """What a walk leaves out, beside hidden names and whatever `.rwkvsearchignore` files say.

    `exclude` holds patterns in the syntax of gitignore, relative to where the walk starts;
    `skip` folders that are never entered. Links are not followed unless `follow_links`.
    """

    exclude: Sequence[str] = ()
    skip: frozenset[Path] = frozenset()
    follow_links: bool = False


def find_images(root: Path, *, on_error: OnError | None = None) -> Iterator[Path]:
    """Yield every picture below `root`, or `root` itself if it is one, in the order of `walk`."""
    if is_file(root):
        if is_image_name(root.name):
            yield root
        return
    for listing in walk(root, on_error=on_error):
        yield from (listing.folder / name for name in listing.pictures)


def walk(
    root: Path,
    rules: Rules | None = None,
    *,
    top: Path | None = None,
    on_error: OnError | None = None,
) -> Iterator[Listing]:
    """Yield those of `root` and the folders below it that hold pictures, sorted, parents first.

    Hidden names and what the rules leave out are skipped. A folder or file that cannot be read goes
    to `on_error` with its reason and does not stop the walk; so does a folder whose ignore file
    cannot be read, because nothing may be taken that it would have kept out.

    With `top`, a folder above `root`, this is the part below `root` of a walk from there: patterns
    are relative to `top`, and ignore files on the way count.

    Links that are followed never lead in circles: a link to a folder is entered once, and only when
    the walk would not come there anyway.
    """
    walker = _Walker(top or root, rules or Rules(), on_error or (lambda path, reason: None))
    first = walker.first(root)
    waiting = [first] if first else []
    while waiting:
        folder = waiting.pop()
        listing, inner = walker.look_in(folder)
        waiting.extend(reversed(inner))
        if listing.pictures:
            yield listing


def list_files(files: Iterable[Path], *, on_error: OnError | None = None) -> Iterator[Listing]:
    """Yield the folders of some files with those of them that are there; links are followed.

    A folder that cannot be listed goes to `on_error`, and so does a file that cannot be looked at.
    """
    report = on_error or (lambda path, reason: None)
    folders: dict[Path, list[str]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file.name)
    for folder, names in folders.items():
        listing = Listing(folder, {}, {})
        try:
            with os.scandir(folder) as entries:
                listing.texts.update(
                    (entry.name, entry.stat()) for entry in entries if _is_text(entry)
                )
        except OSError as error:
            report(folder, system_reason(error))
            continue
        for name in names:
            try:
                listing.pictures[name] = (folder / name).stat()
            except FileNotFoundError:
                continue
            except OSError as error:
                report(folder / name, system_reason(error))
        yield listing


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for a picture: by its suffix."""
    return _suffix(name) in IMAGE_SUFFIXES


def is_text_name(name: str) -> bool:
    """Whether a file of this name may tell something about a picture beside it."""
    return _suffix(name) in _TEXT_SUFFIXES


@dataclass(frozen=True)
class _Patterns:
    """Patterns and the folder they are relative to: its path below the root, `` or `a/b/`."""

    base: str
    spec: GitIgnoreSpec


@dataclass(frozen=True)
class _Folder:
    path: Path
    relative: str
    patterns: tuple[_Patterns, ...]


@dataclass
class _Walker:
    root: Path
    rules: Rules
    on_error: OnError
    linked: set[tuple[int, int]] = field(default_factory=set)

    def first(self, start: Path) -> _Folder | None:
        """Where the walk begins, None if a walk from the root would not come there."""
        exclude = (_Patterns("", _spec(self.rules.exclude)),) if self.rules.exclude else ()
        folder = _Folder(self.root, "", exclude)
        try:
            for name in start.relative_to(self.root).parts:
                path, relative = folder.path / name, f"{folder.relative}{name}/"
                folder = _Folder(path, relative, self._patterns(folder))
                if _leave_out(folder.patterns, relative):
                    return None
        except OSError as error:
            self.on_error(start, f"{IGNORE_FILE}: {system_reason(error)}")
            return None
        return folder

    def look_in(self, folder: _Folder) -> tuple[Listing, list[_Folder]]:
        """What is in a folder, and the folders in it that are still to be walked."""
        listing, inner = Listing(folder.path, {}, {}), []
        try:
            with os.scandir(folder.path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            own = any(entry.name == IGNORE_FILE for entry in entries)
            patterns = self._patterns(folder) if own else folder.patterns
        except OSError as error:
            of_rules = str(error.filename).endswith(IGNORE_FILE)
            name = f"{IGNORE_FILE}: " if of_rules else ""
            self.on_error(folder.path, name + system_reason(error))
            return listing, []
        for entry in entries:
            if self._is_left_out(folder, patterns, entry):
                continue
            try:
                if self._is_folder(entry):
                    path = folder.path / entry.name
                    if path not in self.rules.skip:
                        inner.append(_Folder(path, f"{folder.relative}{entry.name}/", patterns))
                elif (kind := self._kind(entry, listing)) is not None:
                    kind[entry.name] = entry.stat(follow_symlinks=self.rules.follow_links)
            except FileNotFoundError:
                continue  # it went away, or the link leads nowhere
            except OSError as error:
                if not entry.is_symlink():  # a circle of links
                    self.on_error(folder.path / entry.name, system_reason(error))
        return listing, inner

    def _patterns(self, folder: _Folder) -> tuple[_Patterns, ...]:
        """Those that hold in a folder; the ones of the command line keep the last word."""
        try:
            lines = (folder.path / IGNORE_FILE).read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return folder.patterns
        at = len(folder.patterns) - bool(self.rules.exclude)
        own = _Patterns(folder.relative, _spec(lines))
        return (*folder.patterns[:at], own, *folder.patterns[at:])

    def _is_left_out(
        self, folder: _Folder, patterns: tuple[_Patterns, ...], entry: os.DirEntry[str]
    ) -> bool:
        if entry.name[0] == ".":
            return True
        with suppress(OSError):
            follow = self.rules.follow_links
            slash = "/" if patterns and entry.is_dir(follow_symlinks=follow) else ""
            return _leave_out(patterns, f"{folder.relative}{entry.name}{slash}")
        return False

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        if entry.is_dir(follow_symlinks=False):
            return True
        if not (self.rules.follow_links and entry.is_symlink() and entry.is_dir()):
            return False
        target = Path(entry.path).resolve()
        if target.is_relative_to(self.root) or self.root.is_relative_to(target):
            return False
        status = target.stat()
        new = (status.st_dev, status.st_ino) not in self.linked
        self.linked.add((status.st_dev, status.st_ino))
        return new

    def _kind(self, entry: os.DirEntry[str], listing: Listing) -> dict[str, os.stat_result] | None:
        """The part of the listing where a file belongs, None for any other entry."""
        if not entry.is_file(follow_symlinks=self.rules.follow_links):
            return None
        if is_image_name(entry.name):
            return listing.pictures
        return listing.texts if _is_text(entry) else None


def _leave_out(patterns: Sequence[_Patterns], path: str) -> bool:
    """What the last pattern that fits `path`, relative to the root, says of it."""
    for part in reversed(patterns):
        verdict = part.spec.check_file(path[len(part.base) :]).include
        if verdict is not None:
            return verdict
    return False


def _spec(lines: Sequence[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(lines)


def _is_text(entry: os.DirEntry[str]) -> bool:
    return is_text_name(entry.name) and entry.name[0] != "." and entry.is_file()


def _suffix(name: str) -> str:
    """As `Path(name).suffix.lower()`, which takes seconds for 100,000 names."""
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return dot + suffix.lower() if stem and suffix else ""
