"""Errors over images, intervals, and tests whether two sets differ."""

from dataclasses import asdict, replace
from itertools import product
from math import sqrt

import numpy as np
import pytest
import torch
from scipy import stats

from pgmetrics.errors import OptionError, SampleError, StateError
from pgmetrics.metrics import error_kinds
from pgmetrics.metrics.frechet import FrechetDistance
from pgmetrics.metrics.inception_score import InceptionScore
from pgmetrics.metrics.influence import Influence
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.moments import MomentsState
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


def length(rows):
    """The influence on the squared length of the mean, whose variance at mean 0 is all of second order."""
    mean, halves = rows.mean(0), (rows[::2].mean(0), rows[1::2].mean(0))
    parts = [Influence("m", None, None, 2 * (rows - mean) @ one) for one in (mean, *halves)]
    return Influence("m", None, None, parts[0].fake, halves=(parts[1], parts[2]))


@pytest.mark.parametrize(("mean", "tolerance"), [(0.0, 0.15), (0.05, 0.1), (1.0, 0.03)])
def test_the_variance_is_right_with_and_without_a_first_order(mean, tolerance):
    # Without the halves it is twice too large at mean 0.
    rng, n, width = np.random.default_rng(0), 100, 40
    parts = [length(rng.standard_normal((n, width)) + mean) for _ in range(1000)]
    expected = width * (4 * mean**2 / n + 2 / n**2)
    found = [np.mean([part.variance(least_share=least) for part in parts]) for least in (0.0, -0.5)]
    # Shares that are never negative are a little too large on average where there are none.
    assert found[0] == pytest.approx(expected, rel=tolerance)
    assert found[1] == pytest.approx(expected, rel=tolerance / 2)
    assert found[1] <= found[0]


def test_both_sides_add_up_and_a_missing_one_adds_nothing():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(30), rng.standard_normal(20)
    both = Influence("m", None, x, y)
    assert intervals.stderr(both) == pytest.approx(sqrt(x.var(ddof=1) / 30 + y.var(ddof=1) / 20))
    assert intervals.stderr(Influence("m", None, None, y)) == pytest.approx(sqrt(y.var(ddof=1) / 20))
    with pytest.raises(SampleError, match="at least 2"):
        intervals.stderr(Influence("m", None, x[:1], None))


def test_batches_have_the_variance_of_their_mean():
    rng = np.random.default_rng(0)
    batches = rng.standard_normal((3000, 4)) * 2
    assert Influence("m", None, None, None, batches=batches).variance() == pytest.approx(1, rel=0.05)


def test_a_contrast_is_the_difference_place_by_place():
    rng = np.random.default_rng(0)
    a, b = length(rng.standard_normal((20, 3))), length(rng.standard_normal((20, 3)))
    found = intervals.contrast(a, b)
    np.testing.assert_allclose(found.fake, b.fake - a.fake)
    for mine, one, other in zip(found.halves, a.halves, b.halves, strict=True):
        np.testing.assert_allclose(mine.fake, other.fake - one.fake)
    assert found.real is None


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


def row(**given):
    found = {"metric": "swd", "level": 32, "value": 1.0, "stderr": 0.3, "stderr_kind": "images", "seed": 0}
    return {**found, "n_real": 9, "n_fake": 8, **given}


def test_rows_are_compared_as_independent_numbers():
    found = intervals.independent_difference(row(), row(value=2.0, stderr=0.4), confidence=0.9)
    assert (found.difference, found.test, found.n_real, found.n_fake) == (1.0, "Student's t", 9, 8)
    assert found.stderr == pytest.approx(0.5)
    # Each error has the 7 degrees of freedom of the fewer images.
    df = 7 * (9 + 16) ** 2 / (9**2 + 16**2)
    assert found.df == pytest.approx(df)
    assert found.p_value == found.p_difference == pytest.approx(2 * stats.t.sf(2, df))
    reach = stats.t.isf(0.05, df) * 0.5
    assert (found.low, found.high) == pytest.approx((1 - reach, 1 + reach))


@pytest.mark.parametrize(
    ("kind", "n_real", "n_fake", "expected"),
    [
        ("images", 100, 50, 49),
        ("images", None, 50, 49),
        ("images and directions", 100, 50, 49),
        ("images and 4 directions", 100, 50, 3),
        ("pairs", None, 50, 24),
        ("pairs", 50, None, 24),  # of the reals
        ("fakes given the reals", 30, 50, 49),
        ("reals given the fakes", 30, 50, 29),
        ("images (jackknife, 5 groups)", 1000, 300, 4),
        ("fake images (jackknife, 10 groups)", 3, 1000, 9),
        # Older results do not say how many groups: 257 images were the fewest, in five.
        ("images (jackknife)", 1000, 257, 4),
        ("fake images (jackknife)", None, 1000, 9),
        ("images (16 x 4 parts)", 100, 100, 48),
        ("directions", 100, 100, np.inf),
    ],
)
def test_an_error_is_as_sure_as_its_fewest_units(kind, n_real, n_fake, expected):
    found = error_kinds.degrees_of_freedom(row(stderr_kind=kind, n_real=n_real, n_fake=n_fake))
    assert found == expected
    assert error_kinds.is_over_images(kind) is not ("given the fakes" in kind or kind == "directions")


