"""Influences on the sliced Wasserstein distance against finite differences."""

import numpy as np
import pytest
import torch

from pgmetrics.functional.patches import channel_moments
from pgmetrics.functional.sliced_wasserstein import sliced_wasserstein
from pgmetrics.functional.sliced_wasserstein_influence import DescribedImages, sliced_influence
from tests.helpers.influences import derivatives, weights

PATCHES = 8


WIDTH = 147


def described(seed, n, contrast, fit=slice(None)):
    """Descriptors of images that differ in contrast and color."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((n, PATCHES, 49, 3)) + 0.5 * rng.standard_normal((n, PATCHES, 1, 3))
    base = base * np.exp(contrast * rng.standard_normal((n, 1, 1, 1))) + rng.standard_normal((n, 1, 1, 3))
    points = torch.from_numpy(base.reshape(n * PATCHES, WIDTH))
    return DescribedImages([points[:24], points[24:]], channel_moments(points, 3, n), fit)


def weighted_distance(a, b, directions, weights_a, weights_b):
    """The definition: W1 as the integral of |F - G|, of weighted points standardized by weighted moments."""
    projected = []
    for side, weight in ((a, weights_a), (b, weights_b)):
        means, variances = side.moments.unbind(1)
        mean = weight @ means
        std = (weight @ (variances + (means - mean) ** 2)).sqrt()
        points = (torch.cat(list(side.pieces)) - mean.repeat(49)) / std.repeat(49)
        projected.append((points @ directions.T, weight.repeat_interleave(PATCHES) / PATCHES))
    (u, of_u), (v, of_v) = projected
    total = 0.0
    for k in range(len(directions)):
        points = torch.cat([u[:, k], v[:, k]])
        order = points.argsort()
        apart = torch.cat([of_u, -of_v])[order].cumsum(0)[:-1].abs()
        total += float(apart @ points[order].diff())
    return total / len(directions)


def unit(num):
    made = torch.from_numpy(np.random.default_rng(9).standard_normal((num, WIDTH)))
    return made / made.norm(dim=1, keepdim=True)


def test_the_weighted_distance_is_the_distance():
    a, b, directions = described(1, 12, 0.1), described(2, 12, 0.8), unit(6)
    ours = sliced_wasserstein(a.pieces, b.pieces, directions, (a.statistics(), b.statistics()))
    assert weighted_distance(a, b, directions, weights(12), weights(12)) == pytest.approx(float(ours.mean()))


@pytest.mark.parametrize("fit", [slice(None), slice(0, None, 2), slice(1, None, 2)])
@pytest.mark.parametrize("counts", [(12, 12), (9, 17)])
def test_an_image_moves_swd_by_its_influence(monkeypatch, counts, fit):
    # Without the part of the standardization, with the sign of either side turned, or with means over all
    # images in place of the fitted ones, this fails.
    a, b = described(1, counts[0], 0.1, fit), described(2, counts[1], 0.8, fit)
    directions = unit(6)
    given = [weights(n, fit) for n in counts]
    usual = sliced_influence(a, b, directions)
    monkeypatch.setattr("pgmetrics.functional.sliced_wasserstein_influence.CELLS", 2**17)
    found = sliced_influence(a, b, directions)
    for side in (0, 1):
        expected = derivatives(lambda *w: weighted_distance(a, b, directions, *w), given, side)
        assert expected.std() > 0.01
        np.testing.assert_allclose(found[side], expected, atol=0.03 * expected.std())
        # With the usual cells several points of so small sets share one.
        np.testing.assert_allclose(usual[side], expected, atol=0.3 * expected.std())


def test_what_a_scale_does_is_no_influence():
    # Sets are standardized, so an image that makes all of its set brighter moves nothing.
    a, b = described(1, 12, 0.1), described(2, 12, 0.8)
    scaled = [3 * piece + 5 for piece in a.pieces]
    brighter = DescribedImages(scaled, channel_moments(torch.cat(scaled), 3, 12))
    for before, after in zip(
        sliced_influence(a, b, unit(4)), sliced_influence(brighter, b, unit(4)), strict=True
    ):
        np.testing.assert_allclose(after, before, atol=1e-9)


def test_equal_sets_and_flat_channels_have_finite_influences():
    a = described(1, 12, 0.5)
    flat = [piece.clone() for piece in a.pieces]
    for piece in flat:
        piece[:, 1::3] = 7.0
    one_flat = DescribedImages(flat, channel_moments(torch.cat(flat), 3, 12))
    assert sliced_influence(a, a, unit(4))[0] == pytest.approx(np.zeros(12), abs=1e-12)
    for part in sliced_influence(one_flat, a, unit(4)):
        assert np.isfinite(part).all()


def test_float32_gives_the_influences_of_float64():
    a, b = described(1, 12, 0.1), described(2, 12, 0.8)
    single = [DescribedImages([piece.float() for piece in side.pieces], side.moments) for side in (a, b)]
    for exact, found in zip(sliced_influence(a, b, unit(8)), sliced_influence(*single, unit(8)), strict=True):
        # A point on the edge between two cells may fall into either.
        np.testing.assert_allclose(found, exact, atol=1e-3 * exact.std())
