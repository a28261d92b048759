"""Unbiased estimates of the squared maximum mean discrepancy (MMD) of a polynomial kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgmetrics.errors import SampleError
from pgmetrics.functional.tiles import CenteredRows, Slab, cuts, for_each_tile, matrix_product, mean_row

_TILE = 1024
"""Rows of a tile on a CPU."""

_LEAST_FIRST = 0.4
"""Lower limit of the variance's first-order part, as a negative share of its second-order part."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class PolynomialKernel:
    """k(x, y) = (gamma x.y + coef0)^degree; gamma None is 1 / D."""

    degree: int = 3
    gamma: float | None = None
    coef0: float = 1.0


KID_KERNEL = PolynomialKernel()


def squared_mmd(
    real: Sequence[Tensor],
    fake: Sequence[Tensor],
    kernel: PolynomialKernel = KID_KERNEL,
    device: torch.device | str = "cpu",
) -> tuple[float, float | None]:
    """Return the unbiased estimate of the squared MMD from all pairs of rows, and its standard error.

    The estimate is below 0 in about half of all samples of equal distributions. The standard error is the
    root of the U-statistic's full variance, by Hoeffding's decomposition

        4 s_x / n + 4 s_y / m + 2 t_xx / n(n-1) + 2 t_yy / m(m-1) + 4 t_xy / nm

    where s is the variance over rows of the mean kernel value to the own side minus that to the other, and t
    is the variance of a kernel value's residual from the means of its two rows. Each is estimated without
    bias from mean squares, as in an analysis of variance. For equal distributions the first two terms vanish
    and the others do not; their estimate may be negative and is bounded below by -0.4 of the others. The
    estimate is correlated with the value: without the bound a value that is small by chance would get far too
    small an error, and with a bound of 0 the error would be somewhat too large.

    Kernel values of 1 to 10 cancel to 1e-6. Only the products of centered rows are float32; everything after
    them is float64. At most a tile of kernel values exists at once.

    Args:
        real, fake: pieces float32 [n_i, D] on the CPU, at least 2 rows per side. The result has the same bits
            for any division into pieces.
        kernel: KID's by default.
        device: where to compute.

    Returns:
        The estimate, and its standard error, which is None if a side has fewer than 4 rows.

    Raises:
        SampleError: a side has fewer than 2 rows.

    Source: Lemma 6 of Gretton et al. 2012; the kernel is that of Bińkowski et al. 2018.
    """
    x, y = _sides(real, fake, kernel, device)
    _check_counts(len(x.rows), len(y.rows))
    xx, yy, xy = _within(x), _within(y), _between(x, y)
    value = xx.mean + yy.mean - 2 * xy.mean
    if min(len(x.rows), len(y.rows)) < 4:
        return value, None
    return value, sqrt(_variance(xx, yy, xy))


def subset_squared_mmds(
    real: Sequence[Tensor],
    fake: Sequence[Tensor],
    subsets: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    kernel: PolynomialKernel = KID_KERNEL,
    device: torch.device | str = "cpu",
) -> Vector:
    """Return the unbiased estimate from each pair of subsets.

    Args:
        real, fake, kernel, device: as in `squared_mmd`.
        subsets: for each pair the indices of its real and of its fake rows, at least 2 each.

    Returns:
        float64, one for each pair of subsets.

    Raises:
        SampleError: a subset has fewer than 2 rows.
    """
    x, y = _sides(real, fake, kernel, device)
    for of_real, of_fake in subsets:
        _check_counts(len(of_real), len(of_fake))

    def estimate(of_real: NDArray[np.int64], of_fake: NDArray[np.int64]) -> float:
        a, b = x.rows_at(of_real), y.rows_at(of_fake)
        n, m = len(of_real), len(of_fake)
        between = float(_kernel_values(a, b).sum()) / (n * m)
        return _sum_within(a) / (n * (n - 1)) + _sum_within(b) / (m * (m - 1)) - 2 * between

    return np.array(for_each_tile(estimate, subsets, x.rows.device), np.float64)


