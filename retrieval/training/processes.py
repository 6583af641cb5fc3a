"""Several processes or machines that train one model, started by `torchrun`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torch.nn import functional

from rwkvsearch.retrieval.training.mixture import share_of


@dataclass(frozen=True)
class Processes:
    """This process, `rank` of `count`; with a count of 1 nothing is exchanged."""

    rank: int = 0
    count: int = 1

    def gather(self, rows: Tensor, total: int) -> Tensor:
        """Return the `total` rows of all processes in order; only own rows carry gradients.

        Process i must hand in its `share_of(total, i, count)` rows.
        """
        if self.count == 1:
            return rows
        shares = [share_of(total, rank, self.count) for rank in range(self.count)]
        longest = max(end - start for start, end in shares)
        padded = functional.pad(rows.detach(), (0, 0, 0, longest - len(rows))).contiguous()
        found = [torch.empty_like(padded) for _ in shares]
        distributed.all_gather(found, padded)
        parts = [part[: end - start] for part, (start, end) in zip(found, shares, strict=True)]
        parts[self.rank] = rows
        return torch.cat(parts)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in place."""
        if self.count > 1 and tensors:
            flat = torch.cat([x.flatten() for x in tensors])
            distributed.all_reduce(flat)
            parts = torch.split(flat, [x.numel() for x in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def wait(self) -> None:
        """Return when all have come here."""
        if self.count > 1:
            distributed.barrier()


ALONE = Processes()


def own_device(name: str) -> torch.device:
    """Return the device called `name`; for `cuda` the GPU with this process's local rank."""
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device(name)


def join_processes(device: torch.device) -> Processes:
    """Meet the others where `torchrun` started this process; alone otherwise."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(distributed.get_rank(), distributed.get_world_size())


def leave_processes(processes: Processes) -> None:
    """Undo `join_processes`."""
    if processes.count > 1:
        distributed.destroy_process_group()
