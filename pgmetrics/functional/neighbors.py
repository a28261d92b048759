"""Exact nearest neighbors among rows of features, at the cost of float32 products.

A float32 matrix product gives all squared distances d2 = |x|^2 + |y|^2 - 2 x.y with a bound on their
rounding. Where the bound leaves a decision open (which neighbor is the k-th, whether a point is inside a
ball), the two rows are subtracted in float64. So every result is that of float64 arithmetic: a copy has
distance 0, a point on the border of a ball is on it, and the result does not depend on the device, the number
of threads or the division into pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgmetrics.errors import SampleError
from pgmetrics.functional.tiles import (
    EPSILON,
    CenteredRows,
    Slab,
    cuts,
    for_each_tile,
    matrix_product,
    mean_row,
    relative_error,
)

_CROWD = 256
"""Number of candidates for one row's k-th neighbor from which on float64 products replace float32."""

_PAIRS = 256
"""Pairs of rows subtracted in one step."""

_AMBIGUOUS = 20_000
"""Number of open decisions in a tile from which on its product is repeated in float64."""

_TINY = 1e-35
"""An upper bound on what float32 loses by underflow."""

_CHUNK = 2**23
"""Float64 distances held at once for rows with many candidates: 64 MB."""

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Pairs = tuple[Integers, Integers]


@dataclass(frozen=True)
class Neighborhoods:
    """Membership of images in balls; a ball reaches to the k-th nearest neighbor of its center.

    Attributes:
        real_balls: number of balls around reals that hold each fake: int64 [M].
        covered: whether the ball around each real holds a fake: bool [N].
        recalled: whether each real is in a ball around some fake: bool [N]; None if the balls around fakes
            were not requested.
    """

    real_balls: Integers
    covered: Booleans
    recalled: Booleans | None


@dataclass(frozen=True)
class Shares:
    """Each fake's share of coverage and recall.

    Attributes:
        covering: float64 [M], whose sum is N times the coverage: each real counts 1, split evenly among the
            fakes in its ball.
        recalling: float64 [M], whose sum is N times the recall: each real counts 1, split evenly among the
            fakes whose balls hold it.
    """

    covering: Floats
    recalling: Floats


def shares(
    real: Sequence[Tensor], fake: Sequence[Tensor], k: int, *, device: torch.device | str = "cpu"
) -> Shares:
    """Return each fake's share of coverage and recall; arguments and errors as for `neighborhoods`.

    It holds 16 bytes for every pair of a ball and an image in it.
    """
    x, y, radii, fake_radii = _balls(real, fake, k, True, device)
    assert fake_radii is not None
    tiles = [(i, j) for i in cuts(len(x), x.device) for j in cuts(len(y), y.device)]

    def tile(i: slice, j: slice) -> tuple[Pairs, Pairs]:
        bounds = _lower_bounds(x, y, i, j)
        around_x = _inside(x, y, bounds, i, j, radii, False)
        return around_x, _inside(x, y, bounds, i, j, fake_radii, True)

    results = for_each_tile(tile, tiles, x.device)
    a, b = (np.concatenate([pairs[side] for pairs, _ in results]) for side in (0, 1))
    held = np.bincount(a, y.times[b], len(x))
    covering = np.bincount(b, x.times[a] / held[a], len(y))
    a, b = (np.concatenate([pairs[side] for _, pairs in results]) for side in (0, 1))
    balls = np.bincount(a, y.times[b], len(x))
    recalling = np.bincount(b, x.times[a] / balls[a], len(y))
    return Shares(covering[y.inverse].astype(np.float64), recalling[y.inverse].astype(np.float64))


def neighborhoods(
    real: Sequence[Tensor],
    fake: Sequence[Tensor],
    k: int,
    *,
    fake_balls: bool = True,
    device: torch.device | str = "cpu",
) -> Neighborhoods:
    """Find the fakes in balls around reals, and the reals in balls around fakes.

    Balls are closed (≤). k counts neighbors other than the point itself; a copy of it is another point.

    Args:
        real, fake: pieces float32 [n_i, D] on the CPU, at least k + 1 rows per side.
        k: at least 1.
        fake_balls: whether to compute the balls around fakes.
        device: where to compute.

    Raises:
        SampleError: a side has fewer than k + 1 rows, or features beyond float32's range.
    """
    return _count(*_balls(real, fake, k, fake_balls, device))