def squared_mmd_influence(
    real: Tensor,
    fake: Tensor,
    kernel: PolynomialKernel = KID_KERNEL,
    device: torch.device | str = "cpu",
) -> list[tuple[Vector, Vector]]:
    """Return the influence of each row of both sides on the unbiased estimate from all pairs of rows.

    It is twice the difference of a row's mean kernel value to the other rows of its side and that to the
    other side: the row's term in Hoeffding's decomposition (Hájek's projection).

    Args:
        real, fake: float32 [n, D] and [m, D] on the CPU, at least 4 rows a side.
        kernel: KID's by default.
        device: where to compute.

    Returns:
        float64 [n] and [m], each with a mean of 0, three times: with means over all rows, over the rows with
        even indices, and over those with odd indices. Every kernel value is computed once.

    Raises:
        SampleError: a side has fewer than 4 rows.
    """
    if min(len(real), len(fake)) < 4:
        raise SampleError(
            f"influences on an MMD need at least 4 rows on each side; there are {len(real)} real "
            f"and {len(fake)} generated"
        )
    center = mean_row([real, fake])
    x, y = (
        [_SideRows(CenteredRows([half.contiguous()], center, device), center, kernel) for half in halves]
        for halves in ((real[::2], real[1::2]), (fake[::2], fake[1::2]))
    )
    across = [[_between(a, b) for b in y] for a in x]
    to_y = _by_halves([[across[i][j].rows for j in (0, 1)] for i in (0, 1)], [len(b.rows) for b in y])
    to_x = _by_halves([[across[i][j].columns for i in (0, 1)] for j in (0, 1)], [len(a.rows) for a in x])
    influences = []
    for own_x, other_x, own_y, other_y in zip(_own_side(x), to_y, _own_side(y), to_x, strict=True):
        sides = (2 * (own_x - other_x), 2 * (own_y - other_y))
        influences.append((sides[0] - sides[0].mean(), sides[1] - sides[1].mean()))
    return influences


@dataclass(frozen=True)
class _Rows:
    """Rows u relative to a center c, and the part of gamma x.y + coef0 that depends on one row alone.

    x.y = (u + c).(v + c) = u.v + c.u + c.v + c.c, so that only u.v takes a product of matrices.
    """

    slab: Slab
    own: Tensor
    gamma: float
    degree: int

    def __len__(self) -> int:
        return len(self.own)

    def part(self, where: slice) -> _Rows:
        return _Rows([part[where] for part in self.slab], self.own[where], self.gamma, self.degree)


class _SideRows:
    def __init__(self, rows: CenteredRows, center: NDArray[np.float32], kernel: PolynomialKernel) -> None:
        self.rows = rows
        c = center.astype(np.float64)
        self._gamma = 1.0 / rows.width if kernel.gamma is None else kernel.gamma
        self._degree = kernel.degree
        alone = rows.products(c) + c @ c / 2
        self._own = torch.from_numpy(self._gamma * alone + kernel.coef0 / 2)

    def rows_at(self, where: slice | NDArray[np.int64]) -> _Rows:
        own = self._own[where] if isinstance(where, slice) else self._own[torch.from_numpy(where)]
        return _Rows(self.rows.slab(where), own, self._gamma, self._degree)

    def cuts(self) -> list[slice]:
        device = self.rows.device
        return cuts(len(self.rows), device, _TILE if device.type == "cpu" else None)


@dataclass(frozen=True)
class _Pairs:
    """Kernel values of n x m pairs: means of rows and of columns, and the sum of squares about the mean.

    Within a side, pairs of a row with itself are excluded, and rows and columns are the same.
    """

    rows: Vector
    columns: Vector
    squares: float

    @property
    def mean(self) -> float:
        return float(self.rows.mean())


