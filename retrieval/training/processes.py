"""Several processes or machines that train one model, started by `torchrun`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torch.nn import functional

from rwkvsearch.data.errors import DataError
from rwkvsearch.retrieval.encoder import usable_device
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

    def agree(self, step: int, tensors: Sequence[Tensor]) -> None:
        """Give all processes the tensors of the first, in place.

        Raises:
            DataError: they are not at the same step: the run folder is not one for all of them.
        """
        if self.count == 1:
            return
        own = torch.tensor([step], device=tensors[0].device)
        steps = [torch.empty_like(own) for _ in range(self.count)]
        distributed.all_gather(steps, own)
        if len({int(x) for x in steps}) > 1:
            found = ", ".join(str(int(x)) for x in steps)
            raise DataError(f"processes go on from different steps ({found}): they need one --to")
        for tensor in tensors:
            distributed.broadcast(tensor, 0)

    def wait(self) -> None:
        """Return when all have come here."""
        if self.count > 1:
            distributed.barrier()


ALONE = Processes()


def own_device(name: str) -> torch.device:
    """Return the device called `name`; for `cuda` the GPU with this process's local rank.

    Raises:
        ModelError: it cannot be used.
    """
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    return usable_device(name)


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
