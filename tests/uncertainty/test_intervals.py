"""Standard errors, confidence intervals, and the difference of independent numbers."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from scipy import stats

from pgmetrics.errors import OptionError
from pgmetrics.metrics.frechet import FrechetDistance
from pgmetrics.metrics.moments import MomentsState
from pgmetrics.runtime.blocks import FeatureBlock
from pgmetrics.uncertainty import intervals
from tests.helpers.compared_rows import row
from tests.helpers.influences import length


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


def test_an_interval_is_as_wide_as_its_confidence():
    assert intervals.interval(1.0, 2.0) == pytest.approx((1 - 3.919928, 1 + 3.919928))
    assert intervals.interval(1.0, 2.0, df=4) == pytest.approx((1 - 5.552890, 1 + 5.552890))
    assert intervals.interval(0.0, 1.0, 0.5) == pytest.approx((-0.67449, 0.67449))
    for level in (0, 1, 95):
        with pytest.raises(OptionError):
            intervals.interval(0.0, 1.0, level)


def test_a_contrast_is_the_difference_place_by_place():
    rng = np.random.default_rng(0)
    a, b = length(rng.standard_normal((20, 3))), length(rng.standard_normal((20, 3)))
    found = intervals.contrast(a, b)
    np.testing.assert_allclose(found.fake, b.fake - a.fake)
    for mine, one, other in zip(found.halves, a.halves, b.halves, strict=True):
        np.testing.assert_allclose(mine.fake, other.fake - one.fake)
    assert found.real is None