def _sides(
    real: Sequence[Tensor], fake: Sequence[Tensor], kernel: PolynomialKernel, device: torch.device | str
) -> tuple[_SideRows, _SideRows]:
    center = mean_row([*real, *fake])
    x, y = (_SideRows(CenteredRows(side, center, device), center, kernel) for side in (real, fake))
    return x, y


def _check_counts(n_real: int, n_fake: int) -> None:
    if min(n_real, n_fake) < 2:
        raise SampleError(
            f"an unbiased MMD needs at least 2 rows on each side; there are {n_real} real "
            f"and {n_fake} generated"
        )


def _kernel_values(a: _Rows, b: _Rows) -> Tensor:
    """Return float64 [n, m], on the CPU if the device has no float64."""
    product = matrix_product(a.slab, b.slab)
    device = "cpu" if product.device.type == "mps" else product.device
    base = product.to(device, torch.float64).mul_(a.gamma)
    base += a.own.to(device)[:, None]
    base += b.own.to(device)
    return base**a.degree


def _sum_within(rows: _Rows) -> float:
    """Sum k(x_i, x_j) over i != j; by symmetry only one of each pair of tiles is computed."""
    total = 0.0
    parts = [rows.part(cut) for cut in cuts(len(rows), rows.own.device, 256)]
    for i, first in enumerate(parts):
        diagonal = _kernel_values(first, first)
        total += float(diagonal.fill_diagonal_(0).sum())
        if i + 1 < len(parts):
            rest = rows.part(slice(sum(map(len, parts[: i + 1])), len(rows)))
            total += 2 * float(_kernel_values(first, rest).sum())
    return total


class _TileSums:
    """Row and column sums of tiles, in memory allocated before the tiles.

    Small arrays allocated between large ones would fragment the heap, so that the memory of the large ones
    could not be reused: gigabytes for thousands of tiles.
    """

    def __init__(self, tiles: Sequence[tuple[slice, slice]]) -> None:
        most = max(max(a.stop - a.start, b.stop - b.start) for a, b in tiles)
        self._sums = torch.empty(len(tiles), 2, most, dtype=torch.float64)

    def put(self, tile: int, values: Tensor) -> None:
        self._sums[tile, 0, : values.shape[0]] = values.sum(1)
        self._sums[tile, 1, : values.shape[1]] = values.sum(0)

    def get(self, tile: int, a: slice, b: slice) -> tuple[Vector, Vector]:
        sums = self._sums[tile].numpy()
        return sums[0, : a.stop - a.start], sums[1, : b.stop - b.start]


def _tile_sums(a: _Rows, b: _Rows, same: bool, shift: float, sums: _TileSums, tile: int) -> float:
    """Store a tile's sums; return the sum of its squares."""
    values = _kernel_values(a, b)
    values -= shift
    if same:
        values.fill_diagonal_(0)
    sums.put(tile, values)
    flat = values.reshape(-1)
    return float(torch.dot(flat, flat))


def _within(side: _SideRows) -> _Pairs:
    slabs, n = side.cuts(), len(side.rows)
    shift = _typical(side, side)
    tiles = [(a, b) for i, a in enumerate(slabs) for b in slabs[i:]]
    sums = _TileSums(tiles)

    def squares_of(tile: int) -> float:
        a, b = tiles[tile]
        return _tile_sums(side.rows_at(a), side.rows_at(b), a == b, shift, sums, tile)

    totals, squares = np.zeros(n), 0.0
    of_tile = for_each_tile(squares_of, [(tile,) for tile in range(len(tiles))], side.rows.device)
    for tile, (a, b) in enumerate(tiles):
        rows, columns = sums.get(tile, a, b)
        totals[a] += rows
        if a != b:
            totals[b] += columns
        squares += of_tile[tile] if a == b else 2 * of_tile[tile]
    means = totals / (n - 1)
    squares -= n * (n - 1) * float(means.mean()) ** 2
    return _Pairs(means + shift, means + shift, squares)


