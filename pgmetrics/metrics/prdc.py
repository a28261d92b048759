"""Precision, recall, density and coverage: how fakes and reals lie among each other's nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, SampleError
from pgmetrics.functional.neighbours import neighbourhoods, shares
from pgmetrics.metrics.base import Estimate, Influence, State
from pgmetrics.metrics.rows import FeatureMetric

NAMES = ("precision", "recall", "density", "coverage")

GIVEN_REALS = "fakes given the reals"
GIVEN_FAKES = "reals given the fakes"


@dataclass(frozen=True)
class PRDC(FeatureMetric):
    """Four shares of images that lie in balls around others; a ball reaches to the k-th nearest neighbour.

    precision: share of the fakes that lie in a ball around some real;
    recall: share of the reals that lie in a ball around some fake;
    density: balls around reals that hold a fake, averaged over the fakes, divided by k (it can exceed 1);
    coverage: share of the reals whose ball holds a fake.

    A ball includes its border. So a fake that copies a real lies in the ball around it, and of
    equal sets precision, recall and coverage are 1 and density is at least 1 (1 + 1/k without
    ties). Code with a strict < gives less wherever distances tie, down to 0 where images repeat.
    k counts neighbours other than the point itself; a copy of it is another point.

    The values depend on how many images there are on each side, so compare at equal counts. The
    standard errors hold one side fixed, as `stderr_kind` says: with it, the images of the other are
    independent draws. They say nothing of the fixed side's own chance. Coverage has none, since
    neither side's images enter it independently.

    Attributes:
        k: which neighbour a ball reaches to.
        names: which of the four.

    Source: Kynkäänniemi et al. 2019 (precision, recall; k = 3); Naeem et al. 2020 (density,
    coverage; k = 5).
    """

    name: ClassVar[str] = "prdc"
    two_sided: ClassVar[bool] = True

    k: int = 5
    names: tuple[str, ...] = NAMES

    def __post_init__(self) -> None:
        if self.k < 1:
            raise OptionError(f"prdc needs k of at least 1, not {self.k}")
        unknown = [name for name in self.names if name not in NAMES]
        if unknown or not self.names or len(set(self.names)) < len(self.names):
            raise OptionError(f"prdc gives some of {', '.join(NAMES)}, each once, not {self.names}")

    @property
    def least(self) -> int:
        return self.k + 1

    def compute(self, *, real: State | None, fake: State | None) -> tuple[list[Estimate], list[str]]:
        x, y, device = self._rows(real, fake)
        found = neighbourhoods(x, y, self.k, fake_balls="recall" in self.names, device=device)
        numbers: dict[str, tuple[float, float | None, str | None]] = {
            "precision": _mean(found.real_balls > 0, GIVEN_REALS),
            "density": _mean(found.real_balls, GIVEN_REALS, self.k),
            "coverage": (float(found.covered.mean()), None, None),
        }
        if found.recalled is not None:
            numbers["recall"] = _mean(found.recalled, GIVEN_FAKES)
        counts = len(found.covered), len(found.real_balls)
        return [Estimate(name, None, *numbers[name], "fake", *counts) for name in self.names], []

    def influences(self, *, real: State | None, fake: State | None) -> list[Influence]:
        """Of the fakes, given the reals, on precision, density and coverage.

        On precision and density, which are means over the fakes, exactly; on coverage what is lost
        without the fake. Recall has none: a fake changes the balls around others.
        """
        found = self._parts(real, fake)
        parts = {"precision": found.precision, "density": found.density, "coverage": found.alone}
        return [
            Influence(name, None, None, parts[name] - parts[name].mean())
            for name in self.names
            if name in parts
        ]

    def scores(self, *, real: State | None, fake: State | None) -> list[Influence]:
        """Of all four: a real that is covered or recalled counts 1, shared evenly by the fakes that do it."""
        found = self._parts(real, fake)
        return [Influence(name, None, None, getattr(found, name)) for name in self.names]

    def _parts(self, real: State | None, fake: State | None) -> _Parts:
        x, y, device = self._rows(real, fake)
        balls = neighbourhoods(x, y, self.k, fake_balls=False, device=device).real_balls
        found = shares(x, y, self.k, device=device)
        n_real, n_fake = (sum(map(len, pieces)) for pieces in (x, y))
        per_real = n_fake / n_real
        return _Parts(
            precision=(balls > 0).astype(np.float64),
            density=balls / self.k,
            coverage=found.covering * per_real,
            alone=found.alone.astype(np.float64) * per_real,
            recall=found.recalling * per_real,
        )

    def _rows(
        self, real: State | None, fake: State | None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.device]:
        reals, fakes = self._both(real, fake)
        for side, state in (("real", reals), ("fake", fakes)):
            if len(state.seen) < self.least:
                raise SampleError(
                    f"prdc with k={self.k} needs at least {self.least} images of each side; "
                    f"the {side} side has {len(state.seen)}"
                )
        x, y = ([torch.from_numpy(piece) for piece in state.pieces()] for state in (reals, fakes))
        return x, y, fakes.device


@dataclass(frozen=True)
class _Parts:
    """What each fake does for each number, which is the mean of that.

    `alone` is what it does for coverage that no other fake does.
    """

    precision: NDArray[np.float64]
    density: NDArray[np.float64]
    coverage: NDArray[np.float64]
    alone: NDArray[np.float64]
    recall: NDArray[np.float64]


def _mean(values: NDArray[np.bool_] | NDArray[np.int64], kind: str, per: int = 1) -> tuple[float, float, str]:
    """Mean of independent values divided by `per`, its standard error, and what varied."""
    stderr = float(np.std(values, ddof=1)) / sqrt(len(values))
    return float(values.mean()) / per, stderr / per, kind
