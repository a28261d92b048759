"""Patches and distance against the published numbers, a slower way, and closed forms."""

from math import exp, lgamma, pi, sqrt

import numpy as np
import pytest
import scipy.stats
import torch

from pgmetrics.errors import SampleError
from pgmetrics.functional.sliced_wasserstein import sliced_wasserstein
from tests.helpers.draws import normal_tensor
from tests.helpers.golden_descriptors import golden_descriptors, our_order, unit_directions
from tests.parity import formula


@pytest.mark.parametrize("name", formula.golden()["swd"])
@pytest.mark.parametrize("pieces", [1, 2])
def test_swd_equals_the_published_numbers_level_by_level(name, pieces):
    # Catches swapped rows and columns, off-by-one centers, sample instead of population deviation,
    # per-pair standardization, unnormalized directions, W2 for W1, and a lost level.
    a, b = formula.sets(name)
    expected = formula.golden()["swd"][name]
    order = our_order(np.arange(147))
    directions = torch.from_numpy(np.concatenate([formula.directions(r)[order].T for r in range(4)]))
    values = [
        1e3 * sliced_wasserstein(real, fake, directions, (s, t)).mean().item()
        for (real, s), (fake, t) in zip(
            golden_descriptors(a, pieces), golden_descriptors(b, pieces), strict=True
        )
    ]
    np.testing.assert_allclose(values, expected["swd_x1e3"], rtol=1e-4)
    assert np.mean(values) == pytest.approx(expected["avg"], rel=1e-4)


def test_every_direction_equals_scipys_one_dimensional_distance():
    a, b = normal_tensor(300, 12, seed=1), 2 * normal_tensor(300, 12, seed=2) + 1
    directions = unit_directions(12, 5)
    ours = sliced_wasserstein([a[:100], a[100:]], [b], directions)
    for direction, value in zip(directions, ours, strict=True):
        expected = scipy.stats.wasserstein_distance((a @ direction).numpy(), (b @ direction).numpy())
        assert value.item() == pytest.approx(expected, rel=1e-12)


def test_shift_has_its_closed_form():
    # Adding v to every point moves each projection by <v, u>, so W1 = |<v, u>|.
    # Over unit u in R^d that averages |v| G(d/2) / (sqrt(pi) G((d+1)/2)).
    d, length = 147, 3.0
    points = normal_tensor(512, d, seed=1)
    shift = torch.zeros(d, dtype=torch.float64)
    shift[0] = length
    per_direction = sliced_wasserstein([points], [points + shift], unit_directions(d, 512))
    expected = length * exp(lgamma(d / 2) - lgamma((d + 1) / 2)) / sqrt(pi)
    assert abs(per_direction.mean() - expected) < 4 * per_direction.std() / sqrt(512)


def test_order_of_the_points_does_not_matter():
    a, b = normal_tensor(200, 9, seed=1), normal_tensor(200, 9, seed=2)
    directions = unit_directions(9, 3)
    expected = sliced_wasserstein([a], [b], directions)
    shuffled = sliced_wasserstein([a.flip(0)], [b], directions)
    assert torch.allclose(expected, shuffled, rtol=1e-13)


def test_more_directions_than_one_pass_holds_give_the_same(monkeypatch):
    from pgmetrics.functional import sliced_wasserstein as sliced

    a, b = normal_tensor(200, 9, seed=1), normal_tensor(200, 9, seed=2)
    directions = unit_directions(9, 7)
    expected = sliced_wasserstein([a], [b], directions)
    monkeypatch.setattr(sliced, "_WORKSPACE", 200 * 8 * 2)
    assert torch.allclose(sliced_wasserstein([a], [b], directions), expected, rtol=1e-13)


def test_numpy_stands_in_where_torch_has_no_product_of_that_name(monkeypatch):
    # float32, as the metric has it: the other tests that compare directions are in float64.
    a, b = (normal_tensor(300, 147, seed=seed).float() for seed in (1, 2))
    directions = unit_directions(147, 9)
    expected = sliced_wasserstein([a.double()], [b.double()], directions)
    usual = sliced_wasserstein([a[:100], a[100:]], [b], directions)
    monkeypatch.setattr(torch.ops, "mkldnn", None)
    fallback = sliced_wasserstein([a[:100], a[100:]], [b], directions)
    assert torch.allclose(usual, expected, rtol=1e-5)
    assert torch.allclose(fallback, expected, rtol=1e-5)


def test_inputs_are_not_changed_by_sorting():
    a, b = normal_tensor(50, 4, seed=1).float(), normal_tensor(50, 4, seed=2).float()
    copy = a.clone()
    sliced_wasserstein([a], [b], unit_directions(4, 2))
    assert torch.equal(a, copy)


@pytest.mark.parametrize(("n", "m"), [(10, 11), (0, 0)])
def test_unequal_or_empty_sets_are_refused(n, m):
    with pytest.raises(SampleError, match=f"{n} and {m} points"):
        sliced_wasserstein([torch.zeros(n, 3)], [torch.zeros(m, 3)], unit_directions(3, 1))
