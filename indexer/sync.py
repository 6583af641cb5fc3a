"""Bring a library up to date with its roots: scan, compare, decode, encode, write, publish.

Stopped at any moment, what was written stays and the next run goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from sqlalchemy import update
from sqlalchemy.orm import Session

from rwkvsearch.data.errors import DataError, LibraryBusy
from rwkvsearch.data.images import IMAGE_SUFFIXES
from rwkvsearch.data.walk import Rules
from rwkvsearch.indexer.ann.file import import_faiss
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.clock import Clock
from rwkvsearch.indexer.cluster.mirror import mirror, reach
from rwkvsearch.indexer.entries import enter_model, forget_empty_roots, mark_gone, place_files
from rwkvsearch.indexer.found import Found
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.look import Look
from rwkvsearch.indexer.pipeline import Pipeline, Stored, usable_cores
from rwkvsearch.indexer.prepare import Limits, Prepared, read_beside
from rwkvsearch.indexer.protocols import ImageEncoder, Progress, Stage, SyncEvent, SyncReport
from rwkvsearch.indexer.scan import Changes, find_changes
from rwkvsearch.indexer.sources import Scope, known_targets, resolve, resolve_roots
from rwkvsearch.indexer.store import store_texts
from rwkvsearch.indexer.tables import RootRow
from rwkvsearch.indexer.texts import embed_texts

Captions = Mapping[Path, tuple[str, ...]]


class Embedding(Protocol):
    """What brings files into the library, such as `Pipeline`."""

    def run(self, pending: Sequence[Found]) -> Generator[Stored, None, None]:
        """Yield each batch once it is committed; close it to stop."""


MakeEmbedding = Callable[[Library, ModelInfo, ImageEncoder, "SyncOptions", Clock], Embedding]


@dataclass(frozen=True)
class SyncOptions:
    """How a sync works; see `data.walk.Rules` for `exclude` and `follow_links`.

    `workers` threads decode (None: one per usable core, 8 at most); `batch_size` images are encoded
    and stored at a time. `ann` is the address of a cluster that is to propose: then the library is
    mirrored there, instead of publishing an index of its own. Without `texts`, none is embedded.
    """

    exclude: Sequence[str] = ()
    follow_links: bool = False
    limits: Limits = Limits()
    workers: int | None = None
    batch_size: int = 64
    ann: str | None = None
    texts: bool = True


def sync(
    library: Library,
    roots: Sequence[Path] | None,
    encoder: ImageEncoder,
    options: SyncOptions | None = None,
    *,
    captions: Captions | None = None,
    progress: Progress | None = None,
    embedding: MakeEmbedding | None = None,
) -> SyncReport:
    """Index what is new or changed below `roots`, and mark what is gone; see `SyncReport`.

    A root is a folder, a picture or a tar of pictures; None takes all that were indexed before.
    `captions` are texts by the absolute path of a picture, which is indexed like a root.
    `embedding` makes what reads and embeds, `pipeline_of` by default.

    Raises:
        DataError: a root does not exist, or no root has any image.
        LibraryError: another writer, no space, no faiss, no cluster at the address of one, or other
            weights under the same model id.
        ModelError: the encoder failed, or does not give unit embeddings of its `dim`.
    """
    if options is None or options.ann is None:
        import_faiss()
    run = _Sync(
        library, encoder, options or SyncOptions(), captions, progress, embedding or pipeline_of
    )
    with library.writer(_places(library, roots, captions)):
        return run.run(roots)


def _places(
    library: Library, roots: Sequence[Path] | None, captions: Captions | None
) -> list[Path]:
    """What a sync may change: everything at and below these absolute paths."""
    if roots is not None:
        return [resolve(path) for path in (*roots, *(captions or ()))]
    with library.read() as session:
        return known_targets(session)


def look_of(library: Path, options: SyncOptions, captions: Captions) -> Look:
    """How a sync into the directory of a library looks for pictures."""
    skip = frozenset({library.resolve() / "thumbs"})
    return Look(Rules(options.exclude, skip, options.follow_links), captions)


def pipeline_of(
    library: Library, model: ModelInfo, encoder: ImageEncoder, options: SyncOptions, clock: Clock
) -> Pipeline:
    """The pipeline of a sync with these options."""
    workers = options.workers or min(8, usable_cores())
    return Pipeline(library, model, encoder, clock, options.limits, workers, options.batch_size)


@dataclass
class _Counts:
    total: int = 0
    done: int = 0
    added: int = 0
    reused: int = 0
    errors: list[tuple[Path, str]] = field(default_factory=list)


class _Sync:
    """One run: what stays the same, and the counts so far."""

    def __init__(
        self,
        library: Library,
        encoder: ImageEncoder,
        options: SyncOptions,
        captions: Captions | None,
        progress: Progress | None,
        embedding: MakeEmbedding,
    ) -> None:
        self.make_embedding = embedding
        self.library = library
        self.encoder = encoder
        self.options = options
        self.captions = captions or {}
        self.progress = progress or (lambda event: None)
        self.counts = _Counts()
        self.clock = Clock()
        self.faults: list[tuple[Path, str]] = []

    def run(self, roots: Sequence[Path] | None) -> SyncReport:
        started = time.monotonic()
        with self.clock.time("scan"):
            changes = self._scan(roots)
            if self.options.ann:
                reach(self.library, self.model, self.options.ann)
            self._apply(changes)
        self._embed(changes.pending)
        with self.clock.time("texts"):
            told = self._embed_texts() if self.options.texts else 0
        self.library.writing(lambda session: _mark_synced(session, changes.scanned_roots))
        with self.clock.time("publish"):
            self._publish()
        counts = self.counts
        return SyncReport(
            scanned=self.scanned,
            added=counts.added,
            reused=counts.reused + len(changes.moved),
            unchanged=changes.unchanged,
            removed=len(changes.gone),
            errors=changes.still_bad + changes.unusable + counts.errors,
            unreachable=changes.unreachable,
            faults=self.faults,
            texts=told,
            seconds=time.monotonic() - started,
            profile=self.clock.profile(),
        )

    def _scan(self, roots: Sequence[Path] | None) -> Changes:
        targets, scopes = self.library.writing(lambda session: self._begin(session, roots))
        look = look_of(self.library.path, self.options, self.captions)
        changes = find_changes(self.library, scopes, self.model.key, look, self._on_found)
        self.scanned = len(changes.pending) + len(changes.moved) + len(changes.still_bad)
        self.scanned += changes.unchanged + len(changes.unusable)
        if self.scanned == len(changes.unusable) and not changes.known:
            ids = [scope.root_id for scope in scopes]
            self.library.writing(lambda session: forget_empty_roots(session, ids))
            for path, reason in changes.unreachable + changes.unusable:
                raise DataError(f"{path}: {reason}")
            raise _nothing_found(targets)
        self.counts.total = len(changes.pending)
        for path, reason in changes.unreachable + changes.unusable:
            self._report("scan", path, reason)
        return changes

    def _begin(
        self, session: Session, roots: Sequence[Path] | None
    ) -> tuple[list[Path], list[Scope]]:
        """What is looked at, and where it belongs in the catalog."""
        self.model = enter_model(session, self.encoder)
        targets = known_targets(session) if roots is None else [*roots, *self.captions]
        return targets, resolve_roots(session, targets)

    def _apply(self, changes: Changes) -> None:
        self.library.writing(partial(_place, changes))
        for start in range(0, len(changes.retold), self.options.batch_size):
            items = changes.retold[start : start + self.options.batch_size]
            read = [(item, *read_beside(item)) for item in items]
            told = [(item, said) for item, said, _ in read]
            self.library.writing(partial(store_texts, items=told))
            for *_, faults in read:
                self._on_faults(faults)

    def _embed(self, pending: Sequence[Found]) -> None:
        self._report("embed")
        make = self.make_embedding
        embedding = make(self.library, self.model, self.encoder, self.options, self.clock)
        with closing(embedding.run(pending)) as batches:
            for stored in batches:
                self._count(stored.batch, stored.embedded)

    def _publish(self) -> None:
        if self.options.ann:
            with suppress(LibraryBusy):  # another writer of a team is at it; searches find all
                mirror(self.library, self.model, self.options.ann, self._on_mirrored)
            return
        self._report("publish")
        publish(self.library, self.model, progress=self._on_published)

    def _on_published(self, done: int, total: int) -> None:
        self.progress(SyncEvent("publish", total, done, len(self.counts.errors)))

    def _embed_texts(self) -> int:
        return embed_texts(self.library, self.model, self.encoder, self._on_text)

    def _count(self, batch: list[Prepared], embedded: int) -> None:
        bad = [(item.found.path, item.error) for item in batch if item.error is not None]
        counts = self.counts
        counts.errors += bad
        counts.done += len(batch)
        counts.added += embedded
        counts.reused += len(batch) - len(bad) - embedded
        for path, reason in bad:
            self._report("embed", path, reason)
        for item in batch:
            self._on_faults(item.faults)
        self._report("embed")

    def _on_faults(self, faults: Sequence[tuple[Path, str]]) -> None:
        self.faults += faults
        for path, reason in faults:
            self._report("embed", path, reason)

    def _on_found(self, number: int) -> None:
        if number % 256 == 0:
            self.progress(SyncEvent("scan", total=number))

    def _on_mirrored(self, done: int, total: int) -> None:
        self.progress(SyncEvent("mirror", total, done, len(self.counts.errors)))

    def _on_text(self, done: int, total: int) -> None:
        self.progress(SyncEvent("captions", total, done, len(self.counts.errors)))

    def _report(self, stage: Stage, path: Path | None = None, reason: str | None = None) -> None:
        counts = self.counts
        errors = len(counts.errors)
        self.progress(
            SyncEvent(stage, counts.total, counts.done, errors, counts.added, path, reason)
        )


def _place(changes: Changes, session: Session) -> None:
    mark_gone(session, changes.gone)
    place_files(session, changes.moved + changes.refreshed)


def _mark_synced(session: Session, roots: Mapping[int, str | None]) -> None:
    for root_id, stamp in sorted(roots.items()):
        synced = {"synced_at": time.time(), "stamp": stamp}
        session.execute(update(RootRow).where(RootRow.id == root_id).values(synced))


def _nothing_found(targets: Sequence[Path]) -> DataError:
    names = ", ".join(str(target) for target in targets)
    suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
    if not targets:
        return DataError("nothing was indexed before: name a folder of pictures")
    return DataError(f"{names}: no images found (looked for {suffixes})")
