"""Bi-WKV for engines that run a fixed graph: few products, no loop over tokens, nothing in place.

The tokens are cut into `2^n` blocks of at most 13. Blocks are told apart by binary levels, as the
tokens are in `levels.py`. Within a block every pair factors at the middle token m of the block,

    d_{i+1} ... d_{t-1} = exp(c_{t-1}) exp(-c_i),    c_t = sum of log d over m .. t, signed,

once for the pairs below the diagonal and once, with the parts exchanged, for those above it. The
second part follows from the first, `-c_i = -(c_{i-1} + log d_i)`. One of the two may exceed 1, so
log d is held at `FLOOR` or above: no part that a pair uses exceeds e^72, and a decay below e^-12
counts as e^-12, which adds at most 6e-6 of the pair's product.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

FLOOR = -12.0
"""Smallest log d."""
LONGEST_BLOCK = 13
"""Most tokens of a block: e^(6 * 12) and its products with keys stay within float32."""


@dataclass(frozen=True)
class Blocks:
    """What `y = (diag(r u k) + sum of masked (r F) (k G)^T) v` needs for T tokens.

    With `E = sums @ log d` the factors are `exp(E[0])`, `exp(-(E[0] + log d))`, `exp(E[1])`,
    `exp(E[2])`, ...; F and G are those of `pairs[i]` for `masks[i]`. The masks do not overlap.
    """

    sums: tuple[NDArray[np.float32], ...]
    """Each `[T, T]`, of -1, 0 and 1."""
    pairs: tuple[tuple[int, int], ...]
    """Which of the factors the receptances and which the keys are multiplied by."""
    masks: tuple[NDArray[np.bool_], ...]
    """Each `[T, T]`: row t, column i."""


@cache
def blocks_of(tokens: int) -> Blocks:
    """Return the constants for so many tokens."""
    count = 1
    while tokens > count * LONGEST_BLOCK:
        count *= 2
    starts = np.array([round(tokens * i / count) for i in range(count + 1)])
    block = np.repeat(np.arange(count), np.diff(starts))
    sums = [_before(starts, tokens)]
    pairs, row, column = [(0, 1), (1, 0)], np.arange(tokens)[:, None], np.arange(tokens)
    same = block[:, None] == block
    masks = [same & (column < row), same & (column > row)]
    for bit in range(count.bit_length() - 1):
        boundary = starts[((block >> (bit + 1)) << (bit + 1)) + (1 << bit)][:, None]
        left = (row < boundary) & (column > row) & (column < boundary)
        right = (row >= boundary) & (column >= boundary) & (column < row)
        pairs.append((len(sums) + 1, len(sums) + 1))
        sums.append((left | right).astype(np.float32))
        masks.append(((block[:, None] ^ block) >> bit) == 1)
    return Blocks(tuple(sums), tuple(pairs), tuple(masks))


def _before(starts: NDArray[np.int64], tokens: int) -> NDArray[np.float32]:
    """Return the sums `c_{t-1}`."""
    before = np.zeros((tokens, tokens), np.float32)
    for start, end in zip(starts[:-1], starts[1:], strict=True):
        middle = (start + end) // 2
        for t in range(start, end):
            before[t, middle:t] = 1
            before[t, t:middle] = -1
    return before
