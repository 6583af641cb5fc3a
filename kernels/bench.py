"""Every Bi-WKV backend that runs here, timed and checked: `python -m rwkvsearch.kernels.bench`.

Beside each time stands a bound: the larger of the bytes at the bandwidth of a copy and the
operations of the recurrence at the rate of a matrix product, both measured in the same run.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rwkvsearch.kernels.bi_wkv import available_backends, bi_wkv

SHAPES = {
    "B/32 image": (4, 49, 8, 80),
    "B/16 image": (1, 196, 8, 80),
    "text": (3, 77, 10, 64),
    "starter image": (16, 49, 8, 32),
    "starter text": (32, 24, 8, 32),
}
"""B, T, H, N of one micro-batch on a CPU; on a GPU B is 256."""
GPU_BATCH = 256
FORWARD_TENSORS, BACKWARD_TENSORS = 5, 9
"""`[B, T, H, N]` read and written: r, k, v, w, y; backward these and four gradients."""
FORWARD_OPERATIONS, BACKWARD_OPERATIONS = 10, 28
"""Operations for each of the `N^2` numbers of the state and token, both directions together."""


@dataclass(frozen=True)
class Machine:
    """What a device was measured to do."""

    bytes_per_second: float
    """Of a copy, read and written."""
    operations_per_second: float
    """Of a float32 matrix product."""

    def bound(self, tensors: int, operations: int, shape: tuple[int, ...]) -> float:
        """Return the least time in seconds for so many float32 tensors and operations."""
        batch, tokens, heads, size = shape
        numbers = batch * tokens * heads * size
        return max(
            4 * tensors * numbers / self.bytes_per_second,
            operations * numbers * size / self.operations_per_second,
        )


@dataclass(frozen=True)
class Row:
    """One backend on one shape; times in seconds, `error` relative to a float64 reference."""

    name: str
    shape: tuple[int, int, int, int]
    backend: str
    forward: float
    backward: float
    error: float
    forward_bound: float
    backward_bound: float


def main() -> None:
    """Read the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=1.0, help="spent on each figure")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    machine = measure_machine(device)
    sys.stdout.write(
        f"{device}, {options.threads} threads: copies {machine.bytes_per_second / 1e9:.0f} GB/s, "
        f"float32 products {machine.operations_per_second / 1e9:.0f} GFLOP/s\n"
        "ms for the whole batch, median; bound: the recurrence at those rates; "
        "error of y against float64\n"
        f"{'shape':<14}{'B, T, H x N':<18}{'backend':<11}{'forward':>9}{'bound':>8}"
        f"{'backward':>10}{'bound':>8}{'error':>10}\n"
    )
    for row in rows(device, machine, options.seconds):
        batch, tokens, heads, size = row.shape
        times = (row.forward, row.forward_bound, row.backward, row.backward_bound)
        forward, forward_bound, backward, backward_bound = (f"{1e3 * x:.2f}" for x in times)
        sys.stdout.write(
            f"{row.name:<14}{f'{batch}, {tokens}, {heads} x {size}':<18}{row.backend:<11}"
            f"{forward:>9}{forward_bound:>8}{backward:>10}{backward_bound:>8}{row.error:>10.1e}\n"
        )
    for backend, reason in available_backends(device).items():
        if reason:
            sys.stdout.write(f"{backend} left out: {reason}\n")


def rows(device: torch.device, machine: Machine, seconds: float) -> Iterator[Row]:
    """Time every backend on every shape, for about `seconds` each way."""
    for name, shape in SHAPES.items():
        if device.type != "cpu":
            shape = (GPU_BATCH, *shape[1:])
        *inputs, gy = _inputs(shape, device)
        truth = bi_wkv(*(x.double() for x in inputs), backend="reference")
        for backend, reason in available_backends(device).items():
            if reason:
                continue
            error = float((bi_wkv(*inputs, backend=backend) - truth).abs().max())
            yield Row(
                name,
                shape,
                backend,
                *_times(inputs, gy, backend, device, seconds),
                error / float(truth.abs().max()),
                machine.bound(FORWARD_TENSORS, FORWARD_OPERATIONS, shape),
                machine.bound(BACKWARD_TENSORS, BACKWARD_OPERATIONS, shape),
            )


def measure_machine(device: torch.device) -> Machine:
    """Measure the bandwidth of a copy of 256 MiB and the rate of a product of 2048 x 2048."""
    source = torch.ones(1 << 25, dtype=torch.float64, device=device)
    target, square = torch.empty_like(source), torch.ones(2048, 2048, device=device)
    copy = median_time(lambda: target.copy_(source), device, 0.5)
    product = median_time(lambda: square @ square, device, 0.5)
    return Machine(2 * 8 * source.numel() / copy, 2 * 2048**3 / product)


def median_time(function: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return the median duration in seconds of calls during `seconds`, after two to warm up."""
    times: list[float] = []
    for _ in range(2):
        function()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 3:
        _wait(device)
        began = time.perf_counter()
        function()
        _wait(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _times(
    inputs: list[Tensor], gy: Tensor, backend: str, device: torch.device, seconds: float
) -> tuple[float, float]:
    with torch.inference_mode():
        forward = median_time(lambda: bi_wkv(*inputs, backend=backend), device, seconds)
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = bi_wkv(*leaves, backend=backend)
    backward = median_time(
        lambda: torch.autograd.grad(y, leaves, gy, retain_graph=True), device, seconds
    )
    return forward, backward


def _inputs(shape: tuple[int, int, int, int], device: torch.device) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    r, k, v, w, gy = (torch.randn(shape, generator=random) for _ in range(5))
    u = torch.randn(shape[2:], generator=random)
    return [x.to(device) for x in (r, k, v, 1.5 * w - 2, u, gy)]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
