"""Turn differences between scores into verdicts: better, worse, less varied, within noise.

Comparisons, the report page and its plots, tables, regression tests and benchmarks all use this one rule.
It takes numbers with their errors and returns words. Which way a number improves is part of its declaration
in `metrics.registry`; docs/uncertainty.md gives the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import hypot, inf
from typing import Any, Literal, NamedTuple

from pgmetrics.metrics.error_kinds import degrees_of_freedom, is_over_images
from pgmetrics.metrics.outputs import Aim
from pgmetrics.metrics.registry import output

Verdict = Literal["better", "worse", "less varied", "more varied", "different", "within noise", "undecided"]
"""How B compares with A; "less varied" and "more varied" are for numbers whose goal is the reals' value."""

Variety = Literal["as varied", "less varied", "more varied"]
"""How varied a set is compared with the real images."""

Effect = Literal["better", "worse", "neither", "undecided"]
"""What a verdict means for a gate, such as `compare --fail-if-worse`."""


class Score(NamedTuple):
    """A number and its standard error over images; None where no sound error is known."""

    value: float
    stderr: float | None = None
    df: float = inf
    """Degrees of freedom of the error."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Score:
        """Return the score of a row that has the columns of `results.COLUMNS`.

        An error that was not taken over images is dropped.
        """
        over_images = row["stderr"] is not None and is_over_images(row["stderr_kind"])
        return cls(row["value"], row["stderr"] if over_images else None, degrees_of_freedom(row))


def is_asked(metric: str, named: bool) -> bool:
    """Return whether a gate checks a number.

    It checks all numbers that improve in one direction. A number whose goal is the reals' own value is
    checked only if the user named it.

    Args:
        metric: the number's name.
        named: whether the user asked for the metric by its name.
    """
    aim = output(metric).better.aim
    return aim in (Aim.LOWER, Aim.HIGHER) or (named and aim is Aim.REALS)


def limit(metric: str, reals: Score | None) -> Score | None:
    """Return the value at which a number stops improving; None if it has no such limit.

    Args:
        metric: the number's name.
        reals: the score of the real images themselves, if it is known.
    """
    better = output(metric).better
    if reals is not None and (better.up_to_reals or better.aim is Aim.REALS):
        return reals
    return None if better.limit is None else Score(better.limit, 0.0)


def verdict(
    metric: str,
    a: Score,
    b: Score,
    *,
    p_value: float | None,
    p_difference: float | None = None,
    reals: Score | None = None,
    significance: float = 0.01,
) -> Verdict:
    """Return the verdict of a number on set B against set A.

    B is "better" or "worse" if A and B differ by more than noise and the number improves in one direction.
    If the improvement ends at a limit, B must also be nearer to the limit by more than noise to be better;
    otherwise the two are "different". A number whose goal is the reals' own value gives "less varied" or
    "more varied", and "different" if that value is not known.

    Args:
        metric: the number's name.
        a, b: the scores of the two sets.
        p_value: p-value of the hypothesis that A and B have the same distribution, corrected for the other
            rows; None without a test.
        p_difference: p-value of the hypothesis that the number has the same expectation for both sets,
            corrected likewise. Sets may differ and yet be equally far from the reals, which `p_value` alone
            cannot show. If left out, `p_value` alone decides.
        reals: the score of the real images themselves.
        significance: level of every test.
    """
    if p_value is None:
        return "undecided"
    if p_value > significance:
        return "within noise"
    aim = output(metric).better.aim
    # A 95 % interval without 0 is not enough: one in twenty pairs of equally distant sets has such a one.
    if aim is Aim.NONE or (p_difference is not None and p_difference > significance):
        return "different"
    rose = b.value > a.value
    if aim is Aim.REALS:
        return "different" if reals is None else "less varied" if rose else "more varied"
    gained: Literal["A", "B"] = "B" if rose == (aim is Aim.HIGHER) else "A"
    end = limit(metric, reals)
    if end is not None and nearer(a, b, end, significance) != gained:
        return "different"
    return "better" if gained == "B" else "worse"


def nearer(a: Score, b: Score, goal: Score, significance: float = 0.01) -> Literal["A", "B"] | None:
    """Return which of two different numbers is nearer to a goal; None if noise does not allow a decision.

    B is nearer if and only if the midpoint of A and B lies on A's side of the goal. The errors of A and B are
    added as if they were fully correlated, which is the largest error that the midpoint can have.
    """
    middle = (a.value + b.value) / 2
    error = hypot(((a.stderr or 0.0) + (b.stderr or 0.0)) / 2, goal.stderr or 0.0)
    gap = goal.value - middle
    if abs(gap) <= reach(significance, min(a.df, b.df, goal.df)) * error or a.value == b.value:
        return None
    return "B" if (gap > 0) == (b.value > a.value) else "A"


def variety(metric: str, score: Score, reals: Score | None, significance: float = 0.01) -> Variety | None:
    """Return how varied a set is compared with the reals, from its distance to their value and both errors.

    Returns None for a number that does not measure variety, and if the reals' value or an error is missing.
    """
    if (
        output(metric).better.aim is not Aim.REALS
        or reals is None
        or score.stderr is None
        or reals.stderr is None
    ):
        return None
    gap = score.value - reals.value
    if abs(gap) <= reach(significance, min(score.df, reals.df)) * hypot(score.stderr, reals.stderr):
        return "as varied"
    return "less varied" if gap > 0 else "more varied"


def beside_reals(found: Variety) -> str:
    """Complete a variety to a phrase such as "less varied than the reals"."""
    return f"{found} {'as' if found == 'as varied' else 'than'} the reals"


def effect(metric: str, found: Verdict, reals: Score | None, near: Literal["A", "B"] | None) -> Effect:
    """Return what a verdict means for a gate that checks this number.

    If the goal is the reals' own value, a set is worse if it is farther from that value by more than noise.

    Args:
        metric: the number's name.
        found: its verdict.
        reals: the score of the real images themselves.
        near: which set is nearer to that score, as `nearer` returns it.
    """
    if found == "better" or found == "worse" or found == "undecided":
        return found
    if output(metric).better.aim is not Aim.REALS:
        return "neither"
    if found == "different" and reals is None:
        return "undecided"
    if found == "within noise" or found == "different" or near is None:
        return "neither"
    return "better" if near == "B" else "worse"


def is_open(
    metric: str,
    a: Score,
    b: Score,
    *,
    p_difference: float,
    reals: Score | None = None,
    significance: float = 0.01,
) -> bool:
    """Return whether the verdict "different" leaves open which set is better.

    It does if a significant difference of the number would give "better" or "worse". It does not if A and B
    lie beyond a limit, where neither is better.

    Args:
        metric, a, b, p_difference, reals, significance: as in `verdict`.
    """
    if p_difference <= significance:
        return False
    sure = verdict(metric, a, b, p_value=0.0, reals=reals, significance=significance)
    near = None if reals is None else nearer(a, b, reals, significance)
    return effect(metric, sure, reals, near) in ("better", "worse")


def reach(significance: float, df: float = inf) -> float:
    """Return the two-sided quantile of Student's t, in standard errors.

    Args:
        significance: the probability that noise exceeds the quantile, in either direction.
        df: degrees of freedom of the errors.
    """
    # Imported here because tables need this module, and SciPy takes a while to load.
    from scipy.special import stdtrit

    return float(stdtrit(df, 1 - significance / 2))
