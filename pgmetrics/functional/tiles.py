"""Feature rows in pieces, cut into slabs relative to a common center, and products of slabs."""

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
"""Columns per float32 product; the products of such parts are added. A shorter float32 sum has a smaller
bound on its error."""

EPSILON = 2.0**-24

_SLAB = {"cpu": 2048}
_DEVICE_SLAB = 8192
_KEPT = 2**28
_LONGEST = 1e36
_SMALL = 2**15

Made = TypeVar("Made")

Slab = list[Tensor]
"""Centered rows in parts of up to 512 columns, each contiguous float32 [n, <= 512]."""


class CenteredRows:
    """Centered rows that are read in slabs; on a CPU the memory does not grow with their number.

    Centering makes rows short, and short rows have small rounding errors. Up to 256 MB of centered rows are
    stored; larger sets are centered again for each slab, except on devices other than the CPU, which store
    all rows, 4 D bytes each.
    """

    def __init__(
        self, pieces: Sequence[Tensor], center: NDArray[np.float32], device: torch.device | str = "cpu"
    ) -> None:
        """Store references to the rows.

        Args:
            pieces: float32 [n_i, D] on the CPU, N rows in total; they may be memory-mapped.
            center: float32 [D], subtracted from each row in float32.
            device: the device of the slabs.
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
        """Return the original rows at these indices: float32 [n, D]."""
        out = np.empty((len(indices), self.width), np.float32)
        owner = np.searchsorted(self._starts, indices, side="right") - 1
        for piece in np.unique(owner):
            here = owner == piece
            out[here] = self._pieces[piece][indices[here] - self._starts[piece]]
        return out

    def slab(self, where: slice | NDArray[np.int64]) -> Slab:
        """Return the centered rows of a range, or at these indices, on the device."""
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
        """Return every row's squared distance from the center: float64 [N]. Equal rows have equal lengths.

        Raises:
            SampleError: a length is beyond float32's range.
        """
        lengths = [np.einsum("ij,ij->i", rows, rows) for rows in self._in_float64()]
        squared = np.concatenate([*lengths, np.empty(0)])
        if not bool((squared < _LONGEST).all()):
            raise SampleError("the features are too large for distances in float32; scale them down")
        return squared

    def products(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the products of every centered row with a vector [D]: float64 [N]."""
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
    """Return the mean of the rows of pieces float32 [n_i, D], summed in float64: float32 [D].

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
    """Cut a number of rows into slabs of nearly equal length."""
    most = most or _SLAB.get(device.type, _DEVICE_SLAB)
    slabs = max(1, -(-count // most))
    edges = [count * i // slabs for i in range(slabs + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def matrix_product(a: Slab, b: Slab) -> Tensor:
    """Multiply every row of a slab with every row of another: float32 [n, m].

    Products are summed in float32 over 512 columns, and these sums are added: for any order of summation the
    error is at most (512 + parts) 2^-24 |a_i| |b_j| to first order.
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
    """Apply the function to every tile and return the results in order; on a CPU in several threads."""
    with exact_float32():
        return share_out(lambda tile: function(*tile), tiles, threads=device.type == "cpu")


def _product(like: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    # oneDNN's product is up to twice as fast as torch.mm, but takes 10 ms for the smallest sizes, and is
    # hundreds of times slower on rows that are not contiguous. It has no public name in torch; torch.mm
    # replaces it where it is missing.
    linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    small = like.numel() < _SMALL
    if like.device.type != "cpu" or small or linear is None or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return lambda a, b: a @ b.T
    return lambda a, b: linear(a, b, None, "none", [], "")
