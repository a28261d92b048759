"""Errors over images, intervals, and tests whether two sets differ."""

from itertools import product
from math import sqrt

import numpy as np
import pytest
import torch
from scipy import stats

from pgmetrics.errors import OptionError, SampleError, StateError
from pgmetrics.metrics.frechet import FrechetDistance
from pgmetrics.metrics.inception_score import InceptionScore
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.ms_ssim import MultiScaleSSIM
from pgmetrics.metrics.prdc import PRDC
from pgmetrics.metrics.swd import SlicedWasserstein
from pgmetrics.runtime.blocks import Block, FeatureBlock
from pgmetrics.uncertainty import intervals, randomization
from tests.contracts.feature_contract import features
from tests.contracts.metric_contract import images

SWD = SlicedWasserstein(patches_per_image=16, directions=16, repeats=1)
PIXELS = [SWD, MultiScaleSSIM()]
FEATURES = [
    FrechetDistance(keep_rows=True),
    InceptionScore(splits=4, network="custom"),
    KernelInceptionDistance(network="custom"),
    PRDC(network="custom", k=3),
]
ALL = [pytest.param(metric, id=metric.name) for metric in PIXELS + FEATURES]


def state(metric, side, given, seed=0, source=""):
    made = metric.new_state(side, resolution=(32, 32), seed=seed, source=source)
    for start in range(0, len(given), 8):
        part = given[start : start + 8]
        made.update(Block(start, part) if metric in PIXELS else FeatureBlock(start, part))
    return made


def drawn(metric, seed, n=48):
    if metric not in PIXELS:
        return features(seed, n, 6) * (1 + (seed == 9))
    made = images(seed, n)
    # Grain makes pairs less alike and fine levels rougher.
    return (
        made
        if seed != 9
        else torch.stack([torch.roll(made, k, 3) for k in range(6)]).float().mean(0).to(torch.uint8)
    )


def sides(metric, a=2, b=3, n=48):
    real = state(metric, "real", drawn(metric, 1, n)) if metric.two_sided else None
    return (
        real,
        state(metric, "fake", drawn(metric, a, n), source="A"),
        state(metric, "fake", drawn(metric, b, n), source="B"),
    )


@pytest.mark.slow
@pytest.mark.parametrize("metric", ALL)
def test_the_difference_is_that_of_the_values_and_b_less_a(metric):
    real, a, b = sides(metric, 2, 9)
    values = [
        {(e.metric, e.level): e.value for e in metric.compute(real=real, fake=fake)[0] if e.subject == "fake"}
        for fake in (a, b)
    ]
    found = randomization.paired_differences(metric, real, a, b, permutations=99)
    assert [(d.metric, d.level) for d in found] == list(values[0])
    for d in found:
        assert (d.a, d.b) == (values[0][d.metric, d.level], values[1][d.metric, d.level])
        assert d.difference == d.b - d.a
        assert d.low < d.difference < d.high
        assert d.high - d.low == pytest.approx(2 * stats.t.isf(0.025, d.df) * d.stderr)
        # The bias of FD is taken away where that is less.
        bias = intervals.contrast(*(metric.influences(real=real, fake=fake)[0] for fake in (a, b))).bias
        least = min(abs(d.difference), abs(d.difference - bias))
        assert (bias != 0) == (metric.name == "fd")
        assert d.p_difference == pytest.approx(2 * stats.t.sf(least / d.stderr, d.df))
        assert d.test == "swaps of pairs"
        assert (d.n_real, d.n_fake) == (48 if metric.two_sided else None, 48)


