"""Check of the ann files: that they hold the embeddings.

What a file must hold is known exactly, so the image ids in it are compared one by one. Of the
embeddings in it a sample is searched, which finds itself; all of them are compared where the kind
of ann keeps them as they are and all is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rwkvsearch.indexer.ann.file import head_sha256
from rwkvsearch.indexer.ann.generation import (
    Generation,
    newest_generation,
    open_generation,
)
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.blocks import BLOCK, MARGIN, Floats, Halves, Ids, image_ids
from rwkvsearch.indexer.doctor.findings import Finding, fault, ok, some
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.tables import GenerationRow

ASKED = 64
"""Candidates in which an embedding has to find itself."""
LEAST = 0.9
"""Share that does so in an ann that is not exact."""
_REMEDY = "built anew from the embeddings"


def check_ann(library: Library, sample: int, *, full: bool) -> Iterator[Finding]:
    """Whether the ann file of every model holds its embeddings."""
    for model in library.models():
        with library.read() as session:
            row = newest_generation(session, model)
        if row is None:
            yield Finding(
                "ann",
                "note",
                f"none of {model.model_id} is published yet; searches read the embeddings",
                "built; so does the next `index`",
                Rebuild(model),
            )
            continue
        generation = open_generation(library, model)
        reasons = (
            [_why(library.path / "ann" / row.file_name, row)]
            if generation is None
            else list(_differences(library, model, generation, sample, full=full))
        )
        for reason in reasons:
            yield fault("ann", f"{row.file_name}: {reason}", _REMEDY, Rebuild(model))
        if generation is not None and not reasons:
            rows = some(len(generation.ann.ids), "row")
            yield ok("ann", f"{row.file_name}: {rows}, those of the catalog")


class Rebuild:
    """Build the ann of a model."""

    def __init__(self, model: ModelInfo) -> None:
        self.model = model

    def __call__(self, library: Library) -> None:
        """As its writer."""
        publish(library, self.model, force=True)


def _why(path: Path, row: GenerationRow) -> str:
    try:
        if (size := path.stat().st_size) != row.size:
            return f"{size:,} bytes instead of {row.size:,}"
        if head_sha256(path) != row.head_sha256:
            return "its head is not the one that was written"
    except FileNotFoundError:
        return "not there"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "no index that faiss can read"


def _differences(
    library: Library, model: ModelInfo, generation: Generation, sample: int, *, full: bool
) -> Iterator[str]:
    """What is in the file and should not be, or the other way round."""
    with library.read() as session:
        known = image_ids(session, model, generation.upto)
    ids = generation.ann.ids
    wanted = np.setdiff1d(known, generation.left_out)
    if len(ids) != len(np.unique(ids)):
        yield f"{some(len(ids) - len(np.unique(ids)), 'image')} in it twice"
    if len(more := np.setdiff1d(ids, known)):
        yield f"{some(len(more), 'image')} in it that have no embedding"
    if len(less := np.setdiff1d(wanted, ids)):
        yield f"{some(len(less), 'image')} not in it"
    both = np.intersect1d(ids, known)
    if full and generation.ann.exact:
        if wrong := _not_as_stored(library, model, generation):
            yield f"{some(wrong, 'embedding')} in it not as in the catalog"
    elif len(both):
        some_of = np.random.default_rng(0).permutation(both)[:sample]
        found = _finding_themselves(library, model, generation, np.sort(some_of))
        share = 1 if generation.ann.exact else LEAST
        if found < share * len(some_of):
            yield f"only {found:,} of {some(len(some_of), 'image')} find themselves"


def _finding_themselves(
    library: Library, model: ModelInfo, generation: Generation, images: Ids
) -> int:
    """How many of these images are among the best that are proposed for their own embedding."""
    ids, stored = library.embeddings_of(model, images.tolist())
    queries = stored.astype(np.float32)
    count = min(ASKED, len(generation.ann.ids))
    found = 0
    for image, query in zip(ids.tolist(), queries, strict=True):
        scores, proposed = generation.ann.propose(query[None], count)
        # Where so many pictures are equal to it that not all fit, its own place may be taken.
        equals = bool((scores[0] >= float(query @ query) - MARGIN).all()) and _same(
            library, model, proposed[0], query
        )
        found += image in proposed[0] or equals
    return found


def _same(library: Library, model: ModelInfo, proposed: Ids, query: Floats) -> bool:
    """Whether all proposed images have the embedding that was asked with."""
    _, stored = library.embeddings_of(model, proposed.tolist())
    return bool((stored.astype(np.float32) @ query >= 1 - 4 * MARGIN).all())


def _not_as_stored(library: Library, model: ModelInfo, generation: Generation) -> int:
    """How many embeddings in an exact file are not those of the catalog."""
    ids, wrong = generation.ann.ids, 0
    for start in range(0, len(ids), BLOCK):
        part = ids[start : start + BLOCK]
        inside = generation.ann.index.index.reconstruct_n(start, len(part))
        known, stored = library.embeddings_of(model, part.tolist())
        place = np.searchsorted(known, part)
        there = np.isin(part, known)
        wrong += _unequal(inside[there], stored[place[there]])
    return wrong


def _unequal(inside: Floats, stored: Halves) -> int:
    return int((np.abs(inside - stored.astype(np.float32)).max(axis=1, initial=0) > MARGIN).sum())
