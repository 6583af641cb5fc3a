"""The table of the benchmark has a row for every backend that runs, and its bounds add up."""

import sys

import pytest
import torch

from rwkvsearch.kernels import available_backends, bench
from rwkvsearch.kernels.bench import Machine


def test_bound_is_the_slower_of_memory_and_arithmetic() -> None:
    numbers = 2 * 3 * 5 * 8
    assert Machine(1.0, 1e30).bound(5, 10, (2, 3, 5, 8)) == 4 * 5 * numbers
    assert Machine(1e30, 1.0).bound(5, 10, (2, 3, 5, 8)) == 10 * numbers * 8


def test_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "SHAPES", {"tiny": (1, 5, 2, 4)})
    monkeypatch.setattr(bench, "measure_machine", lambda _: Machine(1e10, 1e11))
    arguments = ["bench", "--device", "cpu", "--seconds", "0", "--threads"]
    monkeypatch.setattr(sys, "argv", [*arguments, str(torch.get_num_threads())])
    bench.main()
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.startswith("tiny")]
    backends = available_backends()
    assert [row[6] for row in rows] == [name for name, reason in backends.items() if not reason]
    assert all(float(row[-1]) < 5e-6 and float(row[7]) > 0 for row in rows)
    left_out = [name for name, reason in backends.items() if reason]
    assert all(any(line.startswith(f"{name} left out: ") for line in lines) for name in left_out)
