"""The one rule for better, worse, less varied and within noise, at values whose meaning is known."""

import numpy as np
import pytest
import torch

from pgmetrics.functional.neighbors import neighborhoods
from pgmetrics.metrics.registry import output
from pgmetrics.uncertainty.verdicts import (
    Score,
    beside_reals,
    effect,
    is_asked,
    nearer,
    variety,
    verdict,
)

ERROR = 0.003
CLEAR = 1e-4
UNTRAINED, TRAINED, REALS = Score(0.077, ERROR), Score(0.162, ERROR), Score(0.056, ERROR)
NOISE, GOOD, FACES = Score(0.058, ERROR), Score(0.879, ERROR), Score(0.654, ERROR)


def judged(metric, a, b, reals=None, p_value=CLEAR):
    """The verdict of B against A, and what it means for a gate."""
    found = verdict(metric, a, b, p_value=p_value, reals=reals)
    near = None if reals is None else nearer(a, b, reals)
    return found, effect(metric, found, reals, near)


@pytest.mark.parametrize(
    ("a", "b", "reals", "expected"),
    [
        # Called better before: the lower value, whatever the reals score.
        (TRAINED, UNTRAINED, REALS, ("more varied", "better")),
        (UNTRAINED, TRAINED, REALS, ("less varied", "worse")),
        (GOOD, NOISE, FACES, ("more varied", "worse")),
        (NOISE, GOOD, FACES, ("less varied", "better")),
        # A collapsed generator beside one that is as varied as the reals.
        (Score(0.66, ERROR), Score(1.0, 0.0), FACES, ("less varied", "worse")),
        # As far above the reals as below them, within noise.
        (Score(0.6, ERROR), Score(0.71, ERROR), FACES, ("less varied", "neither")),
        (Score(0.6, ERROR), Score(0.71, ERROR), None, ("different", "undecided")),
    ],
)
def test_ms_ssim_is_judged_by_the_reals_own(a, b, reals, expected):
    assert judged("ms-ssim", a, b, reals) == expected


def test_ms_ssim_within_noise_needs_no_reals():
    assert judged("ms-ssim", UNTRAINED, UNTRAINED, p_value=0.5) == ("within noise", "neither")


@pytest.mark.parametrize(
    ("score", "reals", "expected"),
    [
        (UNTRAINED, REALS, "less varied"),
        (NOISE, FACES, "more varied"),
        (GOOD, FACES, "less varied"),
        (Score(0.064, ERROR), REALS, "as varied"),  # 1.9 errors of the difference
        # The reals' own error counts: without it this set would be called less varied.
        (Score(0.066, ERROR), Score(0.056, 0.006), "as varied"),
        (Score(0.066), REALS, None),
        (UNTRAINED, None, None),
    ],
)
def test_a_set_is_as_varied_as_the_reals_within_both_errors(score, reals, expected):
    assert variety("ms-ssim", score, reals) == expected
    assert variety("swd", score, reals) is None


def test_a_variety_is_said_with_its_measure():
    found = [beside_reals(one) for one in ("as varied", "less varied", "more varied")]
    assert found == ["as varied as the reals", "less varied than the reals", "more varied than the reals"]


