"""Patches and distance against the published numbers, a slower way, and closed forms."""

from math import exp, lgamma, pi, sqrt

import numpy as np
import pytest
import scipy.stats
import torch

from pgmetrics.errors import SampleError
from pgmetrics.functional.patches import channel_moments, channel_statistics, gather_patches
from pgmetrics.functional.pyramid import laplacian_pyramid, level_sizes
from pgmetrics.functional.sliced_wasserstein import sliced_wasserstein
from tests.helpers.draws import normal_tensor
from tests.parity import formula


def unit_directions(d, k):
    directions = normal_tensor(k, d, seed=7)
    return directions / directions.norm(dim=1, keepdim=True)


def our_order(component):
    """The published place (channel, column, row) of our component (row, column, channel)."""
    row, column, channel = np.unravel_index(component, (7, 7, 3))
    return channel * 49 + column * 7 + row


def golden_descriptors(images, pieces=1):
    """Patches and statistics per level at the golden file's centers, gathered in `pieces` pieces."""
    result = []
    sizes = level_sizes(*images.shape[2:])
    for level, (side, _) in enumerate(sizes):
        chunks, moments = [], []
        for first in range(0, len(images), len(images) // pieces):
            part = torch.from_numpy(images[first : first + len(images) // pieces])
            x, y = formula.centers(len(part), level, side, first)
            rows, columns = (torch.from_numpy(v.reshape(len(part), 128) - 3) for v in (y, x))
            chunk = gather_patches(laplacian_pyramid(part, len(sizes))[level], rows, columns)
            chunks.append(chunk)
            moments.append(channel_moments(chunk, 3, len(part)))
        result.append((chunks, channel_statistics(moments)))
    return result


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


@pytest.mark.parametrize("name", formula.golden()["swd"])
def test_descriptors_equal_the_published_components(name):
    (chunk,), statistics = golden_descriptors(formula.sets(name)[0])[0]
    standardized = (chunk.double() - statistics.mean.repeat(49)) / statistics.std.repeat(49)
    published = np.empty(147)
    published[our_order(np.arange(147))] = standardized[0].numpy()
    head = formula.golden()["swd"][name]["first_descriptor_head_finest_level"]
    np.testing.assert_allclose(published[:5], head, atol=2e-5)


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


def test_standardizing_by_folding_equals_standardizing_the_points():
    a, b = 5 * normal_tensor(400, 6, seed=1).float() + 100, normal_tensor(400, 6, seed=2).float()
    statistics = []
    for points in (a, b):
        moments = channel_moments(points, 3, 8)
        statistics.append(channel_statistics([moments[:3], moments[3:]]))
        values = points.double().view(-1, 3)
        assert torch.allclose(statistics[-1].mean, values.mean(0), rtol=1e-6)
        assert torch.allclose(statistics[-1].std, values.std(0, correction=0), rtol=1e-6)
    by_hand = [(p - s.mean.repeat(2)) / s.std.repeat(2) for p, s in zip((a, b), statistics, strict=True)]
    directions = unit_directions(6, 20)
    folded = sliced_wasserstein([a], [b], directions, (statistics[0], statistics[1]))
    assert torch.allclose(folded, sliced_wasserstein([by_hand[0]], [by_hand[1]], directions), rtol=1e-5)


def test_a_flat_channel_becomes_zeros_not_nan():
    points = normal_tensor(64, 6, seed=1).float()
    points[:, 1::3] = 201.3  # with sums of squares around zero this would look like 0.06 levels
    statistics = channel_statistics([channel_moments(points, 3, 4)])
    assert statistics.flat == (1,)
    only_flat = torch.zeros(1, 6, dtype=torch.float64)
    only_flat[0, 1] = 1
    assert sliced_wasserstein([points], [points], only_flat, (statistics, statistics)).item() == 0


@pytest.mark.parametrize(("n", "m"), [(10, 11), (0, 0)])
def test_unequal_or_empty_sets_are_refused(n, m):
    with pytest.raises(SampleError, match=f"{n} and {m} points"):
        sliced_wasserstein([torch.zeros(n, 3)], [torch.zeros(m, 3)], unit_directions(3, 1))


def test_patches_are_windows_of_the_level_up_to_the_last_row_and_column():
    level = torch.arange(2 * 3 * 9 * 8, dtype=torch.float32).view(2, 3, 9, 8)
    rows, columns = torch.tensor([[0, 2], [1, 2]]), torch.tensor([[1, 1], [0, 1]])
    patches = gather_patches(level, rows, columns).view(2, 2, 7, 7, 3)
    for n in range(2):
        for p in range(2):
            y, x = int(rows[n, p]), int(columns[n, p])
            window = level[n, :, y : y + 7, x : x + 7].permute(1, 2, 0)
            assert torch.equal(patches[n, p], window)
