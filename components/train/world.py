"""The processes that train one model together: one on a laptop, many under torchrun."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from marquee.processes import cpus

_PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: one of them may be computing features."""


@dataclass(frozen=True)
class World:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    on_this_machine: int = 1
    """How many of them share this machine's cores."""
    grouped: bool = False
    """Whether torchrun started them; it may have started one alone."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    @property
    def cores(self) -> int:
        """Cores for each process."""
        return max(1, cpus() // self.on_this_machine)

    def share(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Give this process's share of rows."""
        return rows[self.rank :: self.size]

    def together(self, shares: NDArray[np.float32], length: int) -> NDArray[np.float32]:
        """Put the shares of all processes back in order, in each of them.

        Args:
            shares: [n, ...] of this process's rows.
            length: Rows in all.

        Returns:
            [length, ...].
        """
        if not self.grouped:
            return shares
        result = np.empty((length, *shares.shape[1:]), np.float32)
        for rank, part in enumerate(self.gather(shares)):
            result[rank :: self.size] = part
        return result

    def gather(self, value: Any) -> list[Any]:
        """Give what each process has, in the order of their ranks."""
        if not self.grouped:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def highest(self, mine: int) -> int:
        """Give the highest number that a process has."""
        if not self.grouped:
            return mine
        number = torch.tensor([mine], device=self.device)
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return int(number.item())

    def agree(self, module: nn.Module) -> None:
        """Give all processes the first one's running means and variances of a module."""
        if self.grouped:
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    dist.broadcast(buffer, src=0)

    def join(self, module: nn.Module) -> nn.Module:
        """Let the processes average the gradients of a module."""
        if not self.grouped:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices)


@contextmanager
def world() -> Iterator[World]:
    """Join the processes that torchrun started; alone without it."""
    if "WORLD_SIZE" not in os.environ:
        yield World(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        return
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield World(
            dist.get_rank(),
            dist.get_world_size(),
            int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
            grouped=True,
            device=device,
        )
    finally:
        dist.destroy_process_group()
