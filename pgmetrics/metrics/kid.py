"""The kernel Inception distance (KID): an unbiased squared distance between distributions of features."""

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
"""The seed with which torch-fidelity draws its subsets by default."""

_FAKE, _REAL = 0, 1


@dataclass(frozen=True)
class KernelInceptionDistance(FeatureMetric):
    """The squared MMD of Inception features under k(x, y) = (gamma x.y + coef0)^degree.

    KID is unbiased, unlike FID: its expectation does not depend on the number of images. Between equal
    distributions the expectation is 0, and about half of the values are correctly negative.

    By default one estimate is computed from all pairs of images, with its standard error over images.
    Publications mostly print the mean and standard deviation over subsets of 1,000 images. That mean has
    the same expectation and a larger error, and that deviation is of a single subset, not of the mean.

    Attributes:
        degree, gamma, coef0: parameters of the kernel; with gamma None, gamma is 1 / D.
        subsets: how many pairs of subsets are drawn; 0 takes all pairs of images.
        subset_size: images of each side in a subset, drawn without replacement.
        draws: how subsets are drawn: "keyed" by the seed and the subset's number, or "torch-fidelity" as
            that tool draws them if the fakes are its first input and the reals its second.

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
            raise OptionError(f"kid needs a coef0 of at least 0 to have a kernel, not {self.coef0}")
        # 0 subsets stand for all pairs of images.
        check_number("subsets of kid", self.subsets, 0, 10**6, whole=True)
        if self.subset_size < 2:
            raise OptionError(f"kid needs subsets of at least 2 images, not {self.subset_size}")
        if self.draws not in ("keyed", "torch-fidelity"):
            raise OptionError(f"kid needs draws to be keyed or torch-fidelity, not {self.draws}")

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
        """Whether `least` is the size of a subset, so that smaller subsets would need fewer images."""
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
            # The deviation over a single subset is undefined, not 0.
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
        """The influences on the estimate from all pairs of images; the mean over subsets has none."""
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
        return [replace(influence, halves=None) for influence in self.influences(real=real, fake=fake)]

    def _counts(self, reals: State, fakes: State) -> tuple[int, int]:
        self.check_enough(reals, fakes)
        return len(reals.seen), len(fakes.seen)

    def _drawn(
        self, n_real: int, n_fake: int, seed: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """The indices of the reals and of the fakes in every subset."""
        if self.draws == "torch-fidelity":
            pairs = seeding.legacy_subsets(
                TORCH_FIDELITY_SEED, (n_fake, n_real), self.subset_size, self.subsets
            )
            return [(of_real, of_fake) for of_fake, of_real in pairs]

        def subset(number: int, side: int, n: int) -> NDArray[np.int64]:
            # Sorted, so that the order of the sums does not depend on how NumPy draws.
            rng = seeding.generator(seed, Stream.SUBSETS, number, side)
            return np.sort(rng.choice(n, self.subset_size, replace=False, shuffle=False))

        return [(subset(i, _REAL, n_real), subset(i, _FAKE, n_fake)) for i in range(self.subsets)]
