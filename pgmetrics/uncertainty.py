"""How sure a number is, and whether two differ: errors over images, intervals and tests.

States and numbers in, numbers out. What an interval covers is the expectation of the metric over sets
of the very number of images that was used: SWD, FID, IS and precision/recall have another expectation
at another number. docs/uncertainty.md says how often they do, by simulation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics import seeding
from pgmetrics.error_kinds import degrees_of_freedom, is_over_images
from pgmetrics.errors import OptionError, SampleError, StateError
from pgmetrics.metrics.base import Estimate, Influence, Metric, State, pooled_degrees_of_freedom
from pgmetrics.seeding import Stream
from pgmetrics.verdicts import Score

SWAPS = "swaps of pairs"
STUDENT = "Student's t"
NONE = "none"

_LEAST_SHARE = -0.5
"""Least share of the first order in a difference's variance: see `Influence.variance`."""

_BLOCK = 2**22
"""Signs of a randomisation test held at once, 32 MB of float64."""

_TIE = 1e-9
"""Sums of equal numbers in another order differ by rounding, and must count as equal."""

Vector = NDArray[np.float64]
Place = tuple[str, "int | None"]
"""A metric's name and a level."""


@dataclass(frozen=True)
class Difference:
    """A number of two sets A and B of generated images, and how sure their difference is.

    Attributes:
        metric, level: as in `metrics.base.Estimate`.
        a, b: the number of each set, raw.
        difference: b - a.
        stderr: its standard error over images, None where no sound one exists.
        low, high: the interval of the confidence that was asked for, None likewise.
        p_value: of the hypothesis that A and B are the same, None where there is no test.
        test: which one: "swaps of pairs", exact; "Student's t"; or "none".
        n_real, n_fake: images of the reals, and of each of A and B; None where a side takes no part.
        stderr_a, stderr_b: the standard errors over images of a and of b, None where no sound one exists.
        df, df_a, df_b: degrees of freedom of the three errors, in their order.
        p_difference: of the hypothesis that the number expects the same of A and B, though these may be
            unlike: from the standard error, which holds the reals' own; None where there is none. Where the
            bias by the finite number of images is estimated, the hypothesis holds infinitely many, too.
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
        """The numbers of A and of B with their errors."""
        return Score(self.a, self.stderr_a, self.df_a), Score(self.b, self.stderr_b, self.df_b)


def stderr(influence: Influence) -> float:
    """The standard error of a number over sets of images: the root of `Influence.variance`.

    Raises:
        SampleError: a side has fewer than 2 images.
    """
    return sqrt(influence.variance())


def stderr_of_difference(a: Influence, b: Influence) -> float:
    """The standard error of the number of B less that of A, whose images are paired by their places.

    Raises:
        SampleError: a side has fewer than 2 images.
    """
    return sqrt(contrast(a, b).variance(_LEAST_SHARE))


def interval(value: float, stderr: float, level: float = 0.95, df: float = inf) -> tuple[float, float]:
    """The interval of that confidence around a value: Student's, normal where `df` is infinite.

    Args:
        value: a number.
        stderr: its standard error.
        level: the confidence.
        df: degrees of freedom of the error, as `degrees_of_freedom` tells them.

    Raises:
        OptionError: a confidence that is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise OptionError(f"a confidence lies between 0 and 1, not at {level}")
    from scipy.special import stdtrit

    reach = float(stdtrit(df, (1 + level) / 2)) * stderr
    return value - reach, value + reach


def paired_differences(
    metric: Metric,
    real: State | None,
    a: State,
    b: State,
    *,
    seed: int = 0,
    permutations: int = 9999,
    confidence: float = 0.95,
) -> list[Difference]:
    """What a metric says of B less what it says of A, image i of the one beside image i of the other.

    The p-value is exact at any number of images: if A and B are the same, then exchanging image i of A
    with image i of B changes nothing, so the difference of the images' scores is compared with its
    values under random exchanges. The scores are influences at A and B taken together, which no
    exchange changes. The interval comes from each image's influence on the difference, the reals' too,
    which cancel as far as A and B are alike; so do the latents that the two share. Sets of independent
    images are paired just as well, by their places.

    Args:
        metric: whose states they are; a Fréchet distance needs `keep_rows=True`.
        real: the reals' state, None for a metric of one set.
        a, b: states of the side "fake", of the same places of two sequences.
        seed: of the exchanges.
        permutations: how many exchanges are drawn; all 2^n are made where these are fewer.
        confidence: of the intervals.

    Returns:
        One for each number about the fakes; those without influences have no error and no test.

    Raises:
        SampleError: A and B hold other places, or too few images.
        StateError: the states do not belong together.
    """
    _check_pair(a, b)
    if permutations < 1:
        raise OptionError(f"a randomisation test needs at least 1 permutation, not {permutations}")
    found_a, found_b = (_about_fakes(metric, real, fake) for fake in (a, b))
    parts_a, parts_b = (_by_place(metric.influences(real=real, fake=fake)) for fake in (a, b))
    p_values = swap_test(metric, real, a, b, seed=seed, permutations=permutations) if a.movable else {}
    differences = []
    for place in found_a:
        if place not in found_b:
            continue
        error: float | None = None
        df, bias, scores = inf, 0.0, (Score(found_a[place].value), Score(found_b[place].value))
        if place in parts_a:
            sides = parts_a[place], parts_b[place]
            parts = contrast(*sides)
            error, df = sqrt(parts.variance(_LEAST_SHARE)), parts.degrees_of_freedom()
            bias = parts.bias
            errors = [(stderr(one), one.degrees_of_freedom()) for one in sides]
            scores = Score(scores[0].value, *errors[0]), Score(scores[1].value, *errors[1])
        first = found_a[place]
        differences.append(
            _difference(
                first.metric,
                first.level,
                scores,
                error,
                df,
                SWAPS if place in p_values else NONE,
                (first.n_real, first.n_fake),
                confidence,
                p_values.get(place),
                bias,
            )
        )
    return differences


