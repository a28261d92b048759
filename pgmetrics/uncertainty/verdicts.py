"""Which way each number improves, and what a difference means: better, worse, less varied, within noise.

This is the one rule; comparisons, the page and its plots, tables, regression tests and benchmarks all ask it.
Numbers and errors go in, words come out. docs/uncertainty.md gives the reason for each number's direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from math import hypot, inf
from typing import Any, Literal, NamedTuple

from pgmetrics.metrics.error_kinds import degrees_of_freedom, is_over_images

Verdict = Literal["better", "worse", "less varied", "more varied", "different", "within noise", "undecided"]
"""What is said of B against A; "less varied" and "more varied" where the reals' own value is the goal."""

Variety = Literal["as varied", "less varied", "more varied"]
"""How varied a set is beside the real images."""

Effect = Literal["better", "worse", "neither", "undecided"]
"""What a verdict means for a gate, such as `compare --fail-if-worse`."""


class Aim(Enum):
    """What a good value of a number is."""

    LOWER = "lower"
    HIGHER = "higher"
    REALS = "reals"
    """As the reals' own value; a higher one means that the set is less varied."""
    NONE = "none"
    """No value is good by itself: such a number is no score."""


@dataclass(frozen=True)
class Direction:
    """Which way a number improves, and where that ends.

    Attributes:
        aim: what a good value is.
        limit: a value beyond which a further step the good way is no improvement; None if there is none, or
            if only the reals' own value tells it.
        up_to_reals: whether what the reals score, where it is known, is the limit.
        least, most: the bounds of any value that can be computed, None where there is none. KID without bias,
            FID∞, which extrapolates, C_T and the biases fall below 0.
    """

    aim: Aim
    limit: float | None = None
    up_to_reals: bool = False
    least: float | None = None
    most: float | None = None


DIRECTIONS: Mapping[str, Direction] = {
    "swd": Direction(Aim.LOWER, least=0.0),
    "ms-ssim": Direction(Aim.REALS, least=0.0, most=1.0),
    "fid": Direction(Aim.LOWER, least=0.0),
    "fid-bias": Direction(Aim.NONE),
    "fid-infinity": Direction(Aim.LOWER),
    "fd": Direction(Aim.LOWER, least=0.0),
    "fd-bias": Direction(Aim.NONE),
    # Images that please the classifier can exceed the reals' score, unlike them (Barratt & Sharma 2018).
    "is": Direction(Aim.HIGHER, up_to_reals=True, least=1.0),
    "kid": Direction(Aim.LOWER),
    # Other reals do not reach 1. A set that exceeds them keeps to the common images, or has a few outliers
    # whose large balls hold many reals (Naeem et al. 2020).
    "precision": Direction(Aim.HIGHER, up_to_reals=True, least=0.0, most=1.0),
    "recall": Direction(Aim.HIGHER, up_to_reals=True, least=0.0, most=1.0),
    # Unbounded above (Naeem et al. 2020). 1 is its expectation between equal distributions at any number of
    # images: of n reals and one fake, each real has the fake among its k nearest with probability k / n.
    "density": Direction(Aim.HIGHER, limit=1.0, least=0.0),
    "coverage": Direction(Aim.HIGHER, up_to_reals=True, least=0.0, most=1.0),
    # Low means copies. Independent images of the right distribution have about a half, and what is far from
    # all reals has 1, so that a high value is no merit.
    "authpct": Direction(Aim.HIGHER, limit=0.5, up_to_reals=True, least=0.0, most=1.0),
    # Far below 0 means copies and far above 0 underfitting; its deviation is that of the null hypothesis.
    "ct": Direction(Aim.NONE),
}
"""The one table of directions, by the name of the number."""

_UNKNOWN = Direction(Aim.NONE)


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


def direction(metric: str) -> Direction:
    """Which way a number improves; neither for a name that is not in the table."""
    return DIRECTIONS.get(metric, _UNKNOWN)


def is_score(metric: str) -> bool:
    """Whether a number says how good a set is: fid-bias, for one, does not."""
    return direction(metric).aim is not Aim.NONE


def is_asked(metric: str, named: bool) -> bool:
    """Whether a gate asks a number: all that improve in one direction, and others that a user named.

    Args:
        metric: the number's name.
        named: whether the user asked for the metric by its name.
    """
    aim = direction(metric).aim
    return aim in (Aim.LOWER, Aim.HIGHER) or (named and aim is Aim.REALS)


def in_words(metric: str) -> str:
    """Which way is better, for people; empty where neither is."""
    found = direction(metric)
    if found.aim is Aim.REALS:
        return "higher is less varied; the reals are the measure"
    if found.aim is Aim.NONE:
        return ""
    end = (
        ", up to the reals'"
        if found.up_to_reals
        else ""
        if found.limit is None
        else f", up to {found.limit:g}"
    )
    return f"{found.aim.value} is better{end}"


def limit(metric: str, reals: Score | None) -> Score | None:
    """The value that decides between better and worse besides the difference; None where there is none.

    Args:
        metric: the number's name.
        reals: what the reals score themselves, if it is known.
    """
    found = direction(metric)
    if reals is not None and (found.up_to_reals or found.aim is Aim.REALS):
        return reals
    return None if found.limit is None else Score(found.limit, 0.0)


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
    aim = direction(metric).aim
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
        direction(metric).aim is not Aim.REALS
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
    if direction(metric).aim is not Aim.REALS:
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
