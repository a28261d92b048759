"""The Fréchet distance between two sets' features: FID on Inception, FD on those of a custom network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pgmetrics.errors import OptionError, StateError
from pgmetrics.functional.frechet import GaussianMoments, delete_one_distances, frechet_distance
from pgmetrics.functional.frechet_influence import frechet_influence
from pgmetrics.metrics.base import Estimate, Side, State, StateKey, check_comparable
from pgmetrics.metrics.feature_rows import FeatureMetric, FeatureRowsState
from pgmetrics.metrics.influence import Influence
from pgmetrics.metrics.moments import CHUNK, MomentsState
from pgmetrics.runtime.blocks import FeatureBlock
from pgmetrics.runtime.spill import Storage

LEAST_GROUPS = 5
"""With fewer groups that hold images, the jackknife gives no error."""


@dataclass(frozen=True)
class FrechetDistance(FeatureMetric):
    """Squared Fréchet distance between Gaussians fitted to the real and the fake features.

    The images are divided into groups; the standard error over images is a jackknife that leaves out one
    group at a time. `stderr_kind` states the number of groups, the smaller of the two sides, since an error
    from few groups requires Student's intervals.

    With n images on each side the value has a bias of about b / n. The row "fd-bias" is a jackknife estimate
    of it: value minus bias estimates the value at infinitely many images, as long as the bias is b / n. That
    holds only if each side has more images than features even without its largest group; with fewer images
    the row is left out.

    Attributes:
        groups: number of groups, each 8 D² bytes (34 MB for Inception's pool3) per side; 1 for no error
            estimate.
        ddof: covariances are divided by n - ddof: 1, or 0 as StyleGAN3 does.
        keep_rows: store the features of every image, 4 D bytes each, in place of moments, for influences
            and paired comparisons. The value is the same.

    Source: Dowson and Landau 1982; Heusel et al. 2017, section 2; the jackknife for groups of
    unequal size by Busing et al. 1999.
    """

    name: ClassVar[str] = "fd"
    two_sided: ClassVar[bool] = True

    network: str = "custom"
    groups: int = 10
    ddof: int = 1
    keep_rows: bool = False

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise OptionError(f"{self.name} needs groups of at least 1, not {self.groups}")
        if self.ddof not in (0, 1):
            raise OptionError(f"{self.name} divides by n - ddof with ddof 0 or 1, not {self.ddof}")

    @property
    def keeps_moments(self) -> bool:
        return not self.keep_rows

    @property
    def prepared_by(self) -> str:
        # Statistics made for this metric hold moments; those of KID hold the rows that it reads here.
        return "kid" if self.keep_rows else self.name

    def keeping_rows(self) -> FrechetDistance:
        return replace(self, keep_rows=True)

    def new_state(
        self,
        side: Side,
        *,
        resolution: tuple[int, int],
        seed: int = 0,
        source: str = "",
        storage: Storage | None = None,
        network: str = "",
    ) -> State:
        if self.keep_rows:
            return super().new_state(
                side, resolution=resolution, seed=seed, source=source, storage=storage, network=network
            )
        parameters = {"layer": self.layer, "groups": self.groups}
        return MomentsState(
            StateKey("moments", parameters, side, seed, *resolution, source, network), storage
        )

    def compute(self, *, real: State | None, fake: State | None) -> tuple[list[Estimate], list[str]]:
        sides = self._moments(real, fake)
        (real_mean, real_cov), (fake_mean, fake_cov) = (side.fitted(self.ddof) for side in sides)
        value = frechet_distance(real_mean, real_cov, fake_mean, fake_cov)
        kind, spreads = _stderr_kind(sides), []
        if kind is not None:
            given = (fake_mean, fake_cov), (real_mean, real_cov)
            for side, other in zip(sides, given, strict=True):
                if not side.given:
                    without = delete_one_distances(*other, side.groups, self.ddof)
                    spreads.append(_jackknife(value, without, [group.count for group in side.groups]))
        counts = sides[0].count, sides[1].count
        stderr = sqrt(sum(variance for variance, _ in spreads)) if kind is not None else None
        rows = [Estimate(self.name, None, value, stderr, kind, "fake", *counts)]
        if len(spreads) == 2 and all(side.outnumbers_features for side in sides):
            bias = sum(bias for _, bias in spreads)
            rows.append(Estimate(f"{self.name}-bias", None, bias, None, None, "fake", *counts))
        return rows, self._notes(sides, kind is None, len(rows) < 2)

    def influences(self, *, real: State | None, fake: State | None) -> list[Influence]:
        """The influences on the value; there are none unless the states store rows."""
        return self._influences(real, fake, whole=False)

    def scores(self, *, real: State | None, fake: State | None) -> list[Influence]:
        return self._influences(real, fake, whole=True)

    def _influences(self, real: State | None, fake: State | None, whole: bool) -> list[Influence]:
        """Influences at the whole sets, and also at their halves unless `whole`."""
        if not isinstance(real, FeatureRowsState) or not isinstance(fake, FeatureRowsState):
            return []
        reals, fakes = self._both(real, fake)
        self.check_enough(reals, fakes)
        x, y = (torch.from_numpy(state.rows()).to(fakes.device) for state in (reals, fakes))
        found = Influence(self.name, None, *frechet_influence(x, y, self.ddof))
        if whole:
            return [found]
        found = replace(found, bias=self._bias(x, y))
        # The distance has no derivative at a half with fewer images than features.
        if min(len(x), len(y)) // 2 <= x.shape[1]:
            return [found]
        even, odd = (
            Influence(self.name, None, *frechet_influence(x, y, self.ddof, slice(place, None, 2)))
            for place in (0, 1)
        )
        return [replace(found, halves=(even, odd))]

    def _bias(self, x: Tensor, y: Tensor) -> float:
        """Estimate the bias from the finite number of images, from the distances between halves of the sets.

        A bias of b / n is 2 b / n at half the images. With fewer images than features the bias is not b / n,
        and the estimate gives only its direction.
        """
        if min(len(x), len(y)) < 4:
            return 0.0

        def distance(part: slice) -> float:
            sides = [GaussianMoments.of(rows[part]) for rows in (x, y)]
            (mean_x, cov_x), (mean_y, cov_y) = ((one.mean, one.covariance(self.ddof)) for one in sides)
            return frechet_distance(mean_x, cov_x, mean_y, cov_y)

        halves = distance(slice(0, None, 2)) + distance(slice(1, None, 2))
        return halves / 2 - distance(slice(None))

    def _of_rows(self, state: State | None) -> State | None:
        """Turn stored rows into moments, equal to the bit to moments that were fed the same blocks."""
        if not isinstance(state, FeatureRowsState):
            return state
        key = replace(state.key, kind="moments", parameters={"layer": self.layer, "groups": self.groups})
        moments = MomentsState(key, state.storage)
        for start, rows in state.blocks():
            moments.update(FeatureBlock(start, torch.from_numpy(rows).to(state.device)))
        return moments

    def _moments(self, real: State | None, fake: State | None) -> tuple[MomentsState, MomentsState]:
        real, fake = self._of_rows(real), self._of_rows(fake)
        if not isinstance(real, MomentsState) or not isinstance(fake, MomentsState):
            raise StateError(f"{self.name} compares moments of real and fake features; one is missing")
        check_comparable(real.key, fake.key)
        self.check_enough(*(state for state in (real, fake) if not state.given))
        if real.width != fake.width:
            raise StateError(f"real has {real.width:,} features, fake has {fake.width:,}")
        # Statistics from a file are on the CPU, features where the network is.
        return real.to(fake.device), fake

    def _notes(self, sides: Sequence[MomentsState], no_error: bool, no_bias: bool) -> list[str]:
        counted = [side for side in sides if not side.given]
        notes = self._of_few(sides)
        if no_error and counted and self.groups >= LEAST_GROUPS:
            enough = (LEAST_GROUPS - 1) * CHUNK + 1
            notes.append(
                f"{self.name} has no ±: the jackknife over images needs {enough} of each side, for "
                f"{LEAST_GROUPS} groups of {CHUNK}"
            )
        elif no_bias and len(counted) == 2 and not notes and not no_error:
            notes.append(
                f"{self.name}-bias is left out: without one of the groups a side has no more images than the "
                f"{sides[0].width:,} features"
            )
        return notes

    def _of_few(self, sides: Sequence[MomentsState]) -> list[str]:
        return [
            f"{self.name} of {side.count:,} {side.key.side} images in {side.width:,} dimensions is far above "
            "that of many: compare at equal counts only"
            for side in sides
            if side.count is not None and side.width is not None and side.count <= side.width
        ]


@dataclass(frozen=True)
class FrechetInceptionDistance(FrechetDistance):
    """FID: the Fréchet distance on the 2048 features of Inception's last pooling.

    Its rows are "fid" and "fid-bias"; see `FrechetDistance` for the rest.

    Source: Heusel et al. 2017: 50,000 generated images against all reals.
    """

    name: ClassVar[str] = "fid"

    network: str = "inception"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network != "inception":
            raise OptionError(
                f"fid is defined on Inception, not on the network {self.network}; "
                "fd is the Fréchet distance on custom features"
            )


def _stderr_kind(sides: Sequence[MomentsState]) -> str | None:
    """Return the `stderr_kind` of the jackknife: over the images of both sides or of the fakes, or None."""
    groups = [len(side.groups) for side in sides if not side.given]
    if not groups or min(groups) < LEAST_GROUPS:
        return None
    over = "images" if len(groups) == len(sides) else "fake images"
    return f"{over} (jackknife, {min(groups)} groups)"


def _jackknife(value: float, without: Sequence[float], counts: Sequence[int]) -> tuple[float, float]:
    """Return the variance of a value and its bias of order 1 / n, from its values without each group.

    Args:
        value: the value of all n images.
        without: the value without each group.
        counts: number of images of each group; the numbers may differ.

    Source: Busing, Meijer and van der Leeden 1999, delete-m_j jackknife, equations 5 to 7.
    """
    left = np.array(without)
    share = np.array(counts) / sum(counts)
    extrapolated = len(left) * value - float(((1 - share) * left).sum())
    pseudo = value / share - (1 / share - 1) * left
    variance = float(((pseudo - extrapolated) ** 2 / (1 / share - 1)).mean())
    return variance, value - extrapolated
