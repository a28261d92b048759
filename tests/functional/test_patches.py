"""Descriptors and their standardization."""

import numpy as np
import pytest
import torch

from pgmetrics.functional.patches import channel_moments, channel_statistics, gather_patches
from pgmetrics.functional.sliced_wasserstein import sliced_wasserstein
from tests.helpers.draws import normal_tensor
from tests.helpers.golden_descriptors import golden_descriptors, our_order, unit_directions
from tests.parity import formula


@pytest.mark.parametrize("name", formula.golden()["swd"])
def test_descriptors_equal_the_published_components(name):
    (chunk,), statistics = golden_descriptors(formula.sets(name)[0])[0]
    standardized = (chunk.double() - statistics.mean.repeat(49)) / statistics.std.repeat(49)
    published = np.empty(147)
    published[our_order(np.arange(147))] = standardized[0].numpy()
    head = formula.golden()["swd"][name]["first_descriptor_head_finest_level"]
    np.testing.assert_allclose(published[:5], head, atol=2e-5)


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


def test_patches_are_windows_of_the_level_up_to_the_last_row_and_column():
    level = torch.arange(2 * 3 * 9 * 8, dtype=torch.float32).view(2, 3, 9, 8)
    rows, columns = torch.tensor([[0, 2], [1, 2]]), torch.tensor([[1, 1], [0, 1]])
    patches = gather_patches(level, rows, columns).view(2, 2, 7, 7, 3)
    for n in range(2):
        for p in range(2):
            y, x = int(rows[n, p]), int(columns[n, p])
            window = level[n, :, y : y + 7, x : x + 7].permute(1, 2, 0)
            assert torch.equal(patches[n, p], window)
