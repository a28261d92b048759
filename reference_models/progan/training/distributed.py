"""Collective operations between the processes that train together.

`torchrun` starts these processes. A process started otherwise is the only rank, and the operations then
return at once. Gradients are all-reduced as one flat tensor. The networks have no wrapper such as
DistributedDataParallel, through which the gradient penalty would have to differentiate twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from pgmetrics.errors import OptionError, PgmetricsError

# Ranks wait for each other while the first one writes checkpoints or one of them decodes more slowly.
_PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train together.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the first rank, which alone writes files."""
        return self.rank == 0

    def all_reduce_sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks; float32, with equal shapes on all ranks."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _together():
            dist.all_reduce(flat)
        for tensor, total in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def all_reduce_max(self, number: int) -> int:
        """Return the maximum of the numbers that the ranks pass."""
        if self.size == 1:
            return number
        given = torch.tensor(number)
        with _together():
            dist.all_reduce(given, dist.ReduceOp.MAX)
        return int(given)

    def broadcast_from_first(self, number: int) -> int:
        """Return the number that the first rank passes; the numbers of the other ranks are ignored."""
        if self.size == 1:
            return number
        given = torch.tensor(number)
        with _together():
            dist.broadcast(given, src=0)
        return int(given)


@contextmanager
def _together() -> Iterator[None]:
    """Raise a PgmetricsError if a collective operation fails because another rank has ended."""
    try:
        yield
    except RuntimeError as error:
        raise PgmetricsError("another of the processes that train together has ended; it says why") from error


def follows() -> bool:
    """Return whether this is a rank other than the first, so that only the first one prints."""
    return _are_several() and os.environ["RANK"] != "0"


def _are_several() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ


@contextmanager
def process_group() -> Iterator[Ranks]:
    """Join the processes that `torchrun` started, and leave them at the end; a single process joins nothing.

    Raises:
        OptionError: some of torchrun's environment variables are missing.
    """
    if not _are_several():
        yield Ranks()
        return
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    # The functions of this module keep the process group that exists at its first import as a default, and
    # never release it. An optimizer's first step can cause that import, so it happens here, before the group
    # exists. A group that is never released has threads that can abort the process while Python ends.
    import torch.distributed.nn  # noqa: F401

    try:
        # PyTorch picks the backend by device: gloo for CPU tensors, NCCL for CUDA tensors.
        dist.init_process_group(timeout=_PATIENCE)
    except ValueError as error:
        raise OptionError(
            f"the {os.environ['WORLD_SIZE']} processes cannot be joined ({error}); start them with torchrun"
        ) from error
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
