"""How far each image moves a number, to first order: the basis of errors over images and paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import SampleError


@dataclass(frozen=True)
class Influence:
    """How far each image of a set moves a value, to first order: the von Mises expansion.

    The value of slightly other sets is about the value plus, for each side, the mean of the influence
    over that side's images; so the variance of the influence over the number of images is the value's.

    Attributes:
        metric: the number's name in data.
        level: as in `Estimate`.
        real, fake: float64 [n], of every image of the side in index order, with a mean of 0 (MS-SSIM:
            of every pair); None for a side that takes no part, or whose part is not known.
        halves: influences of all images, with the derivative taken at the images of even index, then at those
            of odd index; None if they are not known.
        batches: if no influence is known, the number's values for B disjoint parts of the images, for each
            of P ways to divide them: float64 [P, B]; None otherwise.
        bias: estimate of the bias from the finite number of images; 0 if it is not estimated.
    """

    metric: str
    level: int | None
    real: NDArray[np.float64] | None
    fake: NDArray[np.float64] | None
    halves: tuple[Influence, Influence] | None = None
    batches: NDArray[np.float64] | None = None
    bias: float = 0.0

    def variance(self, least_share: float = 0.0) -> float:
        """The variance of the number over sets of so many images.

        The sum over the sides of var(influence) / n counts what a pair of images does together twice,
        and what three do thrice: between equal distributions, where SWD and FID have no first order, it
        is twice too large. What single images do alone is the part of the influences that other sets
        of images would give, too. Influences whose derivatives were taken at either half of the images
        tell how large that part is: their correlation r is the part's share at half the images, and
        2 r / (1 + r) its share at all of them. The variance is that part and half of the rest, which
        is right to the second order.

        The share scatters around 0 where there is no first order. A value that is small by chance then
        comes with a small share, so that negative ones would make its error too small just where it
        must not be. A difference is not so tied to its error, which negative shares keep right on
        average.

        Of batches it is their variance over their number: right if the number's variance goes with the
        inverse of the number of images.

        Args:
            least_share: of the first order, from -1 to 0; smaller ones are raised to it.

        Raises:
            SampleError: a side has fewer than 2 images.

        Source: that such a sum is never too small in the mean is Efron and Stein 1981; the variance as
        the mean covariance of derivatives at sets that share from none to all of their images is the
        covariance identity of Houdré and Pérez-Abreu 1995, here by the trapezoidal rule; the share at
        twice the length is Spearman's and Brown's of 1910; batch means are Schmeiser 1982.
        """
        if self.batches is not None:
            of_parts: NDArray[np.float64] = np.var(self.batches, axis=1, ddof=1)
            return float(of_parts.mean()) / len(self.batches[0])
        both = sum(self._variances())
        if self.halves is None:
            return both
        return both * (1 + max(self._share_of_first_order(*self.halves), least_share)) / 2

    def degrees_of_freedom(self) -> float:
        """How many squares of normal numbers the variance is as uncertain as, less their mean: Student's.

        Of one side of n images n - 1, of two what Satterthwaite 1946 gives them; of batches those of all ways
        to part the images, which are as good as independent of each other.

        Raises:
            SampleError: as `variance`.
        """
        if self.batches is not None:
            ways, parts = self.batches.shape
            return float(ways * (parts - 1))
        sides = [side for side in (self.real, self.fake) if side is not None]
        return pooled_degrees_of_freedom(self._variances(), [len(side) - 1 for side in sides])

    def _variances(self) -> list[float]:
        return [_covariance([side], [side]) for side in (self.real, self.fake) if side is not None]

    @staticmethod
    def _share_of_first_order(even: Influence, odd: Influence) -> float:
        def covariance(one: Influence, other: Influence) -> float:
            # Around each half's own mean: what the halves' means have in common, the derivatives have.
            return sum(
                _covariance([x[::2], x[1::2]], [y[::2], y[1::2]])
                for x, y in ((one.real, other.real), (one.fake, other.fake))
                if x is not None and y is not None
            )

        spread = sqrt(covariance(even, even) * covariance(odd, odd))
        if spread == 0:
            return 1.0
        r = covariance(even, odd) / spread
        return 2 * r / (1 + max(r, 0.0))


def pooled_degrees_of_freedom(variances: Sequence[float], degrees: Sequence[float]) -> float:
    """Degrees of freedom of a sum of variances that are estimated independently of each other.

    Args:
        variances: at least 0, at least one of them.
        degrees: of freedom of each; infinite for one that is known.

    Source: Satterthwaite 1946; Welch 1947.
    """
    total = sum(variances)
    if total == 0:
        return min(degrees)
    # Shares, since squares of tiny variances are 0.
    inverse = sum((variance / total) ** 2 / of for variance, of in zip(variances, degrees, strict=True))
    return 1 / inverse if inverse > 0 else inf


def _covariance(parts: Sequence[NDArray[np.float64]], others: Sequence[NDArray[np.float64]]) -> float:
    """Of two influences, each around its mean over every part of the images, over the number of images."""
    n = sum(map(len, parts))
    if n <= len(parts):
        raise SampleError(f"an error over images needs at least {len(parts) + 1} of them, not {n}")
    products = (float((x - x.mean()) @ (y - y.mean())) for x, y in zip(parts, others, strict=True))
    return sum(products) / (n - len(parts)) / n
