"""Checks of what made the embeddings: the weights, and that they still make the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from sqlalchemy import func, select

from rwkvsearch.data.errors import ImageError, LibraryError
from rwkvsearch.data.images import read_picture
from rwkvsearch.indexer.doctor.embeddings import drop_embeddings
from rwkvsearch.indexer.doctor.findings import Finding, WeightsCheck, fault, ok, some
from rwkvsearch.indexer.library import IS_LIVE, Library, ModelInfo
from rwkvsearch.indexer.protocols import ImageEncoder
from rwkvsearch.indexer.tables import EmbeddingRow

_ALIKE = 0.99
"""Least score of two embeddings of one picture; a lower precision and scaled decoding cost 1e-3."""


def check_weights(library: Library, weights: WeightsCheck) -> Iterator[Finding]:
    """Whether the models of this library are here as they were."""
    for model in library.models():
        state, said = weights(model)
        remedy = "pull, train or install the model again" if state == "fault" else ""
        yield Finding("weights", state, f"{model.model_id}: {said}", remedy)


def check_by_embedding(library: Library, encoder: ImageEncoder, number: int) -> Iterator[Finding]:
    """Embed `number` pictures again and compare."""
    model = library.model(encoder.model_id, encoder.preprocessing_id)
    of_model = select(EmbeddingRow.image_id).where(EmbeddingRow.model == model.key, IS_LIVE)
    with library.read() as session:
        images = session.scalars(of_model.order_by(func.random()).limit(number)).all()
    ids, stored = library.embeddings_of(model, images)
    other, done = [], 0
    for image_id, embedding in zip(ids.tolist(), stored.astype(np.float32), strict=True):
        try:
            with library.open_image(image_id) as stream:
                picture = read_picture(stream, min_side=encoder.image_size)
        except (ImageError, LibraryError):
            continue  # files have a check of their own
        again = encoder.encode_pixels(encoder.preprocess(picture.image)[None])[0]
        done += 1
        if float(again @ embedding) < _ALIKE:
            other.append(image_id)
    if other:
        what = f"{some(len(other), 'picture')} of {done:,} embedded again came out otherwise"
        yield fault("embedding", what, "dropped; embedded by the next `index`", _drop(model, other))
    else:
        yield ok("embedding", f"{some(done, 'picture')} embedded again came out the same")


def _drop(model: ModelInfo, image_ids: list[int]) -> Callable[[Library], None]:
    def fix(library: Library) -> None:
        with library.write() as session:
            of_model = select(EmbeddingRow.id).where(EmbeddingRow.model == model.key)
            rows = session.scalars(of_model.where(EmbeddingRow.image_id.in_(image_ids))).all()
            drop_embeddings(session, EmbeddingRow, rows)

    return fix
