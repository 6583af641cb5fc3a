"""Check of the kept results of measurements, which nothing else in the library depends on."""

from __future__ import annotations

from collections.abc import Iterator

from rwkvsearch.indexer.doctor.findings import Finding, fault, note, ok, some
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.results import FOLDER, interrupted, kept_results

_BY_HAND = "remove the file, if nothing in it can be saved; --fix leaves it alone"


def check_results(library: Library) -> Iterator[Finding]:
    """Whether every file of a kept result can be read; a repair removes only unfinished ones."""
    kept, unreadable = kept_results(library.path)
    for one in unreadable:
        text = f"{FOLDER}/{one.file}: {one.reason}"
        newer = "upgrade rwkvsearch to see it"
        yield note("results", text, newer) if one.newer else fault("results", text, _BY_HAND)
    parts = interrupted(library.path)
    if parts:
        what = f"{some(len(parts), 'file')} in {FOLDER}/ of a command that was killed"
        yield fault("results", what, "removed", _remove_interrupted)
    if kept and not unreadable and not parts:
        yield ok("results", f"{some(len(kept), 'kept result')} can be read")


def _remove_interrupted(library: Library) -> None:
    for part in interrupted(library.path):
        part.unlink(missing_ok=True)