def _between(x: _SideRows, y: _SideRows) -> _Pairs:
    n, m = len(x.rows), len(y.rows)
    shift = _typical(x, y)
    tiles = [(a, b) for a in x.cuts() for b in y.cuts()]
    sums = _TileSums(tiles)

    def squares_of(tile: int) -> float:
        a, b = tiles[tile]
        return _tile_sums(x.rows_at(a), y.rows_at(b), False, shift, sums, tile)

    by_row, by_column = np.zeros(n), np.zeros(m)
    squares = sum(for_each_tile(squares_of, [(tile,) for tile in range(len(tiles))], x.rows.device))
    for tile, (a, b) in enumerate(tiles):
        rows, columns = sums.get(tile, a, b)
        by_row[a] += rows
        by_column[b] += columns
    squares -= n * m * float(by_row.mean() / m) ** 2
    return _Pairs(by_row / m + shift, by_column / n + shift, squares)


def _own_side(halves: Sequence[_SideRows]) -> list[Vector]:
    even, odd = (_within(half).rows for half in halves)
    between = _between(*halves)
    return _by_halves(
        [[even, between.rows], [between.columns, odd]], [len(half.rows) for half in halves], itself=True
    )


def _by_halves(
    means: Sequence[Sequence[Vector]], counts: Sequence[int], itself: bool = False
) -> list[Vector]:
    """Return each row's mean kernel value to a side's rows: to all, to the even half, to the odd half.

    Args:
        means: mean kernel values of the rows of half i to those of half j.
        counts: number of rows of each half j.
        itself: whether i and j belong to one side, where pairs of a row with itself are excluded.
    """
    made = []
    for parts in ((0, 1), (0,), (1,)):
        mixed = np.empty(sum(len(rows[0]) for rows in means))
        for i, rows in enumerate(means):
            others = [counts[j] - (itself and i == j) for j in parts]
            mixed[i::2] = sum(rows[j] * n for j, n in zip(parts, others, strict=True)) / sum(others)
        made.append(mixed)
    return made


def _typical(x: _SideRows, y: _SideRows) -> float:
    """Return a value near the mean kernel value, around which sums of squares lose no digits."""
    a, b = (side.rows_at(slice(0, min(64, len(side.rows)))) for side in (x, y))
    return float(_kernel_values(a, b).median())


def _variance(xx: _Pairs, yy: _Pairs, xy: _Pairs) -> float:
    """Variance of xx.mean + yy.mean - 2 xy.mean, from two symmetric tables and a two-way table."""
    n, m = len(xx.rows), len(yy.rows)
    t_xx, effects_x = _symmetric_table(xx)
    t_yy, effects_y = _symmetric_table(yy)
    rows, columns = xy.rows - xy.mean, xy.columns - xy.mean
    t_xy = (xy.squares - m * float(rows @ rows) - n * float(columns @ columns)) / ((n - 1) * (m - 1))
    s_x = _mean_square(effects_x - rows) - t_xx / (n - 2) - t_xy / m
    s_y = _mean_square(effects_y - columns) - t_yy / (m - 2) - t_xy / n
    second = 2 * t_xx / (n * (n - 1)) + 2 * t_yy / (m * (m - 1)) + 4 * t_xy / (n * m)
    first = max(4 * s_x / n + 4 * s_y / m, -_LEAST_FIRST * second)
    return max(0.0, first + second)


def _symmetric_table(pairs: _Pairs) -> tuple[float, Vector]:
    """Residual mean square and effects of the least-squares fit k_ij = mean + e_i + e_j for i != j."""
    n = len(pairs.rows)
    effects = (pairs.rows - pairs.mean) * (n - 1) / (n - 2)
    residual = pairs.squares - 2 * (n - 2) * float(effects @ effects)
    return residual / (n * (n - 3)), effects


def _mean_square(effects: Vector) -> float:
    return float(effects @ effects) / (len(effects) - 1)
