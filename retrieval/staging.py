"""Arrays to a GPU while it computes: pinned memory, a stream for copies, parts that fit.

The loop knows nothing of GPUs, so it runs on a CPU as well, where nothing is copied.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PART = 256
"""Rows of one part: enough to fill a GPU, few enough for the first to arrive soon."""


class Staging:
    """Runs a function over the rows of arrays, the next part on its way while one is computed.

    When a part does not fit into the memory of the device, it and all later ones are halved.
    """

    def __init__(self, device: torch.device, part: int = PART) -> None:
        self.part = part
        self._device = device
        self._copies = _stream(device)

    def map(self, function: Callable[[Tensor], Tensor], rows: NDArray[np.generic]) -> Tensor:
        """Return `function` of all `rows` `[B, ...]`, part by part, on the CPU.

        Raises:
            torch.OutOfMemoryError: not even one row fits.
        """
        while True:
            try:
                return self._map(function, torch.split(torch.from_numpy(rows), self.part))
            except torch.OutOfMemoryError:
                if self.part == 1:
                    raise
                self.part = max(1, min(self.part, len(rows)) // 2)
            if self._copies is not None:
                torch.cuda.empty_cache()

    def _map(self, function: Callable[[Tensor], Tensor], parts: tuple[Tensor, ...]) -> Tensor:
        results = []
        ahead = self._send(parts[0])
        for following in (*parts[1:], None):
            part = self._arrived(ahead)
            if following is not None:
                ahead = self._send(following)
            results.append(function(part))
        return torch.cat(results).cpu()

    def _send(self, part: Tensor) -> Tensor:
        """Begin to copy; the pinned memory is kept by torch until the copy is done."""
        if self._copies is None:
            return part.to(self._device)
        with torch.cuda.stream(self._copies):
            return part.pin_memory().to(self._device, non_blocking=True)

    def _arrived(self, part: Tensor) -> Tensor:
        """Let the computing stream wait for the copies, and keep the memory until it has read."""
        if self._copies is not None:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_stream(self._copies)
            part.record_stream(computing)
        return part


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
