"""The pyramid against the published numbers, an independent filter, and its own algebra."""

import numpy as np
import pytest
import torch

from benchmarks import plain_recipe
from pgmetrics.errors import SampleError
from pgmetrics.functional.pyramid import laplacian_pyramid, level_sizes, pyr_down, pyr_up
from tests.parity import formula


@pytest.mark.parametrize("name", formula.golden()["laplacian_pyramid"])
def test_levels_equal_the_published_pixels(name):
    # Catches zero padding, a replicated edge, odd phase, a lost factor 4, another enlargement.
    (images,) = formula.sets(name)
    expected = formula.golden()["laplacian_pyramid"][name]
    levels = laplacian_pyramid(torch.from_numpy(images), len(expected))
    for level, numbers in zip(levels, expected, strict=True):
        assert level.dtype == torch.float32
        row = level[0, 0, 0, :8].numpy()
        np.testing.assert_allclose(row, numbers["first_row_of_image_0_channel_0"], atol=1e-4, rtol=0)
        assert level[-1, 2, -1, -1].item() == pytest.approx(numbers["last_pixel"], abs=1e-4)
        assert level.double().mean().item() == pytest.approx(numbers["mean"], abs=1e-4)
        assert level.double().square().mean().sqrt().item() == pytest.approx(numbers["rms"], rel=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (1, 3, 96, 32), (3, 3, 20, 36)])
def test_every_pixel_equals_the_plain_recipe(shape):
    # The golden file holds few pixels; this compares all of them, borders and non-square included.
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    count = len(level_sizes(*shape[2:]))
    ours = laplacian_pyramid(torch.from_numpy(images), count)
    for level, plain in zip(ours, plain_recipe.laplacian_pyramid(images, count), strict=True):
        np.testing.assert_allclose(level.numpy(), plain, atol=1e-4, rtol=0)


def test_constant_images_stay_constant_in_float64():
    # Catches dark borders.
    images = torch.full((1, 3, 16, 24), 37.0, dtype=torch.float64)
    for made in (pyr_down(images), pyr_up(images)):
        assert made.dtype == torch.float64
        assert torch.allclose(made, torch.full_like(made, 37.0), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1024, 1024), [1024, 512, 256, 128, 64, 32, 16]),
        ((16, 16), [16]),
        ((48, 64), [48, 24]),
        ((100, 40), [100, 50]),
    ],
)
def test_levels_stop_where_a_side_is_odd_or_below_sixteen(size, expected):
    assert [h for h, _ in level_sizes(*size)] == expected


def test_below_sixteen_pixels_is_refused():
    with pytest.raises(SampleError, match="undefined below 16 pixels; the images are 8x8"):
        level_sizes(8, 8)
