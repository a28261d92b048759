"""The sliced Wasserstein distance between two sets of points."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgmetrics.errors import SampleError
from pgmetrics.functional.float_precision import exact_float32
from pgmetrics.functional.patches import ChannelStatistics
from pgmetrics.runtime.threads import share_out, single_blas

_ROWS = 128
"""Directions per step of a thread; with fewer the product is slower."""

_WORKSPACE = 2**27
"""Maximum bytes of projections per thread and side, so that memory does not grow with the sets."""


class Workspace:
    """Reusable memory for projections, since fresh pages cost as much as the sort."""

    def __init__(self) -> None:
        self._spare: SimpleQueue[NDArray[np.uint8]] = SimpleQueue()

    @contextmanager
    def rows(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        """Yield an uninitialized array for one thread."""
        nbytes = math.prod(shape) * dtype.itemsize
        try:
            memory = self._spare.get_nowait()
        except Empty:
            memory = np.empty(nbytes, np.uint8)
        if memory.nbytes < nbytes:
            memory = np.empty(nbytes, np.uint8)
        yield memory[:nbytes].view(dtype).reshape(shape)
        self._spare.put(memory)


def sliced_wasserstein(
    a: Sequence[Tensor],
    b: Sequence[Tensor],
    directions: Tensor,
    standardize: tuple[ChannelStatistics, ChannelStatistics] | None = None,
    workspace: Workspace | None = None,
) -> Tensor:
    """Return W1 between the projections of two equally large sets along each direction.

    In one dimension optimal transport pairs the sorted points, so W1 is the mean absolute difference of the
    sorted projections, which is exact.

    Args:
        a, b: each set in pieces [n_i, D], float32 or float64, on one device, with equally many points in
            total. The division into pieces may change the last bits.
        directions: [K, D] of unit length.
        standardize: statistics of a and of b: first subtract each channel's mean and divide by its standard
            deviation. This is folded into the directions and does not change the points. Component j belongs
            to channel j mod C.
        workspace: memory to reuse between calls.

    Returns:
        float64 [K] on the CPU, in units of the (standardized) points. Their mean is the distance.

    Raises:
        SampleError: the sets differ in size, or are empty.

    Source: `sliced_wasserstein` in sliced_wasserstein.py of Karras et al. 2018.
    """
    count, count_b = sum(map(len, a)), sum(map(len, b))
    if count != count_b or count == 0:
        raise SampleError(
            f"the sliced Wasserstein distance needs two equally large, non-empty sets; "
            f"they hold {count:,} and {count_b:,} points"
        )
    statistics = standardize or (None, None)
    weights_a, offset_a = fold(directions, statistics[0])
    weights_b, offset_b = fold(directions, statistics[1])
    step = step_length(count, a[0].element_size())
    chunks = [slice(start, start + step) for start in range(0, len(directions), step)]
    on_cpu = a[0].device.type == "cpu"
    if not on_cpu:
        parts = [_on_device(a, b, weights_a[c], weights_b[c], (offset_a - offset_b)[c]) for c in chunks]
        return torch.cat(parts)
    workspace = workspace or Workspace()

    def chunk_distances(chunk: slice) -> Tensor:
        with workspace.rows((2, step, count), a[0].numpy().dtype) as rows:
            return _on_cpu(a, b, weights_a[chunk], weights_b[chunk], (offset_a - offset_b)[chunk], rows)

    # A thread takes its directions from product to distance. Threads of BLAS would spin for a while after
    # every product, on the core on which another thread sorts.
    with exact_float32(), single_blas():
        return torch.cat(share_out(chunk_distances, chunks))


def step_length(count: int, size: int) -> int:
    """Return the directions per step of a thread, for `count` points of numbers of `size` bytes."""
    return max(1, min(_ROWS, _WORKSPACE // (count * size)))


def fold(directions: Tensor, statistics: ChannelStatistics | None) -> tuple[Tensor, Tensor]:
    """Return directions and offsets that project points as if they were standardized.

    Args:
        directions: [K, D].
        statistics: of the points' channels.

    Returns:
        float64 [K, D] and [K]: a point's standardized projection is its product with the first minus the
        second.
    """
    directions = directions.to("cpu", torch.float64)
    if statistics is None:
        return directions, directions.new_zeros(len(directions))
    repeats = directions.shape[1] // len(statistics.mean)
    weights = directions / statistics.std.repeat(repeats)
    return weights, weights @ statistics.mean.repeat(repeats)


def _on_cpu(
    a: Sequence[Tensor],
    b: Sequence[Tensor],
    weights_a: Tensor,
    weights_b: Tensor,
    offsets: Tensor,
    rows: NDArray[np.floating],
) -> Tensor:
    rows_a, rows_b = project(a, weights_a, rows[0]), project(b, weights_b, rows[1])
    distances = []
    for u, v, offset in zip(rows_a, rows_b, offsets.tolist(), strict=True):
        # NumPy's sort of a contiguous row is SIMD code that runs in place and releases the
        # interpreter: 14 times faster than torch.sort.
        u.sort()
        v.sort()
        np.subtract(u, v, out=u)
        u -= u.dtype.type(offset)
        distances.append(np.abs(u, out=u).mean(dtype=np.float64))
    return torch.tensor(distances, dtype=torch.float64)


def project(points: Sequence[Tensor], weights: Tensor, rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Project points, with each direction's projections in one contiguous row.

    Args:
        points: pieces [n_i, D] on the CPU, N in all.
        weights: [k, D].
        rows: where to write them, [at least k, N].

    Returns:
        [k, N], a view of `rows`.
    """
    matrix = weights.to(points[0].dtype)
    rows = rows[: len(matrix)]
    product = _product(matrix.dtype)
    start = 0
    for piece in points:
        stop = start + len(piece)
        product(matrix, piece, rows[:, start:stop])
        start = stop
    return rows


def _product(dtype: torch.dtype) -> Callable[[Tensor, Tensor, NDArray[np.floating]], None]:
    # For a few rows times many, oneDNN's product is about 1.5 times as fast as NumPy's BLAS, and torch.mm is
    # slower than both. It has no public name in torch; NumPy replaces it where it is missing.
    linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if dtype != torch.float32 or linear is None or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return lambda matrix, piece, out: np.copyto(out, matrix.numpy() @ piece.numpy().T)
    return lambda matrix, piece, out: np.copyto(out, linear(matrix, piece, None, "none", [], "").numpy())


def _on_device(
    a: Sequence[Tensor], b: Sequence[Tensor], weights_a: Tensor, weights_b: Tensor, offsets: Tensor
) -> Tensor:
    def sorted_rows(points: Sequence[Tensor], weights: Tensor) -> Tensor:
        matrix = weights.to(points[0].dtype).to(points[0].device)
        with exact_float32():
            rows = torch.cat([matrix @ piece.T for piece in points], dim=1)
        return rows.sort(dim=1).values

    difference = sorted_rows(a, weights_a) - sorted_rows(b, weights_b)
    difference -= offsets.to(difference.dtype).to(difference.device)[:, None]
    # Summed in float64 if the device supports it; Apple's GPUs do not.
    precise = torch.float32 if difference.device.type == "mps" else torch.float64
    return difference.abs_().mean(dim=1, dtype=precise).to("cpu", torch.float64)
