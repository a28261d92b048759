"""Influences against finite differences: the value of sets whose images do not all count the same."""

import numpy as np
import pytest
import torch

from pgmetrics.functional.frechet import frechet_distance
from pgmetrics.functional.frechet_influence import frechet_influence
from pgmetrics.functional.inception_score import inception_score, inception_score_influence
from pgmetrics.functional.mmd import PolynomialKernel, squared_mmd, squared_mmd_influence
from pgmetrics.functional.neighbors import neighborhoods, shares
from pgmetrics.functional.patches import channel_moments
from pgmetrics.functional.sliced_wasserstein import sliced_wasserstein
from pgmetrics.functional.sliced_wasserstein_influence import DescribedImages, sliced_influence
from tests.contracts.feature_contract import features

STEP = 1e-5


def weights(n, fit=None):
    """Equal ones, of all images or of those of a slice."""
    made = torch.zeros(n, dtype=torch.float64)
    made[fit or slice(None)] = 1
    return made / made.sum()


def derivatives(value, given, side):
    """Of value(*weights), when one image of a side gets a little of all the weight."""
    found = []
    for i in range(len(given[side])):
        ends = []
        for sign in (STEP, -STEP):
            moved = list(given)
            moved[side] = (1 - sign) * given[side] + sign * torch.eye(len(given[side]), dtype=torch.float64)[
                i
            ]
            ends.append(value(*moved))
        found.append((ends[0] - ends[1]) / (2 * STEP))
    found = np.array(found)
    return found - found.mean()


# The sliced Wasserstein distance.

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


# The Fréchet distance.


def weighted_frechet(a, b, ddof):
    def value(*weight):
        moments = []
        for rows, w in zip((a, b), weight, strict=True):
            mean = w @ rows
            covariance = (rows - mean).T @ ((rows - mean) * w[:, None])
            n = int((w > 0.2 / len(rows)).sum())
            moments += [mean, covariance * n / (n - ddof)]
        return frechet_distance(*moments)

    return value


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("fit", [None, slice(1, None, 2)])
def test_a_row_moves_the_frechet_distance_by_its_influence(fit, ddof):
    a, b = features(1, 60, 5).double(), features(2, 50, 5).double() * 1.3 + 0.2
    given = [weights(60, fit), weights(50, fit)]
    found = frechet_influence(a, b, ddof, fit)
    for side in (0, 1):
        expected = derivatives(weighted_frechet(a, b, ddof), given, side)
        np.testing.assert_allclose(found[side], expected, atol=1e-3 * expected.std())


def test_fewer_rows_than_features_have_the_influences_of_what_they_span():
    a, b = features(1, 12, 20).double(), features(2, 60, 20).double() + 0.3
    found = frechet_influence(a, b)[0]
    expected = derivatives(weighted_frechet(a, b, 1), [weights(12), weights(60)], 0)
    np.testing.assert_allclose(found, expected, atol=1e-3 * expected.std())


# The inception score.


def test_an_image_moves_the_inception_score_by_what_is_lost_without_it():
    logits = features(3, 40, 7) * 3
    score = inception_score(logits)
    without = [inception_score(torch.cat([logits[:i], logits[i + 1 :]])) for i in range(40)]
    expected = 39 * (score - np.array(without))
    np.testing.assert_allclose(
        inception_score_influence(logits), expected - expected.mean(), atol=1e-9 * expected.std()
    )


def test_influences_on_the_inception_score_go_to_its_derivative():
    logits = features(3, 2000, 7).double() * 3
    log_p = torch.log_softmax(logits, 1)
    p = log_p.exp()
    divergences = (p * (log_p - p.mean(0).log())).sum(1)
    expected = (divergences.mean().exp() * (divergences - divergences.mean())).numpy()
    np.testing.assert_allclose(inception_score_influence(logits), expected, atol=0.01 * expected.std())


def test_a_class_that_one_image_alone_has_gives_a_finite_influence():
    logits = torch.full((4, 3), -1000.0)
    logits[torch.arange(4), torch.tensor([0, 0, 0, 2])] = 0
    assert np.isfinite(inception_score_influence(logits)).all()


# The kernel distance.


def test_kernel_influences_are_the_means_of_kernel_values():
    x, y = features(1, 31, 5), features(2, 40, 5) * 1.3
    kernel = PolynomialKernel()

    def values(a, b):
        return (a.double() @ b.double().T / 5 + 1) ** 3

    found = squared_mmd_influence(x, y, kernel)
    for fit, parts in zip((slice(None), slice(0, None, 2), slice(1, None, 2)), found, strict=True):
        for mine, other, part in ((x, y, parts[0]), (y, x, parts[1])):
            own = values(mine, mine).fill_diagonal_(0)[:, fit]
            counted = torch.ones(len(mine), len(mine)).fill_diagonal_(0)[:, fit].sum(1)
            expected = 2 * (own.sum(1) / counted - values(mine, other)[:, fit].mean(1))
            np.testing.assert_allclose(part, expected - expected.mean(), atol=1e-5)


def test_kernel_influences_are_what_leaving_a_row_out_does():
    x, y = features(1, 60, 5), features(2, 40, 5) * 1.3
    value = squared_mmd([x], [y])[0]
    without = np.array([squared_mmd([torch.cat([x[:i], x[i + 1 :]])], [y])[0] for i in range(60)])
    found = squared_mmd_influence(x, y)[0][0]
    np.testing.assert_allclose(59 * (value - without), found, atol=0.1 * found.std())


# Precision, recall, density and coverage.


def test_shares_are_those_of_all_pairs_of_distances():
    real, fake = features(1, 40, 3), features(2, 50, 3) * 1.2
    fake[7] = fake[8]  # copies share what one would have alone
    k = 3
    apart = torch.cdist(real.double(), fake.double())
    # 0 is the row itself.
    radii = torch.cdist(real.double(), real.double()).sort(1).values[:, k]
    fake_radii = torch.cdist(fake.double(), fake.double()).sort(1).values[:, k]
    held, balls = (apart <= radii[:, None]).double(), (apart <= fake_radii).double()
    found = shares([real], [fake], k)
    np.testing.assert_allclose(found.covering, (held / held.sum(1, keepdim=True).clamp(min=1)).sum(0))
    np.testing.assert_allclose(found.recalling, (balls / balls.sum(1, keepdim=True).clamp(min=1)).sum(0))
    numbers = neighborhoods([real], [fake], k)
    assert found.covering.sum() == pytest.approx(numbers.covered.sum())
    assert numbers.recalled is not None
    assert found.recalling.sum() == pytest.approx(numbers.recalled.sum())
