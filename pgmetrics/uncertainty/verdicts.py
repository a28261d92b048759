"""What a difference means: better, worse, less varied, within noise.

This is the one rule; comparisons, the page and its plots, tables, regression tests and benchmarks all ask it.
Numbers and errors go in, words come out. Which way a number improves is part of its declaration in
`metrics.registry`, and docs/uncertainty.md gives the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import hypot, inf
from typing import Any, Literal, NamedTuple

from pgmetrics.metrics.error_kinds import degrees_of_freedom, is_over_images
from pgmetrics.metrics.outputs import Aim
from pgmetrics.metrics.registry import output

Verdict = Literal["better", "worse", "less varied", "more varied", "different", "within noise", "undecided"]
"""What is said of B against A; "less varied" and "more varied" where the reals' own value is the goal."""

Variety = Literal["as varied", "less varied", "more varied"]
"""How varied a set is beside the real images."""

Effect = Literal["better", "worse", "neither", "undecided"]
"""What a verdict means for a gate, such as `compare --fail-if-worse`."""


class Score(NamedTuple):
    """A number and its standard error over images, None where no sound one is known."""

    value: float
    stderr: float | None = None
    df: float = inf
    """Degrees of freedom of the error."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Score:
        """A row's, with the columns of `results.COLUMNS`; without its error if that is not over images."""
        over_images = row["stderr"] is not None and is_over_images(row["stderr_kind"])
        return cls(row["value"], row["stderr"] if over_images else None, degrees_of_freedom(row))


def is_asked(metric: str, named: bool) -> bool:
    """Whether a gate asks a number: all that improve in one direction, and others that a user named.

    Args:
        metric: the number's name.
        named: whether the user asked for the metric by its name.
    """
    aim = output(metric).better.aim
    return aim in (Aim.LOWER, Aim.HIGHER) or (named and aim is Aim.REALS)


def limit(metric: str, reals: Score | None) -> Score | None:
    """The value that decides between better and worse besides the difference; None where there is none.

    Args:
        metric: the number's name.
        reals: what the reals score themselves, if it is known.
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
    """What a number says of B against A.

    Better and worse are said where A and B differ by more than noise and the number has a good direction.
    Where this ends at a limit, B is better only if it also came nearer to the limit by more than noise;
    beyond it the two are "different". A number whose goal is the reals' own value says "less varied" or
    "more varied", and "different" where that value is not known.

    Args:
        metric: the number's name.
        a, b: of the two sets.
        p_value: of the hypothesis that A and B are alike, corrected for other rows; None without a test.
        p_difference: of the hypothesis that the number expects the same of both, corrected likewise; a test
            may find that sets differ which are as far from the reals. That of `p_value`, if left out.
        reals: what the reals score themselves.
        significance: level of every test.
    """
    if p_value is None:
        return "undecided"
    if p_value > significance:
        return "within noise"
    aim = output(metric).better.aim
    # An interval of 95 % that leaves out 0 is not enough: that is so of one in twenty of equally far sets.
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
    """Which of two numbers that differ is nearer to a goal, None where noise does not tell.

    B is nearer exactly if the middle of the two lies on A's side of the goal. The errors of A and B are
    added as if the two moved together, which is the most that the middle can vary.
    """
    middle = (a.value + b.value) / 2
    error = hypot(((a.stderr or 0.0) + (b.stderr or 0.0)) / 2, goal.stderr or 0.0)
    gap = goal.value - middle
    if abs(gap) <= reach(significance, min(a.df, b.df, goal.df)) * error or a.value == b.value:
        return None
    return "B" if (gap > 0) == (b.value > a.value) else "A"


def variety(metric: str, score: Score, reals: Score | None, significance: float = 0.01) -> Variety | None:
    """How varied a set is beside the reals, by the distance to their own value and both errors.

    None for a number that does not say so, or without the reals' value or an error.
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
    """A variety with what it is measured by, such as "less varied than the reals"."""
    return f"{found} {'as' if found == 'as varied' else 'than'} the reals"


def effect(metric: str, found: Verdict, reals: Score | None, near: Literal["A", "B"] | None) -> Effect:
    """What a verdict means for a gate that asks this number.

    Of a number that is compared with the reals' own, worse is what is farther from it by more than noise.

    Args:
        metric: the number's name.
        found: its verdict.
        reals: what the reals score themselves.
        near: which set is `nearer` to that.
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
    """Whether "different" leaves open which set is better: it would be told, were the difference sure.

    It is not open where A and B lie beyond a limit, so that neither is better.

    Args:
        metric, a, b, p_difference, reals, significance: as of `verdict`.
    """
    if p_difference <= significance:
        return False
    sure = verdict(metric, a, b, p_value=0.0, reals=reals, significance=significance)
    near = None if reals is None else nearer(a, b, reals, significance)
    return effect(metric, sure, reals, near) in ("better", "worse")


def reach(significance: float, df: float = inf) -> float:
    """Standard errors that noise exceeds, in either direction, in such a share of cases: Student's t.

    Args:
        significance: the share.
        df: degrees of freedom of the errors.
    """
    # Here, since tables need this module, and SciPy takes a while to load.
    from scipy.special import stdtrit

    return float(stdtrit(df, 1 - significance / 2))