@pytest.mark.parametrize("metric", ALL)
def test_exchanging_fakes_exchanges_their_scores_and_changes_nothing_else(metric):
    # What makes the test exact: a score that depended on the order would be a statistic whose values under
    # swaps are not those it would have had.
    real, a, b = sides(metric)
    swapped_a, swapped_b = drawn(metric, 2).clone(), drawn(metric, 3).clone()
    # Whole pairs of images, which are the units of MS-SSIM.
    moved = torch.tensor([i for i in range(48) if i // 2 % 3 == 0])
    swapped_a[moved], swapped_b[moved] = drawn(metric, 3)[moved], drawn(metric, 2)[moved]
    c, d = state(metric, "fake", swapped_a), state(metric, "fake", swapped_b)
    before, after = (metric.scores(real=real, fake=randomization._pooled(*pair)) for pair in ((a, b), (c, d)))
    assert len(before) == len(after) >= 1
    for one, other in zip(before, after, strict=True):
        unit = 2 if metric.name == "ms-ssim" else 1
        places = np.unique(moved.numpy() // unit)
        n = len(one.fake) // 2
        expected = one.fake.copy()
        expected[places], expected[places + n] = one.fake[places + n], one.fake[places]
        np.testing.assert_allclose(other.fake, expected, atol=1e-7 * np.abs(one.fake).max())


@pytest.mark.parametrize("metric", ALL)
def test_a_set_does_not_differ_from_itself(metric):
    real, a, _ = sides(metric)
    again = state(metric, "fake", drawn(metric, 2), source="the same images by another name")
    for d in randomization.paired_differences(metric, real, a, again, permutations=99):
        assert (d.difference, d.stderr, d.p_value) == (0, pytest.approx(0, abs=1e-12), 1)


@pytest.mark.parametrize("metric", [m for m in ALL if m.id in ("swd", "fd", "kid")])
def test_sets_that_differ_are_told_apart(metric):
    real, a, b = sides(metric, 2, 9)
    # The blur is along rows and over six pixels, which the coarse level hardly sees.
    d = randomization.paired_differences(metric, real, a, b, permutations=999)[0]
    assert d.p_value < 0.05
    # The test is of the sets; their distances to the reals need not differ as surely.
    assert metric.name == "swd" or d.low > 0 or d.high < 0


@pytest.mark.parametrize("metric", ALL)
def test_comparing_changes_no_state(metric):
    real, a, b = sides(metric)
    before = [{k: v.copy() for k, v in one.arrays().items()} for one in (a, b)]
    randomization.paired_differences(metric, real, a, b, permutations=9)
    for one, arrays in zip((a, b), before, strict=True):
        assert len(one.seen) == 48
        for name, values in one.arrays().items():
            np.testing.assert_array_equal(values, arrays[name])
    assert (a.key.source, b.key.source) == ("A", "B")


def test_the_same_seed_gives_the_same_p_values_and_another_others():
    real, a, b = sides(FEATURES[0])
    found = [
        randomization.paired_differences(FEATURES[0], real, a, b, seed=seed, permutations=999)[0].p_value
        for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]
    assert found[0] == pytest.approx(found[2], abs=0.1)


def test_an_odd_number_of_images_tears_no_pair():
    a, b = (state(MultiScaleSSIM(), "fake", drawn(PIXELS[1], seed, 13)) for seed in (2, 3))
    (found,) = randomization.paired_differences(MultiScaleSSIM(), None, a, b)
    assert found.p_value is not None
    assert found.p_value * 2**6 == pytest.approx(round(found.p_value * 2**6))  # six pairs, all exchanges


def test_numbers_without_influences_have_no_error_and_no_test():
    metric = FrechetDistance()
    real, a, b = (
        state(metric, side, features(seed, 400, 4)) for side, seed in (("real", 1), ("fake", 2), ("fake", 3))
    )
    for d in randomization.paired_differences(metric, real, a, b):
        assert (d.stderr, d.low, d.high, d.p_value, d.test) == (None, None, None, None, "none")


def test_sets_of_other_sizes_or_made_differently_are_refused():
    real, a, b = sides(SWD)
    with pytest.raises(SampleError, match="A holds 48 and B 40"):
        randomization.paired_differences(SWD, real, a, state(SWD, "fake", drawn(SWD, 3, 40)))
    with pytest.raises(StateError, match="seed is 0 for A and 5 for B"):
        randomization.paired_differences(SWD, real, a, state(SWD, "fake", drawn(SWD, 3), seed=5))
    with pytest.raises(OptionError, match="not 0"):
        randomization.paired_differences(SWD, real, a, b, permutations=0)
    with pytest.raises(OptionError, match="not at 95"):
        randomization.paired_differences(SWD, real, a, b, permutations=9, confidence=95)


# The test.


@pytest.mark.parametrize("n", [2, 7, 10])
def test_all_exchanges_give_the_p_value_of_another_package(n):
    d = np.random.default_rng(n).standard_normal((n, 2)) + 0.4
    ours = randomization.swap_p_values(d, permutations=10**6)
    theirs = [
        stats.permutation_test(
            (d[:, i],), lambda x: x.mean(), permutation_type="samples", n_resamples=np.inf
        ).pvalue
        for i in range(2)
    ]
    # It doubles the smaller tail; under sign changes both tails are equal.
    assert ours == pytest.approx(theirs)


def test_drawn_exchanges_come_near_to_all_of_them():
    d = np.random.default_rng(0).standard_normal((12, 3)) + 0.3
    exact = [
        np.mean(
            [abs(np.dot(signs, column)) >= abs(column.sum()) - 1e-9 for signs in product((1, -1), repeat=12)]
        )
        for column in d.T
    ]
    drawn_ones = randomization.swap_p_values(d, permutations=4000)
    for p, found in zip(exact, drawn_ones, strict=True):
        assert abs(found - p) < 4 * sqrt(p * (1 - p) / 4000) + 1e-3
    assert drawn_ones != exact


def test_a_p_value_is_never_smaller_than_the_exchanges_can_tell():
    # What was found is one of the patterns, so that p = 0 would claim more than was drawn.
    assert randomization.swap_p_values(np.ones((200, 1)), permutations=19) == [1 / 20]


def test_decimals_have_the_ties_of_whole_numbers():
    whole = np.array([[3.0], [-1], [4], [-1], [5], [9], [-2], [6], [5], [-3]])
    exact = randomization.swap_p_values(whole, permutations=2000)
    for scale in (0.1, 0.3, 0.7):
        assert randomization.swap_p_values(whole * scale, permutations=2000) == exact


def test_ties_count_as_reached_whatever_the_order_of_the_sum():
    # 0.1 added up in another order differs in the last place; only all signs alike reach the sum.
    assert randomization.swap_p_values(np.full((10, 1), 0.1), permutations=2000) == [2 / 2**10]
    assert randomization.swap_p_values(np.zeros((30, 1)), permutations=99) == [1.0]


def test_false_alarms_are_as_rare_as_they_are_said_to_be():
    # A p-value of at most 0.05 in 5 % of cases, and no fewer: 199 exchanges make 0.05 a possible value.
    rng = np.random.default_rng(1)
    found = [
        randomization.swap_p_values(column * rng.choice([-1, 1], (20, 1)), seed=i, permutations=199)[0]
        for i, column in enumerate(rng.exponential(size=(2000, 20, 1)))
    ]
    for level in (0.05, 0.2):
        assert abs(np.mean(np.array(found) <= level) - level) < 3.5 * sqrt(level * (1 - level) / 2000)


# Errors.


@pytest.mark.slow
def test_errors_over_images_hold_the_scatter_of_values():
    # 400 pairs of sets: the error's mean square against the values' variance, with 15 % for chance. The
    # fakes differ from the reals; docs/uncertainty.md has the other cases.
    rng = np.random.default_rng(0)
    metric = KernelInceptionDistance(network="custom")
    values, variances = [], []
    for _ in range(400):
        rows = [torch.from_numpy(rng.standard_normal((60, 4)).astype(np.float32)) + 0.5 * i for i in (0, 1)]
        real, fake = state(metric, "real", rows[0]), state(metric, "fake", rows[1])
        values.append(metric.compute(real=real, fake=fake)[0][0].value)
        variances.append(metric.influences(real=real, fake=fake)[0].variance())
    assert np.mean(variances) == pytest.approx(np.var(values), rel=0.2)


def shared_reals(metric, seed, n, changed):
    """The difference of A and B, made by `changed` of two sets from the distribution of the shared reals."""
    rng = np.random.default_rng(seed)
    rows = [torch.from_numpy(rng.standard_normal((n, 8)).astype(np.float32)) for _ in range(3)]
    real, a, b = rows[0], *changed(*rows[1:])
    states = (state(metric, side, given) for side, given in (("real", real), ("fake", a), ("fake", b)))
    (found,) = randomization.paired_differences(metric, *states, permutations=9)
    return found


@pytest.mark.slow
def test_unlike_models_that_are_equally_far_are_called_better_as_rarely_as_promised():
    # A is shifted along one feature and B along another. Their test is sure that they are unlike, so what
    # decides is the difference; an interval of 95 % would leave out 0 in one case in twenty.
    metric, repetitions = KernelInceptionDistance(network="custom"), 200
    along = [torch.eye(8)[i] for i in (0, 1)]
    p_values = np.array(
        [
            shared_reals(metric, i, 60, lambda a, b: (a + along[0], b + along[1])).p_difference
            for i in range(repetitions)
        ]
    )
    for level in (0.05, 0.01, 0.001):
        low, high = stats.binom.ppf([0.001, 0.999], repetitions, level)
        assert low <= (p_values <= level).sum() <= high


@pytest.mark.slow
def test_a_set_of_less_variance_is_not_called_better_for_the_finite_number_of_images():
    # FD at 20 images in 8 dimensions is less for 0.95 times A than for A, as its bias is, though A is of the
    # reals' distribution; from the difference alone B was better at 0.01 in a fifth of these cases.
    metric, wrong, alone = FrechetDistance(keep_rows=True), 0, 0
    for i in range(200):
        found = shared_reals(metric, i, 20, lambda a, b: (a, 0.95 * a))
        assert found.difference == found.b - found.a
        wrong += found.difference < 0 and found.p_difference <= 0.01
        alone += found.difference < 0 and 2 * stats.t.sf(-found.difference / found.stderr, found.df) <= 0.01
    assert wrong <= stats.binom.isf(0.001, 200, 0.01) < alone


@pytest.mark.slow
def test_the_bias_of_fd_is_what_a_finite_number_of_images_adds():
    # Between sets of one distribution all of FD is bias. 200 sets tell its mean to 2 %, and halves of 400
    # images miss 3 % of it, which is of higher order.
    rng, metric, values, biases = np.random.default_rng(0), FrechetDistance(keep_rows=True), [], []
    for _ in range(200):
        rows = torch.from_numpy(rng.standard_normal((2, 400, 4)).astype(np.float32))
        real, fake = (state(metric, side, given) for side, given in zip(("real", "fake"), rows, strict=True))
        values.append(metric.compute(real=real, fake=fake)[0][0].value)
        biases.append(metric.influences(real=real, fake=fake)[0].bias)
    assert np.mean(biases) == pytest.approx(np.mean(values), rel=0.08)


# Rows of results, several tests, directions.


def test_holm_multiplies_the_smallest_by_all_and_keeps_the_order():
    assert randomization.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert randomization.holm([0.6, 0.7]) == [1.0, 1.0]
    assert randomization.holm([]) == []
