"""Compare two generated sets image by image: differences with errors, intervals and randomization tests.

An interval covers the expectation of the metric over sets of the same number of images; the expectations of
SWD, FID, IS and precision/recall depend on that number. docs/uncertainty.md lists simulated coverages.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, SampleError, StateError
from pgmetrics.metrics.base import Estimate, Metric, State
from pgmetrics.metrics.influence import Influence
from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream
from pgmetrics.uncertainty.intervals import LEAST_SHARE, NONE, Difference, contrast, difference_of, stderr
from pgmetrics.uncertainty.verdicts import Score

SWAPS = "swaps of pairs"

_BLOCK = 2**22
"""Signs of a randomization test that are in memory at once: 32 MB of float64."""

_TIE = 1e-9
"""Relative tolerance for ties: sums of the same numbers in another order differ by rounding."""
Place = tuple[str, "int | None"]
"""A metric's name and a level."""


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
    """Return the value of B minus the value of A for each number, with image i of A paired with image i of B.

    The p-value is exact at any number of images. Under the null hypothesis the i-th images of A and B are
    exchangeable, so the difference of the images' scores is compared with its values under random exchanges.
    The scores are influences at the union of A and B, which no exchange changes. The interval comes from
    each image's influence on the difference. The influences of the reals, and of latents common to A and B,
    cancel as far as A and B are alike. Independent sets can be paired as well.

    Args:
        metric: metric of the states; a Fréchet distance needs `keep_rows=True`.
        real: the state of the reals; None for a metric of one set.
        a, b: states of side "fake" with the same indices.
        seed: seed of the exchanges.
        permutations: how many exchanges are drawn; if all 2^n are fewer, all are made.
        confidence: confidence level of the intervals.

    Returns:
        A difference for each number about the fakes; numbers without influences have no error and no test.

    Raises:
        SampleError: A and B hold different indices, or too few images.
        StateError: the states do not belong together.
    """
    _check_pair(a, b)
    if permutations < 1:
        raise OptionError(f"a randomization test needs at least 1 permutation, not {permutations}")
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
            error, df = sqrt(parts.variance(LEAST_SHARE)), parts.degrees_of_freedom()
            bias = parts.bias
            errors = [(stderr(one), one.degrees_of_freedom()) for one in sides]
            scores = Score(scores[0].value, *errors[0]), Score(scores[1].value, *errors[1])
        first = found_a[place]
        differences.append(
            difference_of(
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
    """Return the p-values of `paired_differences`, by metric and level."""
    scores = metric.scores(real=real, fake=_pooled(a, b))
    found = {(one.metric, one.level): one.fake for one in scores if one.fake is not None}
    if not found:
        return {}
    pooled = np.stack(list(found.values()), axis=1)
    n = len(pooled) // 2
    p_values = swap_p_values(pooled[:n] - pooled[n:], seed=seed, permutations=permutations)
    return dict(zip(found, p_values, strict=True))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple tests: rejecting at α has a family-wise error rate of at most α.

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
    """Return two-sided p-values of the column means under random changes of the rows' signs.

    The p-value is the share of sign patterns, the observed one included, whose mean is at least as far from
    0. It is exact if each row is as likely as its negative. All columns use the same patterns.

    Args:
        differences: float64 [n, L].
        seed: seed of the patterns.
        permutations: number of patterns drawn; if all 2^n are not more, all are used.
    """
    n = len(differences)
    observed = np.abs(differences.sum(axis=0))
    least = observed - _TIE * np.abs(differences).sum(axis=0)
    every = n < 63 and 2**n <= permutations + 1
    rng = seeding.generator(seed, Stream.RANDOMIZATION)
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
    """Return the union of A and B as one set: the images of A, then those of B."""
    last = a.seen.intervals[-1][1] if a.seen.intervals else 0
    return a.shifted(0, "A and B").merge(b.shifted(last, "A and B"))
