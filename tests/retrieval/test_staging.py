"""The loop that feeds a GPU, on a CPU: parts, order, memory. The streams themselves need a GPU."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rwkvsearch.retrieval.staging import Staging

CPU = torch.device("cpu")


@pytest.mark.parametrize("number", [1, 3, 4, 5, 13])
def test_parts_in_order(number: int) -> None:
    rows = np.random.default_rng(0).random((number, 6), np.float32)
    seen: list[int] = []

    def double(part: Tensor) -> Tensor:
        seen.append(len(part))
        return 2 * part

    result = Staging(CPU, part=4).map(double, rows)
    np.testing.assert_array_equal(result.numpy(), 2 * rows)
    assert sum(seen) == number
    assert max(seen) <= 4


def test_the_next_part_is_sent_before_one_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    send = Staging._send

    def noted(self: Staging, part: Tensor) -> Tensor:
        events.append(f"send {int(part[0])}")
        return send(self, part)

    def compute(part: Tensor) -> Tensor:
        events.append(f"compute {int(part[0])}")
        return part

    monkeypatch.setattr(Staging, "_send", noted)
    Staging(CPU, part=1).map(compute, np.arange(3))
    assert events == ["send 0", "send 1", "compute 0", "send 2", "compute 1", "compute 2"]


def test_parts_shrink_until_they_fit() -> None:
    rows = np.arange(40, dtype=np.float32)[:, None]

    def small(part: Tensor) -> Tensor:
        if len(part) > 3:
            raise torch.OutOfMemoryError
        return part + 1

    staging = Staging(CPU, part=16)
    np.testing.assert_array_equal(staging.map(small, rows).numpy(), rows + 1)
    assert staging.part == 2


def test_not_even_one_row_fits() -> None:
    def never(part: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        Staging(CPU).map(never, np.zeros((5, 2), np.float32))


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    rows = np.random.default_rng(0).random((1000, 64), np.float32)
    result = Staging(torch.device("cuda"), part=64).map(lambda part: part.sqrt(), rows)
    np.testing.assert_allclose(result.numpy(), np.sqrt(rows), rtol=1e-6)
