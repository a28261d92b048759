"""The plain recipe, which every other test may trust, against the published code's numbers.

Each test names the mistakes it was seen to catch, by making them.
"""

import numpy as np
import pytest

from benchmarks import plain_recipe
from pgmetrics.runtime import seeding
from tests.parity import formula


def formula_centers(first, count, level, height, width):
    assert height == width
    return formula.centers(count, level, width, first)


def formula_directions(level, repeat):
    return formula.directions(repeat)


def test_formulas_give_the_stated_sums():
    # A formula mistyped here would otherwise be blamed on the code under test.
    assert formula.images(2, 16, 0).sum() == 116964
    assert formula.images(12, 64, 1).sum() == 18826240
    assert formula.smooth(4, 16, 0).sum() == 390136
    assert formula.smooth(4, 64, 1).sum() == 6242193
    x, y = formula.centers(2, 0, 16)
    assert list(zip(x, y, strict=True))[128:131] == [(4, 12), (11, 5), (8, 8)]
    np.testing.assert_allclose(formula.directions(0)[0, :3], [-0.08916733, 0.02011692, 0.05861519], atol=5e-9)
    np.testing.assert_allclose(formula.directions(3)[146, 127], -0.059211195, atol=5e-9)


@pytest.mark.parametrize("name", formula.golden()["laplacian_pyramid"])
def test_pyramid_meets_the_published_levels(name):
    # Catches: zero padding, repeated edge, odd phase, nearest enlargement, a forgotten factor 4,
    # a band-pass last level.
    expected = formula.golden()["laplacian_pyramid"][name]
    (images,) = formula.sets(name)
    levels = plain_recipe.laplacian_pyramid(images, len(expected))
    for level, published in zip(levels, expected, strict=True):
        assert level.dtype == np.float32
        assert level.shape[2:] == (published["side"], published["side"])
        row = published["first_row_of_image_0_channel_0"]
        # SciPy accumulates in double and rounds once, so only the last float32 digit may differ.
        np.testing.assert_allclose(level[0, 0, 0, :8], row, atol=1e-5)
        np.testing.assert_allclose(level[-1, 2, -1, -1], published["last_pixel"], atol=1e-5)
        exact = level.astype(np.float64)
        np.testing.assert_allclose(exact.mean(), published["mean"], atol=1e-6)
        np.testing.assert_allclose(np.sqrt((exact**2).mean()), published["rms"], rtol=1e-7)


@pytest.mark.parametrize("name", formula.golden()["swd"])
def test_swd_meets_the_published_values(name):
    # Catches: patches not transposed, row and column exchanged in the address, one mean for all
    # channels, Bessel's deviation, squared differences, unnormalized directions, sorting rows.
    expected = formula.golden()["swd"][name]
    real, fake = formula.sets(name)
    values = plain_recipe.swd(real, fake, formula_centers, formula_centers, formula_directions)
    assert [height for height, _ in plain_recipe.level_sizes(*real.shape[2:])] == expected["sides"]
    # Float32 throughout in the same order: the only difference is the BLAS's summation.
    np.testing.assert_allclose(np.multiply(values, 1000), expected["swd_x1e3"], rtol=1e-6)
    np.testing.assert_allclose(np.mean(values) * 1000, expected["avg"], rtol=1e-6)

    levels = plain_recipe.describe(real, formula_centers)
    head, tail = levels[0][0, :5], levels[-1][-1, -5:]
    np.testing.assert_allclose(head, expected["first_descriptor_head_finest_level"], atol=1e-5)
    np.testing.assert_allclose(tail, expected["last_descriptor_tail_coarsest_level"], atol=1e-5)


@pytest.mark.parametrize("name", formula.golden()["swd"])
def test_exact_statistics_differ_from_float32_ones_by_rounding_only(name):
    # The golden file's note: 2.3e-5 relative at most on these inputs.
    real, fake = formula.sets(name)
    values = plain_recipe.swd(
        real, fake, formula_centers, formula_centers, formula_directions, statistics=np.float64
    )
    np.testing.assert_allclose(
        np.multiply(values, 1000), formula.golden()["swd"][name]["swd_x1e3"], rtol=3e-5
    )


@pytest.mark.parametrize("name", formula.golden()["ms_ssim"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-9), (np.float64, 5e-6)])
def test_ms_ssim_meets_the_published_scores(name, dtype, tolerance):
    # In float32 the Fourier transforms are the published ones, noise included; in float64 the
    # difference is that noise, up to 1.8e-6.
    # Catches: zero padding, a window that does not shrink, sigma not shrinking with it, taps at
    # whole offsets for even sizes, every second pixel instead of a 2x2 mean, luminance at all
    # scales, renormalized or reversed weights, clip per channel, no clip, product per channel.
    first, second = formula.sets(name)
    scores = plain_recipe.ms_ssim_scores(first, second, dtype)
    np.testing.assert_allclose(scores, formula.golden()["ms_ssim"][name], rtol=0, atol=tolerance)
    zero = np.equal(formula.golden()["ms_ssim"][name], 0)
    assert (scores[zero] == 0).all()


