"""Rows of features that lie in pieces, cut into slabs around a common center, and products of slabs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgmetrics.errors import SampleError
from pgmetrics.functional.float_precision import exact_float32
from pgmetrics.runtime.threads import share_out

COLUMNS = 512
"""Columns summed by one float32 product; the sums of such parts are added. The shorter a float32
sum, the smaller the bound on its error."""

EPSILON = 2.0**-24

_SLAB = {"cpu": 2048}
_DEVICE_SLAB = 8192
_KEPT = 2**28
_LONGEST = 1e36
_SMALL = 2**15

Made = TypeVar("Made")

Slab = list[Tensor]
"""Rows around the center, in parts of up to 512 columns: float32 [n, <= 512] each, contiguous."""


class CenteredRows:
    """Rows that are read in slabs; what is allocated does not grow with their number on a CPU.

    Centered, rows have short lengths, and short lengths have small rounding errors. Up to 256 MB of
    centered rows are kept; beyond that they are made for each slab anew, except on another device
    than the CPU, which is given all of them once, 4 D bytes each.
    """

    def __init__(
        self, pieces: Sequence[Tensor], center: NDArray[np.float32], device: torch.device | str = "cpu"
    ) -> None:
        """Take rows.

        Args:
            pieces: float32 [n_i, D] on the CPU, N rows in all; they may lie on disk.
            center: float32 [D], subtracted from each row in float32.
            device: where slabs will be.
        """
        self._pieces = [piece.numpy() for piece in pieces if len(piece)]
        self._starts = np.cumsum([0, *(len(piece) for piece in self._pieces)])
        self._center = center
        self.device = torch.device(device)
        self.width = len(center)
        self._kept: Slab | None = None
        if self.device.type != "cpu" or len(self) * self.width * 4 <= _KEPT:
            self._kept = self._all()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows of those indices as they were given: float32 [n, D]."""
        out = np.empty((len(indices), self.width), np.float32)
        owner = np.searchsorted(self._starts, indices, side="right") - 1
        for piece in np.unique(owner):
            mine = owner == piece
            out[mine] = self._pieces[piece][indices[mine] - self._starts[piece]]
        return out

    def slab(self, where: slice | NDArray[np.int64]) -> Slab:
        """The rows of a range, or of those indices, around the center, on the device."""
        if self._kept is not None:
            if isinstance(where, slice):
                return [part[where] for part in self._kept]
            indices = torch.from_numpy(where).to(self.device)
            return [part[indices] for part in self._kept]
        if isinstance(where, slice):
            where = np.arange(where.start, where.stop)
        rows = self.take(where)
        rows -= self._center
        return [part.contiguous() for part in torch.split(torch.from_numpy(rows), COLUMNS, dim=1)]

    def squared_lengths(self) -> NDArray[np.float64]:
        """Of every row from the center: float64 [N]. Equal rows have equal lengths.

        Raises:
            SampleError: float32 cannot hold one of them.
        """
        lengths = [np.einsum("ij,ij->i", rows, rows) for rows in self._in_float64()]
        found = np.concatenate([*lengths, np.empty(0)])
        if not bool((found < _LONGEST).all()):
            raise SampleError("the features are too large for distances in float32; scale them down")
        return found

    def products(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of every row around the center with a vector [D]: float64 [N]."""
        return np.concatenate([*(rows @ vector for rows in self._in_float64()), np.empty(0)])

    def _in_float64(self) -> Iterator[NDArray[np.float64]]:
        for centered in self._centered():
            yield centered.astype(np.float64)

    def _centered(self) -> Iterator[NDArray[np.float32]]:
        for piece in self._pieces:
            for first in range(0, len(piece), 1024):
                yield piece[first : first + 1024] - self._center

    def _all(self) -> Slab:
        edges = range(0, self.width, COLUMNS)
        parts = [torch.empty(len(self), min(COLUMNS, self.width - first)) for first in edges]
        start = 0
        for centered in self._centered():
            stop = start + len(centered)
            for part, columns in zip(
                parts, torch.split(torch.from_numpy(centered), COLUMNS, dim=1), strict=True
            ):
                part[start:stop] = columns
            start = stop
        return [part.to(self.device) for part in parts]


def mean_row(pieces: Sequence[Tensor]) -> NDArray[np.float32]:
    """The mean of the rows of pieces float32 [n_i, D], summed in float64: float32 [D].

    Raises:
        SampleError: there is no row.
    """
    count = sum(map(len, pieces))
    if count == 0:
        raise SampleError("there are no features")
    total = np.zeros(pieces[0].shape[1])
    for piece in pieces:
        for first in range(0, len(piece), 1024):
            total += piece[first : first + 1024].numpy().sum(axis=0, dtype=np.float64)
    return (total / count).astype(np.float32)


def cuts(count: int, device: torch.device, most: int | None = None) -> list[slice]:
    """Slabs of nearly equal length that cover so many rows."""
    most = most or _SLAB.get(device.type, _DEVICE_SLAB)
    slabs = max(1, -(-count // most))
    edges = [count * i // slabs for i in range(slabs + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def matrix_product(a: Slab, b: Slab) -> Tensor:
    """Every row of a slab times every row of another: float32 [n, m].

    Summed in float32 over 512 columns, and these sums added: whatever the order inside, an error
    is at most (512 + parts) 2^-24 |a_i| |b_j| to first order.
    """
    product = _product(a[0])
    total = product(a[0], b[0])
    for left, right in zip(a[1:], b[1:], strict=True):
        total += product(left, right)
    return total


def relative_error(width: int) -> float:
    """The bound on the error of `matrix_product`, relative to |a_i| |b_j|."""
    terms = min(width, COLUMNS) + -(-width // COLUMNS)
    return terms * EPSILON / (1 - terms * EPSILON)


def for_each_tile(
    function: Callable[..., Made], tiles: Sequence[tuple[Any, ...]], device: torch.device
) -> list[Made]:
    """The function of every tile, in order; on a CPU the tiles are shared out over threads."""
    with exact_float32():
        return share_out(lambda tile: function(*tile), tiles, threads=device.type == "cpu")


def _product(like: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    # oneDNN's product is up to twice as fast as torch.mm, but takes 10 ms for the smallest, and is
    # hundreds of times slower on rows that are not contiguous. It has no public name in torch, so
    # torch.mm stands in where it is missing.
    linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    small = like.numel() < _SMALL
    if like.device.type != "cpu" or small or linear is None or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return lambda a, b: a @ b.T
    return lambda a, b: linear(a, b, None, "none", [], "")
