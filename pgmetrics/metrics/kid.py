"""The kernel Inception distance (KID): a squared distance between distributions of features, without bias."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, check_number
from pgmetrics.functional.mmd import PolynomialKernel, squared_mmd, squared_mmd_influence, subset_squared_mmds
from pgmetrics.metrics.base import Estimate, State
from pgmetrics.metrics.feature_rows import FeatureMetric
from pgmetrics.metrics.influence import Influence
from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream

TORCH_FIDELITY_SEED = 2020
"""Of the subsets that torch-fidelity draws by default."""

_FAKE, _REAL = 0, 1


@dataclass(frozen=True)
class KernelInceptionDistance(FeatureMetric):
    """The squared MMD of Inception features under k(x, y) = (gamma x.y + coef0)^degree.

    Unbiased, unlike FID: its mean does not depend on the number of images, and between equal
    distributions it is 0, so that about half of the values are below 0 then. They are right.

    By default all pairs of images give one estimate and its standard error over images. The field
    mostly prints the mean and standard deviation over subsets of 1,000 images; the mean has the
    same expectation and a larger error, and the deviation is that of a subset, not of the mean.

    Attributes:
        degree, gamma, coef0: of the kernel; gamma None is 1 / D.
        subsets: how many pairs of subsets are drawn; 0 takes all pairs of images.
        subset_size: images of each side in a subset, drawn without repeats.
        draws: "keyed" by the seed and the subset's number, or "torch-fidelity": those of that tool
            when the fakes are its first input and the reals its second.

    Source: Bińkowski et al. 2018, section 4 and appendix D.
    """

    name: ClassVar[str] = "kid"
    two_sided: ClassVar[bool] = True

    degree: int = 3
    gamma: float | None = None
    coef0: float = 1.0
    subsets: int = 0
    subset_size: int = 1000
    draws: Literal["keyed", "torch-fidelity"] = "keyed"

    def __post_init__(self) -> None:
        if self.degree < 1:
            raise OptionError(f"kid needs a degree of at least 1, not {self.degree}")
        if self.gamma is not None and not (isfinite(self.gamma) and self.gamma > 0):
            raise OptionError(f"kid needs a gamma above 0, or None for 1 / D, not {self.gamma}")
        if not (isfinite(self.coef0) and self.coef0 >= 0):
            raise OptionError(f"kid needs a coef0 of at least 0, or it has no kernel, not {self.coef0}")
        # 0 of them mean all pairs of images.
        check_number("subsets of kid", self.subsets, 0, 10**6, whole=True)
        if self.subset_size < 2:
            raise OptionError(f"kid needs subsets of at least 2 images, not {self.subset_size}")
        if self.draws not in ("keyed", "torch-fidelity"):
            raise OptionError(f"kid draws keyed or torch-fidelity, not {self.draws}")

    @property
    def least(self) -> int:
        return self.subset_size if self.subsets else 2

    @property
    def for_what(self) -> str:
        return f" in subsets of {self.subset_size:,}" if self._whole_subsets else ""

    @property
    def way_out(self) -> str:
        return "Give more images" + (
            ", or ask for smaller subsets or for none" if self._whole_subsets else ""
        )

    @property
    def _whole_subsets(self) -> bool:
        """Whether it is subsets of their full size that need so many images."""
        return self.subsets > 0 and self.least == self.subset_size

    def compute(self, *, real: State | None, fake: State | None) -> tuple[list[Estimate], list[str]]:
        reals, fakes = self._both(real, fake)
        n_real, n_fake = self._counts(reals, fakes)
        x, y = ([torch.from_numpy(piece) for piece in state.pieces()] for state in (reals, fakes))
        kernel = PolynomialKernel(self.degree, self.gamma, self.coef0)
        if self.subsets:
            drawn = self._drawn(n_real, n_fake, reals.key.seed)
            values = subset_squared_mmds(x, y, drawn, kernel, fakes.device)
            value = float(values.mean())
            # One subset does not vary, which is not the same as a deviation of 0.
            spread = float(values.std()) if len(values) > 1 else None
            kind = "subsets (sd)"
        else:
            value, spread = squared_mmd(x, y, kernel, fakes.device)
            kind = "images"
        estimate = Estimate(
            self.name, None, value, spread, kind if spread is not None else None, "fake", n_real, n_fake
        )
        return [estimate], []

    def influences(self, *, real: State | None, fake: State | None) -> list[Influence]:
        """Of the estimate from all pairs of images; there are none for the mean over subsets."""
        reals, fakes = self._both(real, fake)
        if self.subsets or min(self._counts(reals, fakes)) < 4:
            return []
        x, y = (torch.from_numpy(state.rows()) for state in (reals, fakes))
        kernel = PolynomialKernel(self.degree, self.gamma, self.coef0)
        whole, even, odd = (
            Influence(self.name, None, *sides) for sides in squared_mmd_influence(x, y, kernel, fakes.device)
        )
        return [replace(whole, halves=(even, odd))]

    def scores(self, *, real: State | None, fake: State | None) -> list[Influence]:
        return [replace(one, halves=None) for one in self.influences(real=real, fake=fake)]

    def _counts(self, reals: State, fakes: State) -> tuple[int, int]:
        self.check_enough(reals, fakes)
        return len(reals.seen), len(fakes.seen)

    def _drawn(
        self, n_real: int, n_fake: int, seed: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """The places of the reals and of the fakes of every subset."""
        if self.draws == "torch-fidelity":
            pairs = seeding.legacy_subsets(
                TORCH_FIDELITY_SEED, (n_fake, n_real), self.subset_size, self.subsets
            )
            return [(of_real, of_fake) for of_fake, of_real in pairs]

        def subset(number: int, side: int, n: int) -> NDArray[np.int64]:
            # Sorted, since the sums are then over the same order whatever NumPy's way of drawing is.
            rng = seeding.generator(seed, Stream.SUBSETS, number, side)
            return np.sort(rng.choice(n, self.subset_size, replace=False, shuffle=False))

        return [(subset(i, _REAL, n_real), subset(i, _FAKE, n_fake)) for i in range(self.subsets)]
