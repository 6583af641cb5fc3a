"""A perceptual hash: pictures that look the same have hashes that differ in few bits.

It survives another format, quality and size, and small changes of brightness; it does not survive
a crop, a turn or a mirror. Source: the pHash algorithm, C. Zauner, "Implementation and Benchmarking
of Perceptual Image Hash Functions" (2010), section 3.2.1.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 32


def perceptual_hash(image: Image.Image) -> int:
    """64 bits of an RGB image as a signed integer, as a database column holds it.

    Each bit says whether one of the 64 lowest frequencies but the mean is above their median.
    """
    small = image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0).convert("L")
    cosines, chosen = _tables()
    spectrum = cosines @ np.asarray(small, np.float64) @ cosines.T
    lowest = spectrum.ravel()[chosen]
    bits = lowest > np.median(lowest)
    return int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True)


def hamming(a: int | NDArray[np.int64], b: int | NDArray[np.int64]) -> NDArray[np.uint8]:
    """In how many bits hashes differ, 0 to 64; of arrays of any shapes that broadcast.

    About 10 and fewer is the same picture, unrelated ones are near 32.
    """
    different = np.bitwise_xor(np.asarray(a, np.int64), np.asarray(b, np.int64))
    # As unsigned: of a signed number the bits of its absolute value are counted.
    counts: NDArray[np.uint8] = np.asarray(np.bitwise_count(different.view(np.uint64)))
    return counts


@lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The rows of DCT-II, and where in the flat spectrum its 64 lowest frequencies are."""
    k = np.arange(_SIDE)
    cosines = np.cos(np.pi / _SIDE * np.outer(k, k + 0.5))
    order = np.argsort((k[:, None] ** 2 + k[None, :] ** 2).ravel(), kind="stable")
    return cosines, order[1:65]
