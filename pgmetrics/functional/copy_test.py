"""Parts of the test for copied images: cells of the training set, and a rank test within each cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgmetrics.errors import SampleError
from pgmetrics.functional.tiles import CenteredRows, cuts, mean_row

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_ROUNDS = 30
"""Maximum number of iterations of Lloyd's algorithm; the cells need not be optimal."""


class Cells:
    """A partition of the space by nearest center, from k-means on training rows.

    Attributes:
        centers: float64 [K, D], relative to the mean of the training rows.
    """

    def __init__(self, training: Sequence[Tensor], draws: Floats) -> None:
        """Compute centers with Lloyd's algorithm, initialized by k-means++.

        Args:
            training: pieces float32 [n_i, D] on the CPU.
            draws: uniform random numbers in 0 ... 1, one for each cell.

        Raises:
            SampleError: there are fewer training rows than cells.
        """
        self._mean = mean_row(training)
        rows = CenteredRows(training, self._mean)
        if len(rows) < len(draws):
            raise SampleError(f"{len(draws)} cells need as many training rows; there are {len(rows)}")
        self.centers = _first_centers(rows, draws)
        before = np.full(len(rows), -1)
        for _ in range(_ROUNDS):
            cells, sums = _sums_by_cell(rows, self.centers)
            if (cells == before).all():
                break
            before = cells
            counts = np.bincount(cells, minlength=len(draws))
            # A cell without rows keeps its center; it will have too few images to be tested.
            filled = counts > 0
            self.centers[filled] = sums[filled] / counts[filled, None]

    def of(self, rows: Sequence[Tensor]) -> Integers:
        """Return the cell of each row of pieces float32 [n_i, D]: int64 [N]."""
        return _sums_by_cell(CenteredRows(rows, self._mean), self.centers)[0]


def rank_z_score(a: Floats, b: Floats) -> float:
    """Mann and Whitney's U statistic of a against b as a standard normal score.

    It is above 0 if values of a tend to exceed those of b. Ties share their ranks and reduce the deviation;
    if all values are equal the score is 0.

    Args:
        a, b: at least one value each.
    """
    n, m = len(a), len(b)
    _, place, times = np.unique(np.concatenate([a, b]), return_inverse=True, return_counts=True)
    ranks = np.cumsum(times) - (times - 1) / 2
    u = float(ranks[place[:n]].sum()) - n * (n + 1) / 2
    total = n + m
    ties = float((times.astype(np.float64) ** 3 - times).sum()) / (total * (total - 1))
    variance = n * m / 12 * (total + 1 - ties)
    return (u - n * m / 2) / sqrt(variance) if variance > 0 else 0.0


def _first_centers(rows: CenteredRows, draws: Floats) -> Floats:
    """Draw centers by k-means++ (Arthur and Vassilvitskii 2007), weighted by squared distance."""
    centers = np.empty((0, rows.width))
    nearest = np.ones(len(rows))
    for draw in draws:
        odds = np.cumsum(nearest)
        # If all rows are centers already, any row will do.
        place = min(int(np.searchsorted(odds, draw * odds[-1], side="right")), len(rows) - 1)
        center = torch.cat(rows.slab(slice(place, place + 1)), dim=1).double().numpy()
        away = np.concatenate([((part - center) ** 2).sum(axis=1) for _, part in _slabs(rows)])
        nearest = np.minimum(nearest, away) if len(centers) else away
        centers = np.concatenate([centers, center])
    return centers


def _sums_by_cell(rows: CenteredRows, centers: Floats) -> tuple[Integers, Floats]:
    """Return the nearest center of each row, and for each center the sum of its rows."""
    cells, sums = np.empty(len(rows), np.int64), np.zeros_like(centers)
    for cut, part in _slabs(rows):
        distances = (centers**2).sum(axis=1) - 2 * (part @ centers.T)
        cells[cut] = distances.argmin(axis=1)
        members = np.zeros((len(centers), len(part)))
        members[cells[cut], np.arange(len(part))] = 1
        sums += members @ part
    return cells, sums


def _slabs(rows: CenteredRows) -> Iterator[tuple[slice, Floats]]:
    for cut in cuts(len(rows), rows.device, 1024):
        yield cut, torch.cat(rows.slab(cut), dim=1).double().numpy()