def test_two_sides_have_the_degrees_of_freedom_of_satterthwaite():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(5), rng.standard_normal(12) * 3
    u, v = x.var(ddof=1) / 5, y.var(ddof=1) / 12
    expected = (u + v) ** 2 / (u**2 / 4 + v**2 / 11)
    assert Influence("m", None, x, y).degrees_of_freedom() == pytest.approx(expected)
    assert Influence("m", None, None, y).degrees_of_freedom() == 11
    # What does not vary at all has no fewer than what its images allow.
    assert Influence("m", None, 0 * x, 0 * y).degrees_of_freedom() == 4


def test_errors_of_parts_scatter_as_their_degrees_of_freedom_say():
    # Of normal values the variance of an estimated variance is 2 / df of its square: of 4 parts in 16 ways,
    # with the number 1 / 399 of the images themselves on top. 600 sets tell it to 6 %.
    rng = np.random.default_rng(0)
    orders = [rng.permutation(400) for _ in range(16)]
    found = []
    for _ in range(600):
        values = rng.standard_normal(400)
        parts = [[values[order[i::4]].mean() for i in range(4)] for order in orders]
        one = Influence("m", None, None, None, batches=np.array(parts))
        found.append(one.variance())
    assert one.degrees_of_freedom() == 48
    scatter = np.var(found) / np.mean(found) ** 2
    assert scatter == pytest.approx(2 / 48 + 2 / 399, rel=0.2)


@pytest.mark.slow
def test_errors_of_five_groups_are_as_sure_as_they_say():
    # Two sets of one distribution against the moments of another: read as normal, their errors of five groups
    # gave p <= 0.01 in 2.9 % of cases and p <= 0.001 in 0.9 %.
    rng, metric, repetitions = np.random.default_rng(0), FrechetDistance(), 800
    moments = np.zeros(4), np.eye(4)
    p_values = []
    for _ in range(repetitions):
        rows = []
        for _ in range(2):
            given = torch.from_numpy(1.2 * rng.standard_normal((257 + 10, 4)).astype(np.float32))
            fake = metric.new_state("fake", resolution=(32, 32))
            fake.update(FeatureBlock(0, given))
            real = MomentsState.from_moments(*moments, replace(fake.key, side="real"))
            estimate = metric.compute(real=real, fake=fake)[0][0]
            rows.append({**asdict(estimate), "seed": 0})
        found = intervals.independent_difference(*rows)
        assert 4 <= found.df <= 8
        p_values.append(found.p_value)
    for level in (0.05, 0.01, 0.001):
        most = stats.binom.isf(0.01, repetitions, level)
        assert (np.array(p_values) <= level).sum() <= most
    # Nor are they too careful to find anything.
    assert (np.array(p_values) <= 0.05).mean() > 0.02


@pytest.mark.parametrize(
    "other",
    [
        {"stderr_kind": "directions"},
        {"stderr_kind": "splits (sd)"},
        {"stderr": None, "stderr_kind": None},
        {"seed": 1},  # other directions
    ],
)
def test_rows_whose_errors_do_not_speak_of_images_have_no_test(other):
    for pair in ((row(), row(**other)), (row(**other), row())):
        found = intervals.independent_difference(*pair)
        assert (found.stderr, found.low, found.p_value, found.test) == (None, None, None, "none")


def test_rows_of_other_seeds_are_compared_where_the_directions_are_in_the_error():
    both = {"stderr_kind": "images and directions"}
    assert intervals.independent_difference(row(**both), row(seed=1, **both)).test == "Student's t"
    pairs = {"metric": "ms-ssim", "stderr_kind": "pairs"}
    assert intervals.independent_difference(row(**pairs), row(seed=1, **pairs)).test == "Student's t"


def test_rows_of_unlike_metrics_or_levels_are_refused():
    with pytest.raises(OptionError, match=r"level.*32 and 16"):
        intervals.independent_difference(row(), row(level=16))
    with pytest.raises(OptionError, match=r"metric.*swd and fid"):
        intervals.independent_difference(row(), row(metric="fid"))


def test_equal_numbers_without_error_do_not_differ_and_unequal_ones_do():
    assert intervals.independent_difference(row(stderr=0.0), row(stderr=0.0)).p_value == 1
    assert intervals.independent_difference(row(stderr=0.0), row(stderr=0.0, value=2.0)).p_value == 0


def test_holm_multiplies_the_smallest_by_all_and_keeps_the_order():
    assert randomization.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert randomization.holm([0.6, 0.7]) == [1.0, 1.0]
    assert randomization.holm([]) == []


def test_an_interval_is_as_wide_as_its_confidence():
    assert intervals.interval(1.0, 2.0) == pytest.approx((1 - 3.919928, 1 + 3.919928))
    assert intervals.interval(1.0, 2.0, df=4) == pytest.approx((1 - 5.552890, 1 + 5.552890))
    assert intervals.interval(0.0, 1.0, 0.5) == pytest.approx((-0.67449, 0.67449))
    for level in (0, 1, 95):
        with pytest.raises(OptionError):
            intervals.interval(0.0, 1.0, level)
