"""Who may write what: advisory locks, which the server lifts when a connection ends.

Whoever syncs a folder holds it alone, and every folder around it together with others: so two
folders can be synced at once, unless one lies in the other. Whoever changes anything else holds the
library alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rwkvsearch.data.errors import LibraryBusy
from rwkvsearch.indexer.team.connect import team_errors

if TYPE_CHECKING:
    from rwkvsearch.indexer.team.connect import Connection

_MOST = 32  # paths that are held one by one; a server has room for a few thousand locks in all
_EVERYTHING = b""


@contextmanager
def hold(
    connect: Callable[[], Connection], name: str, only: Sequence[Path] | None
) -> Iterator[None]:
    """Hold what lies at and below some absolute paths, None for the library as a whole.

    Raises:
        LibraryBusy: somebody else holds some of it.
    """
    with team_errors(name):
        connection = connect()
        connection.autocommit = True
    try:
        for alone, key, path in _claims(only):
            try_lock = f"pg_try_advisory_lock{'' if alone else '_shared'}"
            with team_errors(name):
                row = connection.execute(f"SELECT {try_lock}(%s)", [_number(key)]).fetchone()
            if row is None or not row[0]:
                what = f"{path} into {name}" if path else f"into {name}"
                raise LibraryBusy(
                    f"another rwkvsearch is indexing {what}; wait until it is done, or stop it"
                )
        yield
    finally:
        connection.close()


def _claims(only: Sequence[Path] | None) -> Iterable[tuple[bool, bytes, Path | None]]:
    """What to hold, alone or together with others, from the outer to the inner."""
    if only is None:
        yield True, _EVERYTHING, None
        return
    yield False, _EVERYTHING, None
    own = _outermost(only)
    around = {parent for path in own for parent in path.parents}
    for path in sorted(around | own):
        yield path in own, os.fsencode(path), path


def _outermost(paths: Iterable[Path]) -> set[Path]:
    """The paths that lie in none of the others; the folder around all of them if they are many."""
    distinct = set(paths)
    found = {path for path in distinct if not distinct.intersection(path.parents)}
    return found if len(found) <= _MOST else {Path(os.path.commonpath(found))}


def _number(key: bytes) -> int:
    return int.from_bytes(hashlib.sha256(b"rwkvsearch:" + key).digest()[:8], signed=True)
