"""What a sync would take, in time and in space, out of a sample of the pictures it would read."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from rwkvsearch.indexer.clock import Clock, Profile
from rwkvsearch.indexer.entries import enter_model
from rwkvsearch.indexer.found import Found, Stat
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.protocols import ImageEncoder, Progress, SyncEvent
from rwkvsearch.indexer.scan import find_changes, read_files
from rwkvsearch.indexer.sources import LOOSE, known_targets, resolve_roots
from rwkvsearch.indexer.sync import Captions, SyncOptions, look_of, pipeline_of
from rwkvsearch.indexer.tables import RootRow
from rwkvsearch.indexer.texts import embed_texts

SAMPLE = 200
"""Pictures that are read, spread evenly over the new ones."""


@dataclass(frozen=True)
class SyncEstimate:
    """What a sync would find and take; `bad` counts files of the `sampled` ones.

    `seconds` and `bytes` are for all `new` files, as if each had a content of its own: copies and
    moved files are only known for what they are once they are read, and cost less.
    """

    found: int
    new: int
    sampled: int
    bad: int
    seconds: float
    bytes: int
    profile: Profile


def estimate(
    library: Library | None,
    roots: Sequence[Path] | None,
    encoder: ImageEncoder,
    options: SyncOptions | None = None,
    *,
    captions: Captions | None = None,
    progress: Progress | None = None,
) -> SyncEstimate:
    """Predict `sync` with the same arguments; `library` may be None, and is only read.

    The sample goes through the very pipeline of a sync, into a library in a temporary folder.

    Raises:
        DataError: a root does not exist.
        ModelError: the encoder failed, or does not give unit embeddings of its `dim`.
    """
    options = options or SyncOptions()
    report = progress or (lambda event: None)
    clock = Clock()
    with (
        TemporaryDirectory(prefix="rwkvsearch-") as folder,
        Library.create(Path(folder)) as scratch,
    ):
        with clock.time("scan"), scratch.write() as session:
            model = enter_model(session, encoder)
            targets = _targets(library, roots, captions or {})
            _add_known_roots(session, library)
            scopes = resolve_roots(session, targets)
        with clock.time("scan"):
            look = look_of(library.path if library else scratch.path, options, captions or {})
            changes = find_changes(
                scratch, scopes, model.key, look, lambda n: report(SyncEvent("scan", n))
            )
            new = _new_ones(library, encoder, changes.pending)
        sample = spread(new, SAMPLE)
        empty = _size(scratch)
        bad = _try(scratch, model, encoder, options, sample, clock, report)
        used = _size(scratch) - empty
    profile = clock.profile()
    per_file = (profile.pipeline + profile.busy["texts"]) / max(1, len(sample))
    ann = encoder.dim * 2 + encoder.dim // 8 + 16  # bytes of the largest kind that is a default
    return SyncEstimate(
        found=len(changes.pending),
        new=len(new),
        sampled=len(sample),
        bad=bad,
        seconds=profile.busy["scan"] + per_file * len(new),
        bytes=round((used / max(1, len(sample)) + ann) * len(new)),
        profile=profile,
    )


def spread(items: Sequence[Found], number: int) -> list[Found]:
    """One of each of `number` equal stretches, drawn by a fixed seed; all if they are fewer."""
    if len(items) <= number:
        return [*items]
    draw = random.Random(0)
    edges = [len(items) * at // number for at in range(number + 1)]
    return [items[draw.randrange(start, end)] for start, end in zip(edges, edges[1:], strict=False)]


def _targets(
    library: Library | None,
    roots: Sequence[Path] | None,
    captions: Captions,
) -> list[Path]:
    if roots is not None or library is None:
        return [*(roots or ()), *captions]
    with library.read() as session:
        return known_targets(session)


def _add_known_roots(session: Session, library: Library | None) -> None:
    """A folder inside a known one is walked as a part of it: ignore files above it count."""
    if library is None:
        return
    with library.read() as known:
        for path, kind in known.execute(select(RootRow.path, RootRow.kind)):
            if kind != LOOSE:
                session.add(RootRow(path=path, kind=kind))
    session.flush()


def _new_ones(
    library: Library | None, encoder: ImageEncoder, found: Sequence[Found]
) -> list[Found]:
    """Those of the pictures that the library does not know as they are, embedded by this model."""
    if library is None:
        return [*found]
    ids = (encoder.model_id, encoder.preprocessing_id)
    model = next((m for m in library.models() if (m.model_id, m.preprocessing_id) == ids), None)
    if model is None:
        return [*found]
    with library.read() as session:
        known = _known_stats(session, model)
    return [item for item in found if not _is_known(known.get(item.path), item.stat)]


def _known_stats(session: Session, model: ModelInfo) -> dict[Path, Stat]:
    known = {}
    for root in session.scalars(select(RootRow)):
        for name, file in read_files(session, root.id, model.key):
            if file.embedded:
                known[root.path / name] = file.stat
    return known


def _is_known(known: Stat | None, stat: Stat) -> bool:
    return known is not None and known.is_same(stat)


def _try(
    scratch: Library,
    model: ModelInfo,
    encoder: ImageEncoder,
    options: SyncOptions,
    sample: Sequence[Found],
    clock: Clock,
    report: Progress,
) -> int:
    """Index the sample into the empty library; how many files of it are bad."""
    if not sample:
        return 0
    shape = (min(len(sample), options.batch_size), 3, encoder.image_size, encoder.image_size)
    encoder.encode_pixels(np.zeros(shape, np.float32))  # the first call may compile, start threads
    bad = done = 0
    pipeline = pipeline_of(scratch, model, encoder, options, clock)
    fresh = [replace(item, row_id=None) for item in sample]
    with closing(pipeline.run(fresh)) as batches:
        for stored in batches:
            bad += sum(item.error is not None for item in stored.batch)
            done += len(stored.batch)
            report(SyncEvent("embed", len(sample), done, bad))
    with clock.time("texts"):
        embed_texts(scratch, model, encoder, lambda done, total: None)
    return bad


def _size(library: Library) -> int:
    """Bytes of the catalog, whatever is still in its log among them."""
    with library.write() as session:
        pages = session.connection().exec_driver_sql("PRAGMA page_count").scalar_one()
        return int(pages * session.connection().exec_driver_sql("PRAGMA page_size").scalar_one())
