"""Bring a library up to date with its roots: scan, compare, decode, encode, write, publish.

Threads hash, decode and preprocess a few batches ahead; the calling thread encodes, and writes the
images and embeddings of a batch in one transaction. Stopped at any moment, what was written stays
and the next run goes on from there.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from sqlalchemy import insert, update

from rwkvsearch.data.errors import DataError, ImageError, ModelError
from rwkvsearch.data.images import IMAGE_SUFFIXES, MAX_MEGAPIXELS, read_picture, system_reason
from rwkvsearch.indexer.ann import import_faiss, publish
from rwkvsearch.indexer.catalog import EmbeddingRow, RootRow
from rwkvsearch.indexer.entries import (
    Prepared,
    apply_changes,
    embedded_images,
    enter_files,
    enter_images,
    enter_model,
    forget_empty_roots,
)
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.protocols import ImageEncoder, Stage, SyncEvent, SyncReport
from rwkvsearch.indexer.scan import Changes, Found, find_changes, resolve_roots

Progress = Callable[[SyncEvent], None]


def sync(
    library: Library,
    roots: Sequence[Path],
    encoder: ImageEncoder,
    *,
    workers: int | None = None,
    batch_size: int = 64,
    max_megapixels: float = MAX_MEGAPIXELS,
    progress: Progress | None = None,
) -> SyncReport:
    """Index what is new or changed below `roots`, and drop what is gone; see `SyncReport`.

    A root is a folder or an image file. `workers` threads decode (None: one per usable core, 8 at
    most); `batch_size` images are encoded and stored at a time.

    Raises:
        DataError: a root does not exist, or no root has any image.
        LibraryError: another writer, no space, no faiss, or other weights under the same model id.
        ModelError: the encoder failed, or does not give unit embeddings of its `dim`.
    """
    import_faiss()
    run = _Sync(library, encoder, batch_size, max_megapixels, progress or (lambda event: None))
    with library.writer():
        return run.run(roots, workers or min(8, len(os.sched_getaffinity(0))))


class _Sync:
    """One run: what stays the same, and the counts so far."""

    def __init__(
        self,
        library: Library,
        encoder: ImageEncoder,
        batch_size: int,
        max_megapixels: float,
        progress: Progress,
    ) -> None:
        self.library = library
        self.encoder = encoder
        self.batch_size = batch_size
        self.max_megapixels = max_megapixels
        self.progress = progress
        self.total = self.done = self.added = self.reused = 0
        self.errors: list[tuple[Path, str]] = []

    def run(self, roots: Sequence[Path], workers: int) -> SyncReport:
        started = time.monotonic()
        with self.library.write() as session:
            self.model = enter_model(session, self.encoder)
            scopes = resolve_roots(session, roots)
        changes = find_changes(self.library, scopes, self.model.key, self._on_found)
        scanned = self._check_found(changes, [scope.target for scope in scopes])
        for path, reason in changes.unreachable:
            self._report("scan", path, reason)
        with self.library.write() as session:
            apply_changes(session, changes)
        self.total = len(changes.pending)
        self._embed(changes.pending, workers)
        with self.library.write() as session:
            synced = RootRow.id.in_(changes.scanned_roots)
            session.execute(update(RootRow).where(synced).values(synced_at=time.time()))
        self._report("publish")
        publish(self.library, self.model)
        return SyncReport(
            scanned=scanned,
            added=self.added,
            reused=self.reused + len(changes.moved),
            unchanged=changes.unchanged,
            removed=len(changes.gone),
            errors=changes.still_bad + self.errors,
            unreachable=changes.unreachable,
            seconds=time.monotonic() - started,
        )

    def _on_found(self, number: int) -> None:
        if number % 256 == 0:
            self.progress(SyncEvent("scan", total=number))

    def _report(self, stage: Stage, path: Path | None = None, reason: str | None = None) -> None:
        errors = len(self.errors)
        self.progress(SyncEvent(stage, self.total, self.done, errors, self.added, path, reason))

    def _check_found(self, changes: Changes, targets: list[Path]) -> int:
        scanned = len(changes.pending) + len(changes.moved) + len(changes.still_bad)
        scanned += changes.unchanged
        if scanned or changes.known:
            return scanned
        with self.library.write() as session:
            forget_empty_roots(session)
        for path, reason in changes.unreachable:
            raise DataError(f"{path}: {reason}")
        names = ", ".join(str(target) for target in targets)
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        if all(target.is_file() for target in targets):
            raise DataError(f"{names}: not the name of a picture (known are {suffixes})")
        raise DataError(f"{names}: no images found (looked for {suffixes})")

    def _embed(self, pending: Sequence[Found], workers: int) -> None:
        batch: list[Prepared] = []
        with closing(self._prepare_all(pending, workers)) as prepared:
            for item in prepared:
                batch.append(item)
                pictures = sum(item.pixels is not None for item in batch)
                if pictures >= self.batch_size or len(batch) >= 4 * self.batch_size:
                    self._store(batch)
                    batch = []
        if batch:
            self._store(batch)

    def _prepare_all(
        self, pending: Sequence[Found], workers: int
    ) -> Generator[Prepared, None, None]:
        """In order, with two batches in the making; drops what waits when the caller stops."""
        source = iter(pending)
        pool = ThreadPoolExecutor(workers, "decode")
        try:
            ahead: deque[Future[Prepared]] = deque(
                pool.submit(self._prepare, item) for item in islice(source, 2 * self.batch_size)
            )
            while ahead:
                prepared = ahead.popleft().result()
                ahead.extend(pool.submit(self._prepare, item) for item in islice(source, 1))
                yield prepared
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _prepare(self, found: Found) -> Prepared:
        try:
            return self._read(found)
        except ImageError as error:
            return Prepared(found, error=error.reason)
        except OSError as error:
            return Prepared(found, error=system_reason(error))

    def _read(self, found: Found) -> Prepared:
        with found.path.open("rb") as stream:
            # The stat of what is read, not of what was scanned: the file may have changed since.
            status = os.fstat(stream.fileno())
            found = replace(found, stat=(status.st_size, status.st_mtime_ns, status.st_ino))
            content_hash = hashlib.file_digest(stream, "sha256").hexdigest()
            with self.library.read() as session:
                image_id = embedded_images(session, self.model, [content_hash]).get(content_hash)
            if image_id is not None:
                return Prepared(found, content_hash, image_id=image_id)
            stream.seek(0)
            picture = read_picture(
                stream, min_side=self.encoder.image_size, max_megapixels=self.max_megapixels
            )
        try:
            pixels = self.encoder.preprocess(picture.image)
        # One odd picture, say 1 x 20,000 pixels, must not end the run for all others.
        except Exception as error:
            why = " ".join(str(error).split())[:80]
            raise ImageError(str(found.path), f"cannot be preprocessed: {why}") from error
        return Prepared(found, content_hash, picture.width, picture.height, picture.format, pixels)

    def _store(self, batch: list[Prepared]) -> None:
        hashes = [item.content_hash for item in batch if item.error is None]
        with self.library.read() as session:
            image_ids = embedded_images(session, self.model, hashes)
        new = {
            item.content_hash: item
            for item in batch
            if item.pixels is not None and item.content_hash not in image_ids
        }
        embeddings = self._encode(list(new.values()))
        broken = new.keys() - embeddings.keys()
        batch = [
            replace(item, error="the model gives no finite embedding")
            if item.content_hash in broken
            else item
            for item in batch
        ]
        encoded = [item for content_hash, item in new.items() if content_hash in embeddings]
        with self.library.write() as session:
            new_ids = enter_images(session, encoded)
            rows = [
                {"image_id": new_ids[content_hash], "model": self.model.key, "data": data}
                for content_hash, data in embeddings.items()
            ]
            if rows:
                session.execute(insert(EmbeddingRow), rows)
            enter_files(session, batch, image_ids | new_ids)
        self._count(batch, len(embeddings))

    def _encode(self, items: list[Prepared]) -> dict[str, bytes]:
        """fp16 bytes by content hash; a picture without a finite embedding is left out."""
        pixels = [item.pixels for item in items if item.pixels is not None]
        if not pixels:
            return {}
        embeddings = self.encoder.encode_pixels(np.stack(pixels)).astype(np.float32)
        if embeddings.shape != (len(items), self.encoder.dim):
            raise ModelError(
                f"{self.encoder.model_id} gave embeddings of shape {embeddings.shape}, "
                f"not {(len(items), self.encoder.dim)}"
            )
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        finite = np.isfinite(norms[:, 0])
        if len(items) > 1 and not finite.any():
            raise ModelError(f"{self.encoder.model_id} gives no finite embedding for any picture")
        if (np.abs(norms[finite] - 1) > 0.01).any():
            raise ModelError(f"{self.encoder.model_id} gives embeddings that are not unit vectors")
        halves = (embeddings / norms).astype("<f2")
        return {
            item.content_hash: half.tobytes()
            for item, half, good in zip(items, halves, finite, strict=True)
            if good
        }

    def _count(self, batch: list[Prepared], embedded: int) -> None:
        bad = [(item.found.path, item.error) for item in batch if item.error is not None]
        self.errors += bad
        self.done += len(batch)
        self.added += embedded
        self.reused += len(batch) - len(bad) - embedded
        for path, reason in bad:
            self._report("embed", path, reason)
        self._report("embed")
