"""What is on disk below a scope: pictures with their stat and what belongs to them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path

from rwkvsearch.data.images import system_reason
from rwkvsearch.data.members import Member, list_members
from rwkvsearch.data.remote import is_remote, list_remote, stat_of, walk_remote
from rwkvsearch.data.sidecars import find_sidecars
from rwkvsearch.data.walk import Listing, OnError, Rules, is_image_name, list_files, walk
from rwkvsearch.indexer.found import Found, Stat, stamp_of
from rwkvsearch.indexer.sources import SHARD, Scope


@dataclass(frozen=True)
class Look:
    """How to look: what to leave out, and captions by the path of the picture."""

    rules: Rules = Rules()
    captions: Mapping[Path, tuple[str, ...]] | None = None

    def __call__(self, scope: Scope, troubles: list[tuple[Path, str]]) -> Iterator[Found]:
        """Every picture in `scope`; what cannot be read goes to `troubles` with its reason."""

        def on_error(path: Path, reason: str) -> None:
            troubles.append((path, reason))

        if scope.kind == SHARD:
            yield from _members(scope, on_error)
            return
        for folder in filter(is_remote, scope.folders):
            for listing in walk_remote(folder, self.rules.exclude, scope.root, on_error):
                yield from self._pictures(scope, listing)
        for folder in filterfalse(is_remote, scope.folders):
            if folder != scope.root and not _is_there(folder) and not is_empty(scope.root):
                continue  # a part of a root that is there: what was in it has gone
            for listing in walk(folder, self.rules, top=scope.root, on_error=on_error):
                yield from self._pictures(scope, listing)
        pictures = [path for path in scope.files if is_image_name(path.name)]
        for listing in list_remote([*filter(is_remote, pictures)], on_error):
            yield from self._pictures(scope, listing)
        for listing in list_files(filterfalse(is_remote, pictures), on_error=on_error):
            yield from self._pictures(scope, listing)

    def _pictures(self, scope: Scope, listing: Listing) -> Iterator[Found]:
        below = "" if listing.folder == scope.root else f"{listing.folder.relative_to(scope.root)}/"
        for name, status in listing.pictures.items():
            beside = find_sidecars(listing.texts.keys(), name) if listing.texts else ()
            yield Found(
                scope.root_id,
                scope.root,
                below + name,
                Stat.of(status),
                sidecars=tuple(listing.folder / text for text in beside),
                stamp=stamp_of({text: Stat.of(listing.texts[text])[:2] for text in beside}),
                captions=self.captions.get(listing.folder / name) if self.captions else None,
            )


def _members(scope: Scope, on_error: OnError) -> Iterator[Found]:
    try:
        status = Stat.of(stat_of(scope.root))
        members = list_members(scope.root)
    except FileNotFoundError:
        if is_empty(scope.root.parent):
            on_error(scope.root, "no such file: kept, in case its folder is not mounted")
        return
    except OSError as error:
        on_error(scope.root, system_reason(error))
        return
    for fault in members.faults:  # below the root, which stays known, unless there is no picture
        on_error(scope.root / "*" if members.pictures else scope.root, fault)
    yield from (_member(scope, status, member) for member in members.pictures)


def _member(scope: Scope, status: Stat, member: Member) -> Found:
    said = {str(n): one for n, one in enumerate(member.beside)}
    return Found(
        scope.root_id,
        scope.root,
        str(Path(member.name)),
        status._replace(size=member.size),
        shard=scope.root,
        offset=member.offset,
        said=member.beside,
        stamp=stamp_of(said),
    )


def _is_there(folder: Path) -> bool:
    """Whether a folder is there; one that may not be looked at is."""
    try:
        folder.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def is_empty(folder: Path) -> bool:
    """Whether a folder is missing or holds nothing, as a place where nothing is mounted."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except FileNotFoundError:
        return True
    except OSError:
        return False
