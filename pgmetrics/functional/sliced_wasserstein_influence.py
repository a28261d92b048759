"""The influence of each image on the sliced Wasserstein distance between two sets of descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgmetrics.functional.float_precision import exact_float32
from pgmetrics.functional.patches import ChannelStatistics, channel_statistics
from pgmetrics.functional.sliced_wasserstein import Workspace, fold, project, step_length
from pgmetrics.runtime.threads import share_out, single_blas

CELLS = 4096
"""Cells of the grid that tabulates a potential; it is exact except in cells where F - G changes sign."""

_TOGETHER = 2**16
"""Points per step: enough that the overhead of calls does not dominate."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class DescribedImages:
    """One side: descriptors, and the moments that standardize them.

    Attributes:
        pieces: float [n_i * P, D], image by image, P descriptors each.
        moments: float64 [n, 2, C], of each image, by `channel_moments`.
        fit: the images at which the derivative is taken, such as `[::2]` for those with even indices.
    """

    pieces: Sequence[Tensor]
    moments: Tensor
    fit: slice = field(default_factory=lambda: slice(None))

    @property
    def per_image(self) -> int:
        return sum(map(len, self.pieces)) // len(self.moments)

    def statistics(self) -> ChannelStatistics:
        """Return the statistics of the fitted images."""
        return channel_statistics([self.moments[self.fit]])


def sliced_influence(
    a: DescribedImages, b: DescribedImages, directions: Tensor, workspace: Workspace | None = None
) -> tuple[Vector, Vector]:
    """Return the influence of each image of both sides on the mean distance over the directions.

    Between distributions F and G on a line W1 is the integral of |F - G|. The influence of a point of F at t
    is the Kantorovich potential, minus the integral of sign(F - G) up to t; a point of G has the opposite
    sign. The influence of an image is the mean over its descriptors, plus its effect through the mean and
    deviation that standardize its set. The sets may differ in size.

    The potential is tabulated on a grid, which avoids sorting.

    Args:
        a, b: the two sides, on one device.
        directions: float64 [K, D] of unit length.
        workspace: memory to reuse between calls.

    Returns:
        float64 [n_a] and [n_b], each with a mean of 0 over all images.

    Source: van der Vaart 1998, section 20.1, for the expansion; Villani 2003, theorem 1.14, for the
    potential.
    """
    workspace = workspace or Workspace()
    count = max(sum(map(len, side.pieces)) for side in (a, b))
    step = step_length(count, a.pieces[0].element_size())
    chunks = [slice(start, start + step) for start in range(0, len(directions), step)]
    on_cpu = a.pieces[0].device.type == "cpu"
    sides = [_Side(side, directions) for side in (a, b)]

    def chunk_influence(chunk: slice) -> list[_DirectionSums]:
        if not on_cpu:
            return _chunk(sides, chunk, [None, None])
        with workspace.rows((2, step, count), a.pieces[0].numpy().dtype) as rows:
            return _chunk(sides, chunk, [rows[0], rows[1]])

    with exact_float32(), single_blas():
        parts = share_out(chunk_influence, chunks, threads=on_cpu)
    first, second = (
        side.influence([part[i] for part in parts], len(directions)) for i, side in enumerate(sides)
    )
    return first, second


@dataclass(frozen=True)
class _DirectionSums:
    """Sums over some directions.

    Attributes:
        direct: mean potential of each image's descriptors: float64 [n].
        by_mean, by_std: derivatives with respect to the channels' mean and deviation: float64 [C].
    """

    direct: Tensor
    by_mean: Tensor
    by_std: Tensor


