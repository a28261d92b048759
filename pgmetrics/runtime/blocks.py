"""Divide images into index-aligned blocks of a fixed length, and track the set of indices seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgmetrics.errors import StateError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Block:
    """Images start, start + 1, ... of one side's sequence.

    Attributes:
        start: index of the first image in the evaluated sequence.
        pixels: uint8 [N, 3, H, W] on the device of the computation.
    """

    start: int
    pixels: Tensor

    @property
    def stop(self) -> int:
        """Index one past the last image."""
        return self.start + len(self.pixels)


@dataclass(frozen=True)
class FeatureBlock:
    """The features of images start, start + 1, ... of one side's sequence.

    Attributes:
        start: index of the first image in the evaluated sequence.
        features: float [N, D] on the device of the computation, every value finite.
    """

    start: int
    features: Tensor

    @property
    def stop(self) -> int:
        """Index one past the last image."""
        return self.start + len(self.features)


def block_length(side: int) -> int:
    """Return the images per block: clip(8192 // side, 4, 256), the published evaluation's minibatch.

    The number is even, so that an MS-SSIM pair (2k, 2k + 1) never straddles two blocks.

    Args:
        side: the images' height in pixels.
    """
    length = min(max(8192 // side, 4), 256)
    return length - length % 2


def plan(num_images: int, length: int) -> list[tuple[int, int]]:
    """Return (start, stop) of each block of a sequence; the last block may be shorter."""
    return [(start, min(start + length, num_images)) for start in range(0, num_images, length)]


class IndexSet:
    """A set of non-negative integers, stored as sorted intervals that do not touch."""

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        merged: list[tuple[int, int]] = []
        for start, stop in sorted(intervals):
            if start >= stop:
                continue
            if merged and start < merged[-1][1]:
                raise StateError(
                    f"images {start} to {min(stop, merged[-1][1]) - 1} were counted twice; "
                    "each image may be given to one state once"
                )
            if merged and start == merged[-1][1]:
                merged[-1] = (merged[-1][0], stop)
            else:
                merged.append((start, stop))
        self.intervals = tuple(merged)

    def union(self, other: IndexSet) -> IndexSet:
        """Return the union of two disjoint sets.

        Raises:
            StateError: the sets share an index.
        """
        return IndexSet(self.intervals + other.intervals)

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.intervals)

    def __iter__(self) -> Iterator[int]:
        for start, stop in self.intervals:
            yield from range(start, stop)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IndexSet) and self.intervals == other.intervals

    def __hash__(self) -> int:
        return hash(self.intervals)

    def __repr__(self) -> str:
        return "IndexSet(" + ", ".join(f"{a}:{b}" for a, b in self.intervals) + ")"
