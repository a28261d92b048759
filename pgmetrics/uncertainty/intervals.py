"""Compute standard errors and intervals of a number and of the difference of two numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import OptionError
from pgmetrics.metrics.error_kinds import degrees_of_freedom, is_over_images
from pgmetrics.metrics.influence import Influence, pooled_degrees_of_freedom
from pgmetrics.metrics.registry import output
from pgmetrics.uncertainty.verdicts import Score

STUDENT = "Student's t"
NONE = "none"
LEAST_SHARE = -0.5
"""Least share of the first order in a difference's variance: see `Influence.variance`."""
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A number of two generated sets A and B, and the uncertainty of their difference.

    Attributes:
        metric, level: as in `metrics.base.Estimate`.
        a, b: the raw value of each set.
        difference: b - a.
        stderr: its standard error over images; None if no sound one exists.
        low, high: its interval at the requested confidence; None if there is no standard error.
        p_value: p-value of the hypothesis that A and B have equal distributions; None if there is no test.
        test: the test: "swaps of pairs" (exact), "Student's t" or "none".
        n_real, n_fake: number of reals, and of images in each of A and B; None for a side that is not used.
        stderr_a, stderr_b: the standard errors over images of a and b; None if no sound one exists.
        df, df_a, df_b: degrees of freedom of the three errors.
        p_difference: p-value of the hypothesis that the number has equal expectations for A and B, whose
            distributions may differ. It comes from the standard error, which includes that of the reals; None
            without one. If the finite-sample bias is estimated, the expectations at infinitely many images
            must also be equal under the hypothesis.
    """

    metric: str
    level: int | None
    a: float
    b: float
    difference: float
    stderr: float | None
    low: float | None
    high: float | None
    p_value: float | None
    test: str
    n_real: int | None
    n_fake: int | None
    stderr_a: float | None = None
    stderr_b: float | None = None
    df: float = inf
    df_a: float = inf
    df_b: float = inf
    p_difference: float | None = None

    @property
    def scores(self) -> tuple[Score, Score]:
        """The values of A and B with their standard errors."""
        return Score(self.a, self.stderr_a, self.df_a), Score(self.b, self.stderr_b, self.df_b)


def stderr(influence: Influence) -> float:
    """Return the standard error of a number over sets of images: the root of `Influence.variance`.

    Raises:
        SampleError: a side has fewer than 2 images.
    """
    return sqrt(influence.variance())


def stderr_of_difference(a: Influence, b: Influence) -> float:
    """Return the standard error of the value of B minus that of A, whose images are paired by index.

    Raises:
        SampleError: a side has fewer than 2 images.
    """
    return sqrt(contrast(a, b).variance(LEAST_SHARE))


def interval(value: float, stderr: float, level: float = 0.95, df: float = inf) -> tuple[float, float]:
    """Return the confidence interval around a value by Student's t, or by the normal if `df` is infinite.

    Args:
        value: a number.
        stderr: its standard error.
        level: the confidence level.
        df: degrees of freedom of the error, as `degrees_of_freedom` returns them.

    Raises:
        OptionError: the confidence level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise OptionError(f"a confidence lies between 0 and 1, not at {level}")

    from scipy.special import stdtrit

    reach = float(stdtrit(df, (1 + level) / 2)) * stderr
    return value - reach, value + reach


def contrast(a: Influence, b: Influence) -> Influence:
    """Return the influence of each real image, and of each pair of fakes, on the value of B minus that of A.

    Args:
        a, b: influences of one metric and level; A and B have equally many images.
    """

    def less(one: Vector | None, other: Vector | None) -> Vector | None:
        return None if one is None or other is None else other - one

    halves = None
    if a.halves is not None and b.halves is not None:
        halves = contrast(a.halves[0], b.halves[0]), contrast(a.halves[1], b.halves[1])
    return replace(
        a,
        real=less(a.real, b.real),
        fake=less(a.fake, b.fake),
        halves=halves,
        batches=less(a.batches, b.batches),
        bias=b.bias - a.bias,
    )


def independent_difference(
    row_a: Mapping[str, Any], row_b: Mapping[str, Any], confidence: float = 0.95
) -> Difference:
    """Return the difference of two rows of results, treated as independent draws.

    If both errors are over images or pairs, Welch's test and interval are used, with the degrees of freedom
    of the rows. Errors over directions and deviations over splits do not measure the variation with other
    images. Variances are added as if all images were independent; if the sets share their reals, the test is
    conservative.

    Args:
        row_a, row_b: rows of one metric and level, with the columns of `results.COLUMNS`.
        confidence: confidence level of the interval.

    Raises:
        OptionError: the rows have different metrics or levels.
    """
    for name in ("metric", "level"):
        if row_a[name] != row_b[name]:
            raise OptionError(f"rows of unlike {name} are not compared: {row_a[name]} and {row_b[name]}")
    errors = [_error_over_images(row, other) for row, other in ((row_a, row_b), (row_b, row_a))]
    degrees = [degrees_of_freedom(row) for row in (row_a, row_b)]
    scores = (
        Score(float(row_a["value"]), errors[0], degrees[0]),
        Score(float(row_b["value"]), errors[1], degrees[1]),
    )
    error, df = None, inf
    if errors[0] is not None and errors[1] is not None:
        squares = errors[0] ** 2, errors[1] ** 2
        error, df = sqrt(sum(squares)), pooled_degrees_of_freedom(squares, degrees)
    counts = row_a["n_real"], row_a["n_fake"]
    test = NONE if error is None else STUDENT
    return difference_of(row_a["metric"], row_a["level"], scores, error, df, test, counts, confidence)


def _error_over_images(row: Mapping[str, Any], other: Mapping[str, Any]) -> float | None:
    kind = row["stderr_kind"]
    if row["stderr"] is None or not is_over_images(kind):
        return None
    # The directions were held fixed, so that the error is valid only between sets that share them.
    held = kind == "images" and "directions" in output(row["metric"]).errors
    if held and row["seed"] != other["seed"]:
        return None
    return float(row["stderr"])


def _without_bias(difference: float, bias: float) -> float:
    """Return the smaller of the differences at this and at an infinite number of images; 0 if signs differ.

    A set of less variety, such as a blurred copy, has less bias. At few images it can therefore seem nearer
    to the reals than it is.
    """
    corrected = difference - bias
    if difference * corrected <= 0:
        return 0.0
    return min(difference, corrected, key=abs)


def _two_sided(difference: float, error: float, df: float) -> float:
    if error == 0:
        return 1.0 if difference == 0 else 0.0

    from scipy.special import stdtr

    return float(2 * stdtr(df, -abs(difference) / error))


def difference_of(
    metric: str,
    level: int | None,
    scores: tuple[Score, Score],
    error: float | None,
    df: float,
    test: str,
    counts: tuple[int | None, int | None],
    confidence: float,
    p_value: float | None = None,
    bias: float = 0.0,
) -> Difference:
    """Make a `Difference`, with Student's p-value for that test; `bias` is the bias of b - a."""
    a, b = (score.value for score in scores)
    low = high = p_difference = None
    if error is not None:
        low, high = interval(b - a, error, confidence, df)
        p_difference = _two_sided(_without_bias(b - a, bias), error, df)
    if test == STUDENT:
        p_value = p_difference
    return Difference(
        metric,
        level,
        a,
        b,
        b - a,
        error,
        low,
        high,
        p_value,
        test,
        *counts,
        stderr_a=scores[0].stderr,
        stderr_b=scores[1].stderr,
        df=df,
        df_a=scores[0].df,
        df_b=scores[1].df,
        p_difference=p_difference,
    )
