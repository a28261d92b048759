"""What each image contributes to a number, and the errors that follow."""

from math import sqrt

import numpy as np
import pytest

from pgmetrics.errors import SampleError
from pgmetrics.metrics.influence import Influence
from pgmetrics.uncertainty import intervals
from tests.helpers.influences import length


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
