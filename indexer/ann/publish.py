"""The ann: one model's embeddings published as a FAISS file, and replaced as the library changes.

The file is derived: written under a temporary name, flushed, renamed, and only then entered in the
catalog. `docs/ann.md` has the kinds, the rules and the figures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.ann.build import Trial, add, build, make_trial, thorough_enough
from rwkvsearch.indexer.ann.file import (
    MEASURED_K,
    AnnFile,
    map_file,
    read_file,
    write_file,
)
from rwkvsearch.indexer.ann.generation import (
    Built,
    Generation,
    enter,
    not_written,
    open_generation,
    remove_unused,
)
from rwkvsearch.indexer.ann.kinds import (
    EXACT,
    TARGET,
    Kind,
    choose_kind,
    default_kind,
    kind_for,
    too_many_dead,
    too_many_fresh,
)
from rwkvsearch.indexer.blocks import (
    Block,
    blocks,
    count_live,
    image_ids,
    live_rows,
    newest_embedding,
)
from rwkvsearch.indexer.library import Library, ModelInfo

_QUESTIONS = 100  # images, and texts, that ann_recall is measured with


@dataclass(frozen=True)
class _State:
    """What there is to publish: `upto` is the newest embedding, the others are numbers of rows.

    `in_file` are in the file in use, `dead` of them have no live file; `fresh` live ones are not.
    """

    upto: int
    in_file: int
    dead: int
    fresh: int


def publish(
    library: Library,
    model: ModelInfo,
    *,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the ann file of `model` if too much has changed since the last one, or with `force`.

    The caller is the library's writer, and publishes one model at a time; it may do so in a thread
    and go on writing meanwhile: what comes later is for the next generation. Readers never wait.
    Killed at any moment, it leaves the old generation in use. `progress` is told of a library in
    PostgreSQL about how many embeddings are in its index, and how many there are.

    Raises:
        LibraryError: faiss is not installed, or the file cannot be written.
    """
    if library.is_shared:
        from rwkvsearch.indexer.team.publish import publish as build_in_database

        build_in_database(library, model, force=force, progress=progress)
        return
    old = open_generation(library, model)
    with library.read() as session:
        state = _state(session, model, old)
        kind = kind_for(session, model, state.in_file - state.dead + state.fresh)
    fits = old is not None and not force and _fits(old, state, kind)
    if state.upto == 0 or fits and not too_many_fresh(state.fresh, state.in_file):
        return
    remove_unused(library)
    path = library.path / "ann" / f"building-{os.getpid()}.tmp"
    if old and fits and kind.grows:
        built = _grow(library, model, old, state.upto, path)
    else:
        built = _make_good(library, model, kind, state.upto, path)
    enter(library, model, built)


def _make_good(library: Library, model: ModelInfo, kind: Kind, upto: int, path: Path) -> Built:
    """A file of this kind; if that is a default which misses its target here, an exact one."""
    built = make(library, model, kind, upto, path)
    rows = int(built.ann.index.ntotal)
    if kind != default_kind(rows) or kind.grows or (built.ann.ann_recall or 0) >= TARGET:
        return built
    with library.write() as session:
        choose_kind(session, model, Kind(EXACT), instead_of=kind)
    return make(library, model, Kind(EXACT), upto, path)


def make(
    library: Library,
    model: ModelInfo,
    kind: Kind,
    upto: int,
    path: Path,
    trial: Trial | None = None,
    target: float = TARGET,
) -> Built:
    """Build the file of the embeddings with ids up to `upto` at `path`, and measure it.

    It is searched as fast as reaches `target` in the `trial`; None makes one.

    Raises:
        LibraryError: there are too few for the kind, or the file cannot be written.
    """
    with library.read() as session:
        every = len(image_ids(session, model, upto))
        live = len(image_ids(session, model, upto, live=True))
    if every < kind.least:
        raise LibraryError(f"{kind.name} needs at least {kind.least:,} pictures, not {every:,}")
    only_live = too_many_dead(every - live, every)
    factory = kind.factory(live if only_live else every)
    _write(build(library, model, factory, upto, live=only_live), path)
    ann = AnnFile(map_file(path), factory)
    if kind.exact:
        return Built(path, replace(ann, ann_recall=1.0), upto)
    trial = trial or make_trial(library, model, upto, _QUESTIONS, MEASURED_K)
    return Built(path, thorough_enough(ann, trial, kind, target), upto)


def _grow(library: Library, model: ModelInfo, old: Generation, upto: int, path: Path) -> Built:
    """The old file with what is fresh; `ann_recall` stays what it was when it was built."""
    index = read_file(old.path)
    add(index, _fresh(library, model, old, upto))
    _write(index, path)
    return Built(path, replace(old.ann, index=map_file(path)), upto)


def _fresh(library: Library, model: ModelInfo, old: Generation, upto: int) -> Iterator[Block]:
    yield from blocks(library, model, after=old.upto, upto=upto, live=True)
    with library.read() as session:
        back = live_rows(session, model, old.left_out)
    yield library.unpack(back, model.dim)


def _state(session: Session, model: ModelInfo, old: Generation | None) -> _State:
    upto = newest_embedding(session, model)
    after = old.upto if old else 0
    live, newer = count_live(session, model, after)
    if old is None:
        return _State(upto, 0, 0, live)
    in_file = int(old.ann.index.ntotal)
    back = len(live_rows(session, model, old.left_out))
    return _State(upto, in_file, in_file - (live - newer - back), newer + back)


def _fits(old: Generation, state: _State, kind: Kind) -> bool:
    """Whether the file is still of the right kind, and most of it is alive."""
    right = kind.made(old.ann.kind, state.in_file - state.dead + state.fresh)
    return right and not too_many_dead(state.dead, state.in_file)


def _write(index: Any, path: Path) -> None:
    try:
        write_file(index, path)
    except OSError as error:
        raise not_written(path, error) from error
