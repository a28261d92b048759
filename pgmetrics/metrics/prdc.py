"""Precision, recall, density and coverage, from the nearest neighbors of fakes and reals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pgmetrics.errors import OptionError
from pgmetrics.functional.neighbors import neighborhoods, shares
from pgmetrics.metrics.base import Estimate, State
from pgmetrics.metrics.feature_rows import FeatureMetric
from pgmetrics.metrics.influence import Influence
from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream

NAMES = ("precision", "recall", "density", "coverage")

_BATCHES = 4
_WAYS = 16
"""How often the images are divided into parts: the variance of only four values would be a rough guess."""

GIVEN_REALS = "fakes given the reals"
GIVEN_FAKES = "reals given the fakes"
OF_PARTS = f"images ({_WAYS} x {_BATCHES} parts)"


@dataclass(frozen=True)
class PRDC(FeatureMetric):
    """Four numbers about balls around the images of a side; a ball reaches to the k-th nearest neighbor.

    precision: share of the fakes that lie in the ball of some real;
    recall: share of the reals that lie in the ball of some fake;
    density: number of reals' balls in which a fake lies, averaged over the fakes, divided by k; it can
    exceed 1;
    coverage: share of the reals whose ball contains a fake.

    Balls are closed (≤). So a fake that copies a real lies in its ball. Between equal sets precision,
    recall and coverage are 1, and density is at least 1 (1 + 1/k without ties). Code with a strict <
    gives lower values if distances tie, down to 0 if images repeat. k counts neighbors other than the
    point itself; a copy of it is another point.

    The values depend on the number of images of each side, so compare at equal counts. By default the
    standard errors hold one side fixed, as `stderr_kind` says; given that side, the images of the other are
    independent draws. They do not include the sampling error of the fixed side. Coverage has no such error,
    since the images of neither side enter it independently.

    Attributes:
        k: number of the neighbor to which a ball reaches.
        names: which of the four numbers are computed.
        error: source of the standard errors: "one side", or "images" of both sides. The latter come from the
            values of quarters of the images, divided in sixteen ways, which takes about four times as long
            as the values.

    Source: Kynkäänniemi et al. 2019 (precision, recall; k = 3); Naeem et al. 2020 (density,
    coverage; k = 5).
    """

    name: ClassVar[str] = "prdc"
    two_sided: ClassVar[bool] = True
    error_choices: ClassVar[tuple[str, ...]] = ("one side", "images")

    k: int = 5
    names: tuple[str, ...] = NAMES
    error: Literal["one side", "images"] = "one side"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise OptionError(f"prdc needs k of at least 1, not {self.k}")
        unknown = [name for name in self.names if name not in NAMES]
        if unknown or not self.names or len(set(self.names)) < len(self.names):
            raise OptionError(f"prdc gives some of {', '.join(NAMES)}, each once, not {self.names}")
        if self.error not in self.error_choices:
            raise OptionError(f"prdc has errors over one side or images, not {self.error}")

    @property
    def least(self) -> int:
        return self.k + 1

    @property
    def for_what(self) -> str:
        return f" with k={self.k}"

    @property
    def way_out(self) -> str:
        return "Give more images, or ask for a smaller k"

    def giving(self, numbers: Sequence[str]) -> PRDC:
        if unknown := [number for number in numbers if number not in self.names]:
            raise OptionError(f"prdc gives {', '.join(self.names)} here, not {', '.join(unknown)}")
        return replace(self, names=tuple(name for name in self.names if name in numbers))

    def compute(self, *, real: State | None, fake: State | None) -> tuple[list[Estimate], list[str]]:
        x, y, device = self._rows(real, fake)
        balls = neighborhoods(x, y, self.k, fake_balls="recall" in self.names, device=device)
        numbers: dict[str, tuple[float, float | None, str | None]] = {
            "precision": _mean(balls.real_balls > 0, GIVEN_REALS),
            "density": _mean(balls.real_balls, GIVEN_REALS, self.k),
            "coverage": (float(balls.covered.mean()), None, None),
        }
        if balls.recalled is not None:
            numbers["recall"] = _mean(balls.recalled, GIVEN_FAKES)
        counts = len(balls.covered), len(balls.real_balls)
        estimates = [Estimate(name, None, *numbers[name], "fake", *counts) for name in self.names]
        if self.error == "images":
            influences = self.influences(real=real, fake=fake)
            errors = {influence.metric: sqrt(influence.variance()) for influence in influences}
            estimates = [
                replace(
                    estimate,
                    stderr=errors.get(estimate.metric),
                    stderr_kind=OF_PARTS if errors else None,
                )
                for estimate in estimates
            ]
        return estimates, []

    def influences(self, *, real: State | None, fake: State | None) -> list[Influence]:
        """Return the values of quarters of the images, divided in sixteen ways, as `Influence.batches`.

        An image changes the balls around other images, so that no single influence describes it. With fewer
        than 4 (k + 1) images of a side the list is empty.
        """
        x, y, device = self._rows(real, fake)
        rows = torch.cat(x), torch.cat(y)
        if min(map(len, rows)) < _BATCHES * self.least:
            return []
        values = np.array([[self._values(*part, device) for part in _parted(*rows, i)] for i in range(_WAYS)])
        return [
            Influence(name, None, None, None, batches=values[:, :, i]) for i, name in enumerate(self.names)
        ]

    def _values(self, real: torch.Tensor, fake: torch.Tensor, device: torch.device) -> list[float]:
        balls = neighborhoods([real], [fake], self.k, fake_balls="recall" in self.names, device=device)
        numbers = {
            "precision": float((balls.real_balls > 0).mean()),
            "density": float(balls.real_balls.mean()) / self.k,
            "coverage": float(balls.covered.mean()),
            "recall": 0.0 if balls.recalled is None else float(balls.recalled.mean()),
        }
        return [numbers[name] for name in self.names]

    def scores(self, *, real: State | None, fake: State | None) -> list[Influence]:
        """Scores of the fakes; a covered or recalled real adds 1, divided among the fakes that do it."""
        x, y, device = self._rows(real, fake)
        balls = neighborhoods(x, y, self.k, fake_balls=False, device=device).real_balls
        of_reals = shares(x, y, self.k, device=device)
        parts: dict[str, NDArray[np.float64]] = {
            "precision": (balls > 0).astype(np.float64),
            "density": balls.astype(np.float64),
            "coverage": of_reals.covering,
            "recall": of_reals.recalling,
        }
        return [Influence(name, None, None, parts[name]) for name in self.names]

    def _rows(
        self, real: State | None, fake: State | None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.device]:
        reals, fakes = self._both(real, fake)
        self.check_enough(reals, fakes)
        x, y = ([torch.from_numpy(piece) for piece in state.pieces()] for state in (reals, fakes))
        return x, y, fakes.device


def _parted(real: torch.Tensor, fake: torch.Tensor, way: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Divide both sides into disjoint parts by index; the parts depend only on the numbers of images."""
    orders = [
        torch.from_numpy(seeding.generator(0, Stream.RESAMPLING, way, side).permutation(len(rows)))
        for side, rows in enumerate((real, fake))
    ]
    return [(real[orders[0][part::_BATCHES]], fake[orders[1][part::_BATCHES]]) for part in range(_BATCHES)]


def _mean(values: NDArray[np.bool_] | NDArray[np.int64], kind: str, per: int = 1) -> tuple[float, float, str]:
    """Mean of independent values divided by `per`, its standard error, and the `stderr_kind`."""
    stderr = float(np.std(values, ddof=1)) / sqrt(len(values))
    return float(values.mean()) / per, stderr / per, kind
