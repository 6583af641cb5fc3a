"""Bi-WKV by the constants of `blocks.py`, in float32, against the definition in float64."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rwkvsearch.kernels.blocks import FLOOR, blocks_of
from rwkvsearch.kernels.reference import bi_wkv_reference, decay_exponent


def by_blocks(
    r: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    log_decay: NDArray[np.float32],
    u: NDArray[np.float32],
) -> NDArray[np.float32]:
    """One head `[T, N]`."""
    blocks = blocks_of(len(r))
    with np.errstate(over="ignore", invalid="ignore"):  # in pairs that no mask takes
        held = np.maximum(log_decay, np.float32(FLOOR))
        before, *levels = (terms @ held for terms in blocks.sums)
        factors = [np.exp(x) for x in (before, -(before + held), *levels)]
        attention = np.diag((r * u * k).sum(1))
        for (f, g), mask in zip(blocks.pairs, blocks.masks, strict=True):
            attention = np.where(mask, (r * factors[f]) @ (k * factors[g]).T, attention)
    return attention @ v


@pytest.mark.parametrize("tokens", [1, 2, 7, 13, 14, 24, 49, 63, 77, 98, 196])
@pytest.mark.parametrize(("mean", "spread"), [(-2, 1.5), (-12, 1), (4, 1), (0, 40)])
def test_equals_the_definition(tokens: int, mean: float, spread: float) -> None:
    random = np.random.default_rng(tokens)
    r, k, v, w = random.standard_normal((4, tokens, 16)).astype(np.float32)
    w, u = mean + spread * w, random.standard_normal(16).astype(np.float32)
    got = by_blocks(r, k, v, decay_exponent(torch.from_numpy(w)).numpy(), u)
    double = [torch.from_numpy(x[None, :, None]).double() for x in (r, k, v, w)]
    wanted = bi_wkv_reference(*double, torch.from_numpy(u[None]).double())[0, :, 0].numpy()
    assert np.abs(got - wanted).max() < 2e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("tokens", [1, 24, 49, 77, 196])
def test_every_pair_belongs_to_one_mask(tokens: int) -> None:
    owners = np.sum(np.stack(blocks_of(tokens).masks), axis=0)
    assert np.array_equal(owners, 1 - np.eye(tokens))


@pytest.mark.parametrize("tokens", [24, 49, 77, 196])
def test_factors_in_use_fit_float32(tokens: int) -> None:
    blocks = blocks_of(tokens)
    before, *levels = blocks.sums
    sums = [before, -(before + np.eye(tokens, dtype=np.float32)), *levels]
    for (f, g), mask in zip(blocks.pairs, blocks.masks, strict=True):
        for terms, used in ((sums[f], mask.any(1)), (sums[g], mask.any(0))):
            assert np.abs(np.minimum(terms[used], 0).sum(1)).max() * -FLOOR <= 72
