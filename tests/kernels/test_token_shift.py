"""Token shifts on grids a person can check by eye."""

import pytest
import torch

from rwkvsearch.kernels import bidirectional_shift, q_shift

# Tokens of a 3 x 3 grid:   1 2 3
#                           4 5 6
#                           7 8 9
GRID = torch.arange(1.0, 10)


def test_image_tokens_come_from_four_sides() -> None:
    x = GRID[None, :, None].expand(1, 9, 4)  # one head of four channels, all alike
    left, right, above, below = q_shift(x, 1)[0].T.tolist()
    assert left == [0, 1, 2, 0, 4, 5, 0, 7, 8]
    assert right == [2, 3, 0, 5, 6, 0, 8, 9, 0]
    assert above == [0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert below == [4, 5, 6, 7, 8, 9, 0, 0, 0]


def test_image_quarters_belong_to_each_head() -> None:
    tens = torch.arange(16) * 10.0  # channel c of token t is t + 10 c
    x = (GRID[:, None] + tens)[None]  # [1, 9, 16]: two heads of eight channels
    middle = q_shift(x, 2)[0, 4] - tens
    assert middle.tolist() == [4, 4, 6, 6, 2, 2, 8, 8] * 2


def test_text_tokens_come_from_before_and_after() -> None:
    x = torch.tensor([1.0, 2, 3])[None, :, None].expand(1, 3, 4)
    assert bidirectional_shift(x, 1)[0].T.tolist() == [[0, 1, 2]] * 2 + [[2, 3, 0]] * 2
    assert bidirectional_shift(x, 2)[0].T.tolist() == [[0, 1, 2], [2, 3, 0]] * 2


def test_a_single_token_has_no_neighbours() -> None:
    x = torch.ones(2, 1, 8)
    assert not q_shift(x, 2).any()
    assert not bidirectional_shift(x, 2).any()


@pytest.mark.parametrize("shift", [q_shift, bidirectional_shift])
def test_batch_layout_and_gradient(shift: object) -> None:
    assert callable(shift)
    x = torch.randn(3, 49, 16)
    together = shift(x, 2)
    assert torch.equal(together[1:2], shift(x[1:2], 2))
    assert torch.equal(together, shift(x.mT.contiguous().mT, 2))
    assert torch.equal(together, shift(x.repeat(1, 1, 2)[..., :16], 2))
    # A shift moves values, so its gradient moves them back: <shift(x), y> = <x, gradient>.
    leaf = x.double().requires_grad_()
    y = torch.randn(3, 49, 16, dtype=torch.float64)
    (shift(leaf, 2) * y).sum().backward()
    assert leaf.grad is not None
    torch.testing.assert_close((leaf.grad * leaf).sum(), (shift(leaf, 2) * y).sum())