class _Side:
    """A side's points, with directions that standardize them."""

    def __init__(self, side: DescribedImages, directions: Tensor) -> None:
        self.images = side
        self.statistics = side.statistics()
        self.weights, self.offsets = fold(directions, self.statistics)
        self.channels = len(self.statistics.mean)

    def projections(self, chunk: slice, rows: NDArray[np.floating] | None) -> Tensor:
        """Project the standardized points onto these directions: float [k, N]."""
        weights = self.weights[chunk]
        if rows is not None:
            count = sum(map(len, self.images.pieces))
            made = torch.from_numpy(project(self.images.pieces, weights, rows[:, :count]))
        else:
            matrix = weights.to(self.images.pieces[0].device, self.images.pieces[0].dtype)
            made = torch.cat([matrix @ piece.T for piece in self.images.pieces], dim=1)
        return made.sub_(self.offsets[chunk].to(made.device, made.dtype)[:, None])

    def by_image(self, values: Tensor) -> Tensor:
        """View values [g, N] of all points as [g, n, P]."""
        return values.view(len(values), len(self.images.moments), -1)

    def fitted(self, values: Tensor) -> Tensor:
        """View the values of the fitted images, [g, n_fit, P], in values [g, N] of all points."""
        return self.by_image(values)[:, self.images.fit]

    def sums(self, chunk: slice, direct: Tensor, signs: Tensor) -> _DirectionSums:
        """Sum derivatives over directions, given the sign of each fitted point's derivative.

        Args:
            chunk: the directions.
            direct: float64 [n].
            signs: [k, N], the sign of the distance's change as a point moves; 0 for points not fitted.
        """
        weights = self.weights[chunk]
        start, products = 0, torch.zeros_like(weights)
        for piece in self.images.pieces:
            products += (signs[:, start : start + len(piece)] @ piece).to("cpu", torch.float64)
            start += len(piece)
        # Sums of integers below 2^24 are exact in float32.
        total = signs.sum(dim=1).to("cpu", torch.float64)
        number = len(self.images.moments[self.images.fit]) * self.images.per_image
        mean = self.statistics.mean.repeat(weights.shape[1] // self.channels)
        by_component = weights * (products - total[:, None] * mean)
        return _DirectionSums(
            direct,
            -self._by_channel(weights * total[:, None]) / number,
            -self._by_channel(by_component) / self.statistics.std / number,
        )

    def _by_channel(self, values: Tensor) -> Tensor:
        return values.sum(0).view(-1, self.channels).sum(0)

    def influence(self, parts: Sequence[_DirectionSums], directions: int) -> Vector:
        direct, by_mean, by_std = (
            torch.stack([getattr(part, name) for part in parts]).sum(0) / directions
            for name in ("direct", "by_mean", "by_std")
        )
        means, variances = self.images.moments.unbind(1)
        off = means - self.statistics.mean
        std = self.statistics.std
        # A flat channel has infinite deviation, and its derivative is 0.
        of_std = torch.where(std.isinf(), 0.0, (variances + off.square() - std.square()) / (2 * std))
        total = direct + off @ by_mean + of_std @ by_std
        influence_of_images: Vector = (total - total.mean()).numpy()
        return influence_of_images


def _chunk(
    sides: Sequence[_Side], chunk: slice, rows: Sequence[NDArray[np.floating] | None]
) -> list[_DirectionSums]:
    both = [side.projections(chunk, place) for side, place in zip(sides, rows, strict=True)]
    direct = [torch.zeros(len(side.images.moments), dtype=torch.float64) for side in sides]
    together = max(1, _TOGETHER // max(rows.shape[1] for rows in both))
    for start in range(0, len(both[0]), together):
        along = [rows[start : start + together] for rows in both]
        places, cells, width = _cells(along)
        potential, sign = _tables(*(side.fitted(c) for side, c in zip(sides, cells, strict=True)))
        for i, (side, towards) in enumerate(zip(sides, (1.0, -1.0), strict=True)):
            signs = _looked_up(sign, cells[i], along[i])
            heights = places[i].mul_(signs).sub_(_looked_up(potential, cells[i], along[i]))
            scale = (width * -towards)[:, None].to(heights)
            direct[i] += (side.by_image(heights).mean(2) * scale).sum(0).double().cpu()
            # The projections are no longer needed, and their memory has the right size for the next step.
            along[i].zero_()
            side.fitted(along[i]).copy_(side.fitted(signs)).mul_(-towards)
    return [
        side.sums(chunk, potential, signs) for side, potential, signs in zip(sides, direct, both, strict=True)
    ]


def _cells(along: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Locate each point on a common grid.

    Args:
        along: for each side [g, N], points on g lines.

    Returns:
        For each side the position of a point within its cell, [g, N] in 0 ... 1; its cell, int32 [g, N],
        counted from i * CELLS on line i; and the width of a cell, float64 [g].
    """
    lowest = torch.stack([points.amin(1) for points in along]).amin(0)
    widest = torch.stack([points.amax(1) for points in along]).amax(0) - lowest
    scale = torch.where(widest > 0, CELLS / widest, 0.0)[:, None]
    first = CELLS * torch.arange(len(lowest), dtype=torch.int32, device=lowest.device)[:, None]
    places = [(points - lowest[:, None]).mul_(scale) for points in along]
    cells = [place.int().clamp_(0, CELLS - 1) for place in places]
    inside = [place.sub_(cell) for place, cell in zip(places, cells, strict=True)]
    return inside, [cell.add_(first) for cell in cells], widest.cpu().double() / CELLS


def _tables(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Tabulate minus the integral of sign(F - G) up to each cell, in cells; and its mean over each cell.

    Args:
        a, b: int32 [g, ...], the cells of the points of F and of G.

    Returns:
        float64 [g, CELLS] twice, on the CPU.
    """
    lines = len(a)
    shares = [
        torch.bincount(cells.reshape(-1), minlength=lines * CELLS).view(lines, CELLS).cumsum(1).cpu().double()
        / cells[0].numel()
        for cells in (a, b)
    ]
    right = shares[0] - shares[1]
    left = torch.cat([right.new_zeros(lines, 1), right[:, :-1]], dim=1)
    # Where F - G changes sign within a cell, it is taken as linear there; equal sets have sign 0.
    steep = left.abs() + right.abs()
    sign = torch.where(steep > 0, (left + right) / steep, 0.0)
    return sign - sign.cumsum(1), sign


def _looked_up(table: Tensor, cells: Tensor, like: Tensor) -> Tensor:
    """Look up each point's entry in a table [g, CELLS]: [g, N], with the points' dtype and device."""
    return table.to(like).view(-1).index_select(0, cells.view(-1)).view_as(like)