def _balls(
    real: Sequence[Tensor], fake: Sequence[Tensor], k: int, fake_balls: bool, device: torch.device | str
) -> tuple[_Points, _Points, Floats, Floats | None]:
    """Return both sides, and the squared radii around reals and, if requested, around fakes."""
    center = mean_row([*real, *fake])
    x, y = (_Points(CenteredRows(side, center, device)) for side in (real, fake))
    return x, y, _kth_others(x, k).squared, _kth_others(y, k).squared if fake_balls else None


def squared_radii(points: Sequence[Tensor], k: int, *, device: torch.device | str = "cpu") -> Floats:
    """Return the squared distance from each row to the k-th nearest of the others: float64 [N].

    Args:
        points: pieces float32 [n_i, D] on the CPU, at least k + 1 rows.
        k: at least 1.
        device: where to compute.

    Raises:
        SampleError: fewer than k + 1 rows, or features beyond float32's range.
    """
    rows = _Points(CenteredRows(points, mean_row(points), device))
    return _kth_others(rows, k).squared[rows.inverse]


def nearest(
    queries: Sequence[Tensor], points: Sequence[Tensor], *, device: torch.device | str = "cpu"
) -> tuple[Floats, Integers]:
    """Return the squared distance from each query to the nearest point, and that point's index.

    Args:
        queries, points: pieces float32 [n_i, D] on the CPU, at least one point.
        device: where to compute.

    Returns:
        float64 [Q] and int64 [Q]; ties go to the first point.

    Raises:
        SampleError: there is no point, or features are beyond float32's range.
    """
    center = mean_row(points)
    asked, there = (_Points(CenteredRows(side, center, device)) for side in (queries, points))
    kth = _kth(asked, there, 1, itself=False)
    return kth.squared[asked.inverse], there.first[kth.place][asked.inverse]


class _Points:
    """Distinct rows, their counts, and their squared lengths.

    Copies are counted instead of compared: among thousands of equal rows (a collapsed generator) rounding
    would leave every decision open.
    """

    def __init__(self, rows: CenteredRows) -> None:
        self.rows = rows
        lengths = rows.squared_lengths()
        self.first, self.inverse = _distinct(rows, lengths)
        self.times = np.bincount(self.inverse, minlength=len(self.first))
        self.lengths = lengths[self.first]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def device(self) -> torch.device:
        return self.rows.device

    def slab(self, cut: slice) -> Slab:
        if len(self) == len(self.rows):
            return self.rows.slab(cut)
        return self.rows.slab(self.first[cut])

    def shortened(self, cut: slice) -> Tensor:
        """Squared lengths minus their share of the bound on rounding."""
        kept = self.lengths[cut] * (1 - _error(self.rows.width)) - _TINY
        return torch.from_numpy(kept.astype(np.float32)).to(self.device)

    def precise(self, where: Integers, center: Floats) -> Floats:
        return self.rows.take(self.first[where]).astype(np.float64) - center


@dataclass(frozen=True)
class _Kth:
    """The k-th nearest point of every query: squared distance, and index among the distinct points."""

    squared: Floats
    place: Integers


@dataclass(frozen=True)
class _Candidates:
    """Pairs of a query and a point that may be its k-th nearest; d2 is in lower ... upper."""

    query: Integers
    point: Integers
    lower: Floats
    upper: Floats

    def where(self, mask: Booleans) -> _Candidates:
        return _Candidates(self.query[mask], self.point[mask], self.lower[mask], self.upper[mask])


def _distinct(rows: CenteredRows, lengths: Floats) -> tuple[Integers, Integers]:
    """Return the index of the first of each set of equal rows, ascending, and the set of each row."""
    owner = np.arange(len(rows))
    order = np.argsort(lengths, kind="stable")
    edges = np.flatnonzero(np.diff(lengths[order])) + 1
    for group in np.split(order, edges) if len(edges) + 1 < len(rows) else []:
        if len(group) < 2:
            continue
        model = rows.take(group[:1])
        for start in range(1, len(group), 1024):
            others = group[start : start + 1024]
            owner[others[(rows.take(others) == model).all(axis=1)]] = group[0]
    first, inverse = np.unique(owner, return_inverse=True)
    return first, inverse


def _error(width: int) -> float:
    """Return the bound on the error of a tile's d2, relative to |x|^2 + |y|^2.

    2 |x||y| <= |x|^2 + |y|^2 turns the product's bound into such a share. The rest is for rounding the
    centered rows (4 parts), the lengths (1), and the two additions (4).
    """
    return relative_error(width) + 16 * EPSILON


