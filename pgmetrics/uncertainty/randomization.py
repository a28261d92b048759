"""How sure a number is, and whether two differ: errors over images, intervals and tests.

States and numbers in, numbers out. What an interval covers is the expectation of the metric over sets
of the very number of images that was used: SWD, FID, IS and precision/recall have another expectation
at another number. docs/uncertainty.md says how often they do, by simulation.
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
"""Signs of a randomization test held at once, 32 MB of float64."""

_TIE = 1e-9
"""Sums of equal numbers in another order differ by rounding, and must count as equal."""
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
    """The p-values of `paired_differences`, by metric and level."""
    scores = metric.scores(real=real, fake=_pooled(a, b))
    found = {(one.metric, one.level): one.fake for one in scores if one.fake is not None}
    if not found:
        return {}
    pooled = np.stack(list(found.values()), axis=1)
    n = len(pooled) // 2
    p_values = swap_p_values(pooled[:n] - pooled[n:], seed=seed, permutations=permutations)
    return dict(zip(found, p_values, strict=True))


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
    """The images of A, then those of B, as one set."""
    last = a.seen.intervals[-1][1] if a.seen.intervals else 0
    return a.shifted(0, "A and B").merge(b.shifted(last, "A and B"))
