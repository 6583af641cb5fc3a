"""All pairs of 64-bit hashes that differ in few bits, without comparing each with each.

Two hashes that differ in `n` bits agree in at least one of `n + 1` blocks (the pigeonhole
principle), so only hashes that share a block are compared, and no pair is missed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.perceptual import hamming

_BITS = 64
_CELLS = 1 << 16  # pairs compared at a time

Hashes = NDArray[np.int64]
Positions = NDArray[np.int64]


def near_pairs(hashes: Hashes, max_distance: int) -> Positions:
    """Positions `[P, 2]`, the smaller first, of distinct `hashes` `[N]` at most so far apart."""
    parts = [np.empty((0, 2), np.int64)]
    for block in _blocks(hashes, max_distance + 1):
        order = np.argsort(block, kind="stable")
        ends = np.flatnonzero(np.diff(block[order])) + 1
        for start, end in zip([0, *ends.tolist()], [*ends.tolist(), len(order)], strict=True):
            if end - start > 1:
                parts.extend(_near_in(hashes, np.sort(order[start:end]), max_distance))
    return np.unique(np.concatenate(parts), axis=0)


def _blocks(hashes: Hashes, number: int) -> Iterator[NDArray[np.uint64]]:
    """The bits of all hashes in `number` blocks of nearly the same width."""
    bits = hashes.view(np.uint64)
    number = min(number, _BITS)
    edges = [_BITS * at // number for at in range(number + 1)]
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        yield (bits >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)


def _near_in(hashes: Hashes, bucket: Positions, max_distance: int) -> Iterator[Positions]:
    """The near ones among the ascending positions of a bucket."""
    step = max(1, _CELLS // len(bucket))
    own = hashes[bucket]
    for start in range(0, len(bucket), step):
        far = hamming(own[start : start + step, None], own[None, start:])
        row, column = np.nonzero(far <= max_distance)
        later = column > row
        yield np.stack([bucket[start + row[later]], bucket[start + column[later]]], axis=1)
