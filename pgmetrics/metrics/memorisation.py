"""AuthPct and C_T: tests of whether a generator copies its training images."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgmetrics.errors import OptionError, SampleError, StateError
from pgmetrics.functional.copy_test import Cells, rank_z_score
from pgmetrics.functional.neighbors import nearest, squared_radii
from pgmetrics.metrics.base import Estimate, Side, State
from pgmetrics.metrics.feature_rows import FeatureMetric, FeatureRowsState
from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream

GIVEN_REALS = "fakes given the reals"
NULL = "generators that copy nothing (sd)"


@dataclass(frozen=True)
class Memorisation(FeatureMetric):
    """Two statistics of the distances from generated images to their nearest training image.

    authpct is the share of the fakes, 0 to 1, that are farther from their nearest training image
    than that image is from the nearest of the other training images. A generator that copies has 0;
    scoring held-out reals as fakes shows what is attainable. The name is its authors', who print percent.
    Its standard error holds the training images fixed.

    ct tests whether fakes are nearer to the training images than held-out reals are. In each cell of
    the training set a rank test compares the distances of the two sides. The z-scores of the cells are
    averaged, weighted by the number of held-out images in the cell. Far below 0 means copying, far above 0
    underfitting. As a measure of what is far, ct has the standard deviation under the null hypothesis that
    fakes and held-out images have equal distributions, in place of a standard error. It is left out
    without held-out images.

    Attributes:
        cells: number of k-means cells of the training images; 1 tests the whole set at once.
        least_in_cell: a cell with fewer held-out images or fewer fakes is left out.

    Source: section 3 of Alaa et al. 2022 (authenticity); sections 3 and 4 of Meehan et al. 2020 (C_T).
    """

    name: ClassVar[str] = "memorisation"
    two_sided: ClassVar[bool] = True
    sides: ClassVar[tuple[Side, ...]] = ("real", "fake", "held-out")

    cells: int = 10
    least_in_cell: int = 20

    def __post_init__(self) -> None:
        if self.cells < 1:
            raise OptionError(f"memorisation needs cells of at least 1, not {self.cells}")
        if self.least_in_cell < 2:
            raise OptionError(f"memorisation needs least_in_cell of at least 2, not {self.least_in_cell}")

    def usable(self, available: int, side: Side) -> int:
        if side == "held-out" and available < self.least_in_cell:
            raise SampleError(
                f"ct needs at least {self.least_in_cell} held-out images; there are {available}"
            )
        return super().usable(available, side)

    def compute(
        self, *, real: State | None, fake: State | None, held_out: State | None = None
    ) -> tuple[list[Estimate], list[str]]:
        """Return AuthPct and, with held-out images, C_T; and notes.

        Args:
            real: the training images.
            fake: the generated ones.
            held_out: real images that training never saw.

        Raises:
            SampleError: there are too few images.
            StateError: a state is missing, or the states cannot be compared.
        """
        reals, fakes = self._both(real, fake)
        self.check_enough(reals, fakes)
        training, device = _rows(reals), fakes.device
        distances, neighbors = nearest(_rows(fakes), training, device=device)
        authentic = distances > squared_radii(training, 1, device=device)[neighbors]
        counts = len(reals.seen), len(fakes.seen)
        stderr = float(authentic.std(ddof=1)) / sqrt(len(authentic))
        share = Estimate("authpct", None, float(authentic.mean()), stderr, GIVEN_REALS, "fake", *counts)
        if held_out is None:
            return [share], [
                "memorisation without held-out reals gives authpct only; with --held-out it also tests "
                "whether fakes are nearer to the training images than reals that training never saw (ct)"
            ]
        unseen = self._held_out(held_out, reals)
        unseen_distances, _ = nearest(_rows(unseen), training, device=device)
        if len(reals.seen) < self.cells:
            return [share], [
                f"ct is left out: {self.cells} cells need as many training images; there are "
                f"{len(reals.seen)} (cells=1 tests all at once)"
            ]
        cells = Cells(training, seeding.generator(reals.key.seed, Stream.CELLS).random(self.cells))
        ct, notes = self._ct(distances, cells.of(_rows(fakes)), unseen_distances, cells.of(_rows(unseen)))
        if ct is None:
            return [share], notes
        return [share, Estimate("ct", None, *ct, NULL, "fake", *counts)], notes

    def _held_out(self, held_out: State, reals: FeatureRowsState) -> FeatureRowsState:
        if not isinstance(held_out, FeatureRowsState) or held_out.key.side != "held-out":
            raise StateError(
                f"memorisation needs held-out features, not {held_out.key.side} {held_out.key.kind}"
            )
        for name, value in reals.key.to_dict().items():
            other = held_out.key.to_dict()[name]
            if name not in ("side", "source") and value != other:
                raise StateError(
                    f"real and held-out were made differently: {name} is {value} for real "
                    f"and {other} for held-out"
                )
        if held_out.width is not None and reals.width != held_out.width:
            raise StateError(f"real rows have {reals.width} features and held-out rows {held_out.width}")
        if len(held_out.seen) < self.least_in_cell:
            raise SampleError(
                f"ct needs at least {self.least_in_cell} held-out images; there are {len(held_out.seen)}"
            )
        return held_out

    def _ct(
        self,
        fakes: NDArray[np.float64],
        fake_cells: NDArray[np.int64],
        unseen: NDArray[np.float64],
        unseen_cells: NDArray[np.int64],
    ) -> tuple[tuple[float, float] | None, list[str]]:
        """Return the weighted mean of the cells' z-scores with its deviation under the null; and notes.

        The first is None if every cell has too few images. That is no refusal, because it is known only after
        all images were read, and AuthPct can still be reported.

        Args:
            fakes, unseen: squared distances of the fakes and held-out images to their nearest training image.
            fake_cells, unseen_cells: the cell of each of these images.
        """
        scores, weights = [], []
        for cell in range(self.cells):
            fakes_in, unseen_in = fakes[fake_cells == cell], unseen[unseen_cells == cell]
            if min(len(fakes_in), len(unseen_in)) >= self.least_in_cell:
                scores.append(rank_z_score(fakes_in, unseen_in))
                weights.append(len(unseen_in))
        if not scores:
            return None, [
                f"ct is left out: none of {self.cells} cells holds {self.least_in_cell} held-out images and "
                "as many fakes; fewer cells hold more (cells=1 tests all at once)"
            ]
        share = np.array(weights) / sum(weights)
        notes = []
        if len(scores) < self.cells:
            notes.append(
                f"ct leaves out {self.cells - len(scores)} of {self.cells} cells with fewer than "
                f"{self.least_in_cell} held-out images or fakes; the others hold "
                f"{sum(weights):,} of {len(unseen):,} held-out images"
            )
        return (float(share @ np.array(scores)), float(np.linalg.norm(share))), notes


def _rows(state: FeatureRowsState) -> list[Tensor]:
    return [torch.from_numpy(piece) for piece in state.pieces()]
