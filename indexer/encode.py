"""Pixels to the bytes that are stored, with what an encoder may do wrong found out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import ModelError
from rwkvsearch.indexer.protocols import ImageEncoder


def encode(encoder: ImageEncoder, pixels: Mapping[str, NDArray[np.float32]]) -> dict[str, bytes]:
    """fp16 bytes of the embeddings of pictures `[3, S, S]`, under the same keys.

    A picture without a finite embedding is left out.

    Raises:
        ModelError: another shape, no finite embedding at all, or none of unit length.
    """
    if not pixels:
        return {}
    embeddings = encoder.encode_pixels(np.stack([*pixels.values()]))
    halves, finite = to_halves(encoder, embeddings, len(pixels))
    if len(pixels) > 1 and not finite.any():
        raise ModelError(f"{encoder.model_id} gives no finite embedding for any picture")
    packed = zip(pixels, halves, finite, strict=True)
    return {key: half.tobytes() for key, half, good in packed if good}


def to_halves(
    encoder: ImageEncoder, embeddings: NDArray[np.float32], number: int
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Embeddings `[number, D]` as stored, little-endian fp16, and which of them are finite.

    Raises:
        ModelError: another shape, or a finite one that is not of unit length.
    """
    values = embeddings.astype(np.float32)
    if values.shape != (number, encoder.dim):
        raise ModelError(
            f"{encoder.model_id} gave embeddings of shape {values.shape}, "
            f"not {(number, encoder.dim)}"
        )
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    finite = np.isfinite(norms[:, 0])
    if (np.abs(norms[finite] - 1) > 0.01).any():
        raise ModelError(f"{encoder.model_id} gives embeddings that are not unit vectors")
    return (values / norms).astype("<f2"), finite