@pytest.mark.parametrize(
    ("metric", "a", "b", "reals", "expected"),
    [
        # Inception score: higher is better up to the reals' own; without it, as in the literature.
        ("is", 3.0, 9.0, 11.0, "better"),
        ("is", 9.0, 3.0, 11.0, "worse"),
        ("is", 12.0, 15.0, 11.0, "different"),
        ("is", 9.0, 900.0, 11.0, "different"),
        ("is", 14.0, 5.0, 11.0, "worse"),
        ("is", 12.0, 15.0, None, "better"),
        # Density is 1 for the reals' own distribution; 3 is a pile in their densest place.
        ("density", 0.3, 0.9, None, "better"),
        ("density", 0.95, 3.0, None, "different"),
        ("density", 3.0, 0.95, None, "different"),
        ("density", 1.2, 0.6, None, "worse"),
        ("density", 1.3, 2.0, None, "different"),
        # The floor of recall is 0.87 where widely scattered fakes reach 0.98.
        ("recall", 0.87, 0.98, 0.87, "different"),
        ("recall", 0.50, 0.80, 0.87, "better"),
        ("precision", 0.87, 1.0, 0.87, "different"),
        ("coverage", 0.65, 0.31, 0.97, "worse"),
        # Noise is authentic, and so are good samples; copies are not.
        ("authpct", 0.5, 1.0, None, "different"),
        ("authpct", 1.0, 0.5, None, "different"),
        ("authpct", 0.5, 0.05, None, "worse"),
        ("authpct", 0.05, 0.6, 0.65, "better"),
        # Far below 0 are copies, far above 0 is underfitting.
        ("ct", -9.0, 0.0, None, "different"),
        ("ct", 0.0, 9.0, None, "different"),
        # Distances end at 0.
        ("swd", 0.046, 0.138, None, "worse"),
        ("kid", 0.02, -0.0001, None, "better"),
        ("fid", 40.0, 12.0, None, "better"),
        ("fid-infinity", 12.0, 40.0, None, "worse"),
        ("fd", 3.0, 1.0, None, "better"),
        ("fid-bias", 3.0, 1.0, None, "different"),
        ("somebody's own", 3.0, 1.0, None, "different"),
    ],
)
def test_a_direction_ends_where_more_is_no_improvement(metric, a, b, reals, expected):
    error = 0.01 * max(abs(a), 0.5)
    known = None if reals is None else Score(reals, 0.01 * reals)
    assert verdict(metric, Score(a, error), Score(b, error), p_value=CLEAR, reals=known) == expected
    opposite = {"better": "worse", "worse": "better"}.get(expected, expected)
    assert verdict(metric, Score(b, error), Score(a, error), p_value=CLEAR, reals=known) == opposite


def test_noise_at_a_limit_is_allowed_for():
    # The middle, 0.98, is below 1 by less than its noise.
    scores = Score(0.96, 0.01), Score(1.0, 0.01)
    assert verdict("density", *scores, p_value=CLEAR) == "different"
    assert verdict("density", Score(0.86, 0.01), Score(0.9, 0.01), p_value=CLEAR) == "better"


@pytest.mark.parametrize("metric", ["swd", "ms-ssim", "is"])
def test_without_a_test_nothing_is_said(metric):
    assert judged(metric, UNTRAINED, TRAINED, REALS, p_value=None) == ("undecided", "undecided")


def test_sets_that_differ_may_be_as_far_from_the_reals():
    found = verdict("swd", Score(2.0), Score(1.0), p_value=CLEAR, p_difference=0.8)
    assert found == "different"


def test_a_gate_asks_what_has_a_direction_and_ms_ssim_by_name():
    assert not is_asked("ms-ssim", named=False)
    assert is_asked("ms-ssim", named=True)
    assert is_asked("swd", named=False)
    assert not is_asked("fid-bias", named=True)


def test_words_for_plots_name_the_limit():
    def in_words(metric):
        return output(metric).better.in_words

    assert in_words("ms-ssim") == "higher is less varied; the reals are the measure"
    assert in_words("swd") == "lower is better"
    assert in_words("is") == "higher is better, up to the reals'"
    assert in_words("density") == "higher is better, up to 1"
    assert in_words("ct") == in_words("fid-bias") == ""


def test_density_of_equal_distributions_is_1_and_of_a_pile_above():
    # The limit in the table, at counts where nothing else would give 1; the center is in many balls.
    rng = np.random.default_rng(1)
    densities, piles = [], []
    for _ in range(60):
        reals, fakes = rng.normal(size=(90, 24)), rng.normal(size=(70, 24))
        for rows, kept in ((fakes, densities), (fakes / 10, piles)):
            pieces = [[torch.from_numpy(each.astype(np.float32))] for each in (reals, rows)]
            kept.append(neighborhoods(*pieces, 5, fake_balls=False).real_balls.mean() / 5)
    assert np.mean(densities) == pytest.approx(output("density").better.limit, abs=0.03)
    assert min(piles) > 3


def test_errors_of_few_pairs_reach_further():
    # Two pairs a set: Student's t with 1 degree of freedom reaches 63.7 standard errors, not 2.58.
    for df, found in ((float("inf"), "less varied"), (1.0, "as varied")):
        few = Score(0.30, 0.01, df), Score(0.20, 0.01, df)
        assert variety("ms-ssim", *few) == found
        assert nearer(Score(0.5, 0.01, df), few[1], Score(0.0, 0.0)) == ("B" if df > 1 else None)


def test_a_difference_that_is_not_as_sure_as_the_verdict_is_not_called_better():
    # An interval of 95 % left out 0 here, which it does for one in twenty of equally far sets.
    for p_difference, found in ((0.03, "different"), (0.009, "better"), (None, "better")):
        said = verdict("swd", Score(2.0), Score(1.0), p_value=1e-4, p_difference=p_difference)
        assert said == found