# The numbers below were made by the published code too (NumPy 1.16 and 2.4), on waves of 64 px.


def waves(phase):
    n, c, y, x = np.ogrid[:32, :3, :64, :64]
    values = (
        127.5
        + 60 * np.sin(2 * np.pi * (x * (1 + n % 5) / 64 + c / 3 + phase))
        + 40 * np.cos(2 * np.pi * (y * (1 + n % 7) / 64 - n / 11))
        + 20 * np.sin(2 * np.pi * (0.013 * x * y + 0.37 * n * c))
    )
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def test_waves_have_the_stated_pixels():
    a, b = waves(0), waves(0.1)
    assert a.sum() == 50160855
    assert b.sum() == 50161080
    assert a[0, 0, 0, :8].tolist() == [168, 173, 179, 185, 190, 196, 201, 206]
    assert a[3, 2, 10, :5].tolist() == [71, 60, 48, 43, 54]


def test_pyramid_of_waves_meets_the_published_levels():
    corners = [
        [-7.161377, 16.794922, 3.958008, -3.527344],
        [-13.299866, 6.058212, -13.147705, 14.065277],
        [181.66339, 137.75946, 168.95895, 139.46207],
    ]
    probes = [7.453125, 4.460342, 77.921265]
    sums = [-177.5632, 858.1786, 196357.0779]
    squares = [4709410.466, 274413.7128, 28721523.233]
    levels = plain_recipe.laplacian_pyramid(waves(0)[:2], 3)
    for level, corner, probe, total, square in zip(levels, corners, probes, sums, squares, strict=True):
        found = level[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
        np.testing.assert_allclose(found, corner, atol=1e-5)
        np.testing.assert_allclose(level[1, 2, 5, 7], probe, atol=1e-5)
        exact = level.astype(np.float64)
        np.testing.assert_allclose(exact.sum(), total, atol=1e-3)
        np.testing.assert_allclose((exact**2).sum(), square, rtol=1e-8)


def test_swd_of_waves_meets_the_published_values_draw_for_draw():
    # The published evaluation draws from one legacy generator: centers of both sides and the
    # directions of the reals' own pass first. The next number shows that nothing was left out.
    rng = np.random.RandomState(1000)

    def centers(first, count, level, height, width):
        x = rng.randint(3, width - 3, 128 * count)
        return x, rng.randint(3, height - 3, 128 * count)

    def directions(level, repeat):
        return plain_recipe.unit_columns(rng.randn(147, 128))

    def compare(real, fake):
        return [
            1000 * plain_recipe.level_distance(a, b, directions, level)
            for level, (a, b) in enumerate(zip(real, fake, strict=True))
        ]

    real = plain_recipe.describe(waves(0), centers, minibatch=16)
    assert compare(real, real) == [0, 0, 0]
    fake = plain_recipe.describe(waves(0.1), centers, minibatch=16)
    values = compare(real, fake)
    np.testing.assert_allclose(values, [29.33833, 40.61564, 72.76105], atol=1e-5)
    np.testing.assert_allclose(np.mean(values), 47.57167, atol=1e-5)
    assert rng.rand() == 0.30535029590749985


def test_ms_ssim_of_waves_meets_the_published_scores():
    a, b = waves(0), waves(0.1)
    scores = plain_recipe.ms_ssim_scores(a, b, np.float64)
    np.testing.assert_allclose(scores[0], 0.8268476, atol=5e-8)
    np.testing.assert_allclose(scores.mean(), 0.8597371, atol=5e-8)
    np.testing.assert_allclose(plain_recipe.ms_ssim_scores(a, b).mean(), 0.8597373, atol=5e-8)


@pytest.mark.parametrize("phase", [0, 0.1])
def test_unrelated_waves_score_exactly_zero(phase):
    # Every one of these pairs has a negative term; taking the mean over pairs before the clip,
    # or no clip, leaves something (or NaN).
    images = waves(phase)
    assert plain_recipe.ms_ssim_scores(images[::2], images[1::2]).tolist() == [0.0] * 16


def test_drawn_centers_reach_every_contained_patch_and_no_other():
    # Catches: an upper bound one short, and width and height exchanged.
    centers = plain_recipe.drawn_centers(seeding.generator(7, seeding.Stream.PATCHES))
    x, y = centers(0, 64, 0, 16, 32)
    assert set(x) == set(range(3, 29))
    assert set(y) == set(range(3, 13))


def test_levels_stop_at_16_pixels():
    assert plain_recipe.level_sizes(128, 128) == [(128, 128), (64, 64), (32, 32), (16, 16)]
    assert plain_recipe.level_sizes(48, 64) == [(48, 64), (24, 32)]
    assert plain_recipe.level_sizes(17, 40) == [(17, 40)]
    assert plain_recipe.level_sizes(8, 64) == []
