"""FID at infinitely many generated images, by extrapolation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pgmetrics.errors import OptionError
from pgmetrics.functional.frechet import GaussianMoments, frechet_distance
from pgmetrics.metrics.base import Estimate, State
from pgmetrics.metrics.feature_rows import FeatureMetric
from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream

_ROWS = 4096
"""Rows worked on at once: 67 MB of float64 for Inception's pool3."""


@dataclass(frozen=True)
class FIDInfinity(FeatureMetric):
    """FID against all reals, fitted as a line in 1 / n over subsets of n fakes and extrapolated to 1 / n = 0.

    The bias from the finite number of reals remains; "fid-bias" estimates the bias of both sides. There is
    no standard error: the subsets share images, so that the scatter of the points about the line is far
    smaller than the variation of the value with other images.

    Attributes:
        points: number of subsets; their sizes are evenly spaced from the smallest to all images.
        smallest: size of the smallest subset, or a tenth of the images if that is fewer.

    Source: Chong and Forsyth 2020, section 4: 15 points from 5,000 to 50,000 images.
    """

    name: ClassVar[str] = "fid-infinity"
    two_sided: ClassVar[bool] = True

    points: int = 15
    smallest: int = 5000

    def __post_init__(self) -> None:
        for name in ("points", "smallest"):
            if getattr(self, name) < 2:
                raise OptionError(f"fid-infinity needs {name} of at least 2, not {getattr(self, name)}")

    @property
    def least(self) -> int:
        """Large enough that a tenth of the images has a covariance and that the subsets differ in size."""
        return max(20, 2 * self.points)

    @property
    def for_what(self) -> str:
        return f" at {self.points} points"

    def compute(self, *, real: State | None, fake: State | None) -> tuple[list[Estimate], list[str]]:
        reals, fakes = self._both(real, fake)
        self.check_enough(reals, fakes)
        target = _moments(reals.pieces(), reals.device)
        target_covariance = target.covariance()
        rows, n = fakes.rows(), len(fakes.seen)
        sizes = self.sizes(n)
        distances = []
        for point, size in enumerate(sizes):
            chosen = seeding.generator(fakes.key.seed, Stream.EXTRAPOLATION, point).permutation(n)[:size]
            subset = _moments(_taken(rows, np.sort(chosen)), reals.device)
            distances.append(
                frechet_distance(target.mean, target_covariance, subset.mean, subset.covariance())
            )
        value = intercept(1 / np.array(sizes), np.array(distances))
        estimate = Estimate(self.name, None, value, None, None, "fake", target.count, n)
        width = rows.shape[1]
        if sizes[0] > width:
            return [estimate], []
        return [estimate], [
            f"fid-infinity began with subsets of {sizes[0]:,} images in {width:,} dimensions, where FID is "
            "no line in 1 / n: take it as a rough number"
        ]

    def sizes(self, n: int) -> list[int]:
        """Return the sizes of the subsets of n images in ascending order; the last subset has all images."""
        smallest = min(self.smallest, n // 10)
        return [smallest + (n - smallest) * i // (self.points - 1) for i in range(self.points)]


def intercept(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Value at x = 0 of the least-squares line."""
    x_mean, y_mean = x.mean(), y.mean()
    slope = ((x - x_mean) * (y - y_mean)).sum() / ((x - x_mean) ** 2).sum()
    return float(y_mean - slope * x_mean)


def _taken(rows: NDArray[np.float32], chosen: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(chosen), _ROWS):
        yield rows[chosen[start : start + _ROWS]]


def _moments(
    pieces: Sequence[NDArray[np.float32]] | Iterator[NDArray[np.float32]], device: torch.device
) -> GaussianMoments:
    moments: GaussianMoments | None = None
    for piece in pieces:
        rows = torch.from_numpy(piece).to(device)
        moments = GaussianMoments.of(rows) if moments is None else moments.with_rows(rows)
    assert moments is not None
    return moments
