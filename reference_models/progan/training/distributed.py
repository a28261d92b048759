"""The processes that train together: who they are, and the few things that they tell each other.

`torchrun` starts them. A process that it did not start is alone, and everything here then costs nothing.
Gradients are added in one flat tensor: no wrapper stands around the networks, through which a gradient's
gradient would have to pass.
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

# The others wait while one writes checkpoints, or decodes more slowly.
_PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Ranks:
    """One process among those that train together.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def all_reduce_sum(self, tensors: Sequence[Tensor]) -> None:
        """Put in each tensor's place its sum over all ranks; all have the same shapes, and float32."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _together():
            dist.all_reduce(flat)
        for tensor, total in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def all_reduce_max(self, number: int) -> int:
        """The largest of the numbers that the ranks give."""
        if self.size == 1:
            return number
        given = torch.tensor(number)
        with _together():
            dist.all_reduce(given, dist.ReduceOp.MAX)
        return int(given)

    def broadcast_from_first(self, number: int) -> int:
        """The number that the first rank gives; the others' do not matter."""
        if self.size == 1:
            return number
        given = torch.tensor(number)
        with _together():
            dist.broadcast(given, src=0)
        return int(given)


@contextmanager
def _together() -> Iterator[None]:
    """Raises PgmetricsError where another rank does not take part."""
    try:
        yield
    except RuntimeError as error:
        raise PgmetricsError("another of the processes that train together has ended; it says why") from error


def follows() -> bool:
    """Whether `torchrun` started this process, and another is the first: what one says is said."""
    return _are_several() and os.environ["RANK"] != "0"


def _are_several() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ


@contextmanager
def process_group() -> Iterator[Ranks]:
    """This process among those that `torchrun` started with it, or alone.

    Raises:
        OptionError: torchrun's variables are there in part.
    """
    if not _are_several():
        yield Ranks()
        return
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    # This module's functions take the group that there is when it is first imported, as by an optimizer's
    # first step, for a default, and never let go of it. A group's threads, alive while Python ends, can abort
    # the process.
    import torch.distributed.nn  # noqa: F401

    try:
        # For tensors on a CPU, gloo; for others what PyTorch has for them.
        dist.init_process_group(timeout=_PATIENCE)
    except ValueError as error:
        raise OptionError(
            f"the {os.environ['WORLD_SIZE']} processes cannot be joined ({error}); start them with torchrun"
        ) from error
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