def _lower_bounds(x: _Points, y: _Points, i: slice, j: slice) -> Tensor:
    """Return lower bounds of the squared distances of a tile: float32 [n, m]."""
    bounds = matrix_product(x.slab(i), y.slab(j)).mul_(-2)
    bounds += y.shortened(j)
    bounds += x.shortened(i)[:, None]
    return bounds


def _slack(x: _Points, y: _Points, i: Integers, j: Integers) -> Floats:
    """Return the largest distance of a squared distance from its lower bound."""
    slack: Floats = 2 * (_error(x.rows.width) * (x.lengths[i] + y.lengths[j]) + 2 * _TINY)
    return slack


def _no_less(values: Floats) -> NDArray[np.float32]:
    """Convert values to float32, never rounding down."""
    rounded: NDArray[np.float32] = np.nextafter(values.astype(np.float32), np.float32(np.inf))
    return rounded


def _kth_others(points: _Points, k: int) -> _Kth:
    if len(points.rows) < k + 1:
        raise SampleError(
            f"the {k} nearest neighbors of a row need at least {k + 1} rows; there are {len(points.rows)}"
        )
    return _kth(points, points, k, itself=True)


def _kth(x: _Points, y: _Points, k: int, *, itself: bool) -> _Kth:
    """Find the k-th nearest of y, counting copies, to each x.

    With `itself`, y is x, and a row is not its own neighbor, but its copies are.

    Candidates are points that may still be among the k nearest. Each group of tiles is twice as large as the
    one before, so that a row gets about k new candidates in each.
    """
    own = x.times - 1 if itself else np.zeros(len(x), np.int64)
    limit = np.where(own >= k, -np.inf, np.inf)
    crowded = np.zeros(len(x), bool)
    nothing = np.empty(0, np.int64)
    kept = _Candidates(nothing, nothing, np.empty(0), np.empty(0))
    rows, columns = cuts(len(x), x.device), cuts(len(y), y.device)
    waves = [_wave(d, len(rows), len(columns), itself) for d in range(len(columns))]
    done = 0
    while done < len(waves):
        group = waves[done : max(1, 2 * done)]
        done += len(group)
        tiles = [tile for wave in group for tile in wave]

        search = partial(_search, x, y, limit=limit, k=k, itself=itself)
        results = for_each_tile(search, [(rows[a], columns[b]) for a, b in tiles], x.device)
        crowded[np.concatenate([many for _, many in results])] = True
        kept = _joined([kept, *(candidates for candidates, _ in results)])
        kept = kept.where(~crowded[kept.query])
        limit[crowded] = -np.inf
        kept, limit = _tightened(kept, y.times, own, limit, k)
        crowded |= np.bincount(kept.query, minlength=len(x)) > _CROWD
    squared, place = np.zeros(len(x)), np.arange(len(x)) if itself else np.zeros(len(x), np.int64)
    _resolve(x, y, kept.where(~crowded[kept.query]), own, k, squared, place)
    crowd = np.flatnonzero(crowded)
    step = max(1, _CHUNK // len(y))
    for start in range(0, len(crowd), step):
        some = _among_the_crowd(x, y, crowd[start : start + step], k, itself)
        _resolve(x, y, some, own, k, squared, place)
    return _Kth(squared, place)


def _wave(d: int, rows: int, columns: int, itself: bool) -> list[tuple[int, int]]:
    if itself:
        return [(i, i + d) for i in range(columns - d)]
    return [(i, (i + d) % columns) for i in range(rows)]


def _search(
    x: _Points, y: _Points, i: slice, j: slice, *, limit: Floats, k: int, itself: bool
) -> tuple[_Candidates, Integers]:
    """Return a tile's candidates for its rows and, if x is y, its columns; and the rows with too many."""
    bounds = _lower_bounds(x, y, i, j)
    diagonal = itself and i == j
    if diagonal:
        bounds.fill_diagonal_(torch.inf)
    limits = limit[i]
    if not bool(np.isfinite(limits[limits > -np.inf]).all()) and k <= bounds.shape[1] - diagonal:
        smallest = bounds.topk(k, dim=1, largest=False).values[:, -1].cpu().numpy().astype(np.float64)
        longest = np.full(len(limits), y.lengths[j].argmax()) + j.start
        limits = np.minimum(limits, smallest + _slack(x, y, np.arange(i.start, i.stop), longest))
    candidates = [_below(x, y, bounds, i, j, limits)]
    if itself and not diagonal:
        candidates.append(_below(y, x, bounds.T, j, i, limit[j]))
    return _joined([candidates for candidates, _ in candidates]), np.concatenate(
        [many for _, many in candidates]
    )


def _below(
    x: _Points, y: _Points, bounds: Tensor, i: slice, j: slice, limits: Floats
) -> tuple[_Candidates, Integers]:
    mask = bounds <= torch.from_numpy(_no_less(limits)).to(bounds.device)[:, None]
    query, point = _places(mask)
    counts = np.bincount(query, minlength=len(limits))
    few = counts[query] <= _CROWD
    query, point = query[few], point[few]
    lower = _values(bounds, query, point)
    query, point = query + i.start, point + j.start
    upper = lower + _slack(x, y, query, point)
    return _Candidates(query, point, lower, upper), np.flatnonzero(counts > _CROWD) + i.start


def _places(mask: Tensor) -> tuple[Integers, Integers]:
    if mask.device.type == "cpu":
        # In memory order: NumPy scans for few True among many bytes seven times as fast as torch.
        turned = not mask.is_contiguous()
        flat = np.flatnonzero((mask.T if turned else mask).numpy())
        a, b = np.divmod(flat, mask.shape[0] if turned else mask.shape[1])
        return (b, a) if turned else (a, b)
    a, b = (where.cpu().numpy() for where in mask.nonzero(as_tuple=True))
    return a, b


def _values(bounds: Tensor, a: Integers, b: Integers) -> Floats:
    where = (torch.from_numpy(a).to(bounds.device), torch.from_numpy(b).to(bounds.device))
    values: Floats = bounds[where].cpu().numpy().astype(np.float64)
    return values


def _joined(parts: Sequence[_Candidates]) -> _Candidates:
    return _Candidates(
        np.concatenate([part.query for part in parts]),
        np.concatenate([part.point for part in parts]),
        np.concatenate([part.lower for part in parts]),
        np.concatenate([part.upper for part in parts]),
    )


def _tightened(
    kept: _Candidates, times: Integers, own: Integers, limit: Floats, k: int
) -> tuple[_Candidates, Floats]:
    """Drop candidates above the k-th smallest upper bound of their query."""
    query, _, upper = _kth_smallest(kept, kept.upper, times, own, k)
    limit = limit.copy()
    limit[query] = np.minimum(limit[query], upper)
    return kept.where(kept.lower <= limit[kept.query]), limit


def _kth_smallest(
    kept: _Candidates, values: Floats, times: Integers, own: Integers, k: int
) -> tuple[Integers, Integers, Floats]:
    """Return (query, point, value) for queries with k candidates, counting copies and own copies `own`."""
    order = np.lexsort((kept.point, values, kept.query))
    query, point = kept.query[order], kept.point[order]
    reached = np.cumsum(times[point])
    starts = np.flatnonzero(np.diff(query, prepend=-1))
    before = np.repeat(reached[starts] - times[point[starts]], np.diff(starts, append=len(query)))
    enough = reached - before + own[query] >= k
    reaching = np.flatnonzero(enough)
    first = reaching[np.flatnonzero(np.diff(query[reaching], prepend=-1))]
    return query[first], point[first], values[order][first]


def _resolve(
    x: _Points, y: _Points, kept: _Candidates, own: Integers, k: int, squared: Floats, place: Integers
) -> None:
    """Write the k-th nearest of the queries with candidates, resolving open decisions in float64."""
    query, _, lower = _kth_smallest(kept, kept.lower, y.times, own, k)
    least = np.full(len(x), -np.inf)
    least[query] = lower
    # Certainly nearer than the k-th, so the exact distance does not matter.
    values = np.full(len(kept.query), -1.0)
    band = kept.upper >= least[kept.query]
    open_pairs = kept.where(band)
    parts = [(slice(start, start + _PAIRS),) for start in range(0, len(open_pairs.query), _PAIRS)]

    def measured(part: slice) -> Floats:
        return _exact(x, y, open_pairs.query[part], open_pairs.point[part])

    values[band] = np.concatenate([*for_each_tile(measured, parts, torch.device("cpu")), np.empty(0)])
    query, point, value = _kth_smallest(kept, values, y.times, own, k)
    squared[query], place[query] = value, point


def _exact(x: _Points, y: _Points, i: Integers, j: Integers) -> Floats:
    """Return squared distances of pairs by subtraction in float64, equal for (x, y) and (y, x)."""
    squares = np.empty(len(i))
    for start in range(0, len(i), _PAIRS):
        pairs = slice(start, start + _PAIRS)
        left, right = x.rows.take(x.first[i[pairs]]), y.rows.take(y.first[j[pairs]])
        difference = np.subtract(left, right, dtype=np.float64)
        squares[pairs] = np.einsum("ij,ij->i", difference, difference)
    return squares


def _among_the_crowd(x: _Points, y: _Points, crowd: Integers, k: int, itself: bool) -> _Candidates:
    """Find the candidates of queries with too many of them in float32, by a float64 product."""
    squared, error = np.empty((len(crowd), len(y))), np.empty((len(crowd), len(y)))
    for cut in cuts(len(y), torch.device("cpu")):
        squared[:, cut], error[:, cut] = _in_float64(x, y, crowd, np.arange(cut.start, cut.stop))
    if itself:
        squared[np.arange(len(crowd)), crowd] = np.inf
    count = min(k, len(y) - itself)
    limit = np.partition(squared + error, count - 1, axis=1)[:, count - 1]
    near = squared - error <= limit[:, None]
    query, point = np.nonzero(near)
    middle, off = squared[query, point], error[query, point]
    return _Candidates(crowd[query], point, middle - off, middle + off)


def _in_float64(x: _Points, y: _Points, i: Integers, j: Integers) -> tuple[Floats, Floats]:
    """Return squared distances of a tile in float64, and the bound on their rounding."""
    center = x.rows.take(x.first[i[:1]])[0].astype(np.float64)
    left, right = x.precise(i, center), y.precise(j, center)
    lengths = np.einsum("ij,ij->i", left, left)[:, None] + np.einsum("ij,ij->i", right, right)
    return lengths - 2 * (left @ right.T), (4 * x.rows.width + 16) * 2.0**-53 * lengths


def _count(x: _Points, y: _Points, radii: Floats, fake_radii: Floats | None) -> Neighborhoods:
    rows, columns = cuts(len(x), x.device), cuts(len(y), y.device)
    tiles = [(i, j) for i in rows for j in columns]

    def tile(i: slice, j: slice) -> tuple[Integers, Booleans, Booleans | None]:
        bounds = _lower_bounds(x, y, i, j)
        a, b = _inside(x, y, bounds, i, j, radii, False)
        held = np.bincount(b - j.start, x.times[a], minlength=j.stop - j.start).astype(np.int64)
        covered = np.bincount(a - i.start, minlength=i.stop - i.start) > 0
        if fake_radii is None:
            return held, covered, None
        a, _ = _inside(x, y, bounds, i, j, fake_radii, True)
        return held, covered, np.bincount(a - i.start, minlength=i.stop - i.start) > 0

    real_balls = np.zeros(len(y), np.int64)
    covered, recalled = np.zeros(len(x), bool), np.zeros(len(x), bool)
    for (i, j), (held, some, others) in zip(tiles, for_each_tile(tile, tiles, x.device), strict=True):
        real_balls[j] += held
        covered[i] |= some
        if others is not None:
            recalled[i] |= others
    return Neighborhoods(
        real_balls[y.inverse], covered[x.inverse], None if fake_radii is None else recalled[x.inverse]
    )


def _inside(
    x: _Points, y: _Points, bounds: Tensor, i: slice, j: slice, radii: Floats, around_y: bool
) -> tuple[Integers, Integers]:
    """Return the pairs of a tile of which one is in the ball of the other."""
    limits = torch.from_numpy(_no_less(radii[j if around_y else i])).to(bounds.device)
    a, b = _places(bounds <= (limits if around_y else limits[:, None]))
    upper = _values(bounds, a, b)
    a, b = a + i.start, b + j.start
    upper += _slack(x, y, a, b)
    within = radii[b if around_y else a]
    inside = upper <= within
    unsure = np.flatnonzero(~inside)
    if len(unsure) > _AMBIGUOUS:
        squared, error = _in_float64(x, y, np.arange(i.start, i.stop), np.arange(j.start, j.stop))
        here = a[unsure] - i.start, b[unsure] - j.start
        inside[unsure] = squared[here] + error[here] <= within[unsure]
        unsure = unsure[~inside[unsure] & (squared[here] - error[here] <= within[unsure])]
    inside[unsure] = _exact(x, y, a[unsure], b[unsure]) <= within[unsure]
    return a[inside], b[inside]