def swap_test(
    metric: Metric, real: State | None, a: State, b: State, *, seed: int = 0, permutations: int = 9999
) -> dict[Place, float]:
    """The p-values of `paired_differences`, by metric and level."""
    scores = metric.scores(real=real, fake=_pooled(a, b))
    found = {(one.metric, one.level): one.fake for one in scores if one.fake is not None}
    if not found:
        return {}
    pooled = np.stack(list(found.values()), axis=1)
    n = len(pooled) // 2
    p_values = swap_p_values(pooled[:n] - pooled[n:], seed=seed, permutations=permutations)
    return dict(zip(found, p_values, strict=True))


def contrast(a: Influence, b: Influence) -> Influence:
    """The influence on the number of B less that of A: of each image of the reals, and of each pair of fakes.

    Args:
        a, b: of one metric and level, of sets that are as large as each other.
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
    """The difference of two rows of results, of which nothing is known but the numbers and their errors.

    Welch's test and interval, where both errors are over images or pairs, with the degrees of freedom
    that the rows tell of; errors over directions and deviations over splits say nothing of other images.
    The errors are added as if all images were independent: sets that share their reals differ by less, so
    that the test is then on the safe side.

    Args:
        row_a, row_b: of one metric and level, with the columns of `results.COLUMNS`.
        confidence: of the interval.

    Raises:
        OptionError: the rows are of unlike metrics or levels.
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
    return _difference(row_a["metric"], row_a["level"], scores, error, df, test, counts, confidence)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being many: rejecting those up to α errs once or more in a share α of cases.

    Source: Holm 1979.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, p_values[i] * (len(p_values) - rank)))
        adjusted[i] = largest
    return adjusted


def swap_p_values(
    differences: NDArray[np.float64], *, seed: int = 0, permutations: int = 9999
) -> list[float]:
    """Two-sided p-values of the means of columns, under random changes of the rows' signs.

    Exact if each row is as likely as its opposite: the share of sign patterns whose mean is at least as
    far from 0, the one found included. All columns meet the same patterns.

    Args:
        differences: float64 [n, L].
        seed: of the patterns.
        permutations: patterns drawn; all 2^n are gone through where these are not more.
    """
    n = len(differences)
    observed = np.abs(differences.sum(axis=0))
    least = observed - _TIE * np.abs(differences).sum(axis=0)
    every = n < 63 and 2**n <= permutations + 1
    rng = seeding.generator(seed, Stream.RANDOMISATION)
    total = 2**n if every else permutations
    reached = np.zeros(differences.shape[1], np.int64)
    step = max(1, _BLOCK // n)
    for start in range(0, total, step):
        count = min(step, total - start)
        if every:
            signs = 1.0 - 2.0 * ((np.arange(start, start + count)[:, None] >> np.arange(n)) & 1)
        else:
            packed = rng.integers(0, 256, (count, -(-n // 8)), dtype=np.uint8)
            signs = 1.0 - 2.0 * np.unpackbits(packed, axis=1, count=n)
        sums = signs @ differences
        reached += (np.abs(sums) >= least).sum(axis=0)
    if every:
        return [float(count / total) for count in reached]
    return [float((1 + count) / (1 + total)) for count in reached]


def _check_pair(a: State, b: State) -> None:
    if a.seen != b.seen:
        raise SampleError(
            f"images are compared in pairs, by their places; A holds {len(a.seen):,} and B {len(b.seen):,}. "
            "Take equally many of each"
        )
    mine, theirs = a.key.to_dict(), b.key.to_dict()
    for name, value in mine.items():
        if name != "source" and theirs[name] != value:
            raise StateError(
                f"A and B were made differently: {name} is {value} for A and {theirs[name]} for B"
            )


def _about_fakes(metric: Metric, real: State | None, fake: State) -> dict[Place, Estimate]:
    estimates, _ = metric.compute(real=real if metric.two_sided else None, fake=fake)
    return {(one.metric, one.level): one for one in estimates if one.subject == "fake"}


def _by_place(influences: Sequence[Influence]) -> dict[Place, Influence]:
    return {(one.metric, one.level): one for one in influences}


def _pooled(a: State, b: State) -> State:
    """The images of A, then those of B, as one set."""
    last = a.seen.intervals[-1][1] if a.seen.intervals else 0
    return a.shifted(0, "A and B").merge(b.shifted(last, "A and B"))


def _error_over_images(row: Mapping[str, Any], other: Mapping[str, Any]) -> float | None:
    kind = row["stderr_kind"]
    if row["stderr"] is None or not is_over_images(kind):
        return None
    # With the directions held, the error is that of sets that share them.
    if row["metric"] == "swd" and kind == "images" and row["seed"] != other["seed"]:
        return None
    return float(row["stderr"])


def _without_bias(difference: float, bias: float) -> float:
    """What is left of a difference both at this number of images and at infinitely many: the lesser, or 0.

    A set of less variety, such as a blurred copy, has the lesser bias, and may so be nearer at few images
    to reals from which it is farther.
    """
    corrected = difference - bias
    if difference * corrected <= 0:
        return 0.0
    return min(difference, corrected, key=abs)


def _two_sided(difference: float, error: float, df: float) -> float:
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    from scipy.special import stdtr  # imported here: a finished run shows its table without SciPy

    return float(2 * stdtr(df, -abs(difference) / error))


def _difference(
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
    """With Student's p-value where the test is that; `bias` is that of b - a by the number of images."""
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
