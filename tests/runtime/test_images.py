"""The byte contract."""

import numpy as np
import pytest
import torch

from pgmetrics.errors import SourceError
from pgmetrics.runtime.images import box_downscale, check_bytes, grey_to_rgb, nearest_upscale, to_bytes

BOTH = pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])


@BOTH
def test_bytes_are_rounded_half_to_even_and_saturated(kind):
    # Truncation would give 127 for 127.99 and darken by half a level; ties: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2.
    levels = np.array([[0.5, 1.5, 2.5, 127.99, 254.6, 300.0, -7.0]])
    made = to_bytes(kind((levels - 127.5) / 127.5), (-1, 1))
    assert np.asarray(made).tolist() == [[0, 2, 2, 128, 255, 255, 0]]
    assert str(made.dtype).endswith("uint8")


def test_other_value_ranges_map_their_ends_to_0_and_255():
    assert to_bytes(np.array([[0.0, 0.5, 1.0]]), (0, 1)).tolist() == [[0, 128, 255]]


@BOTH
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_diverged_network_is_named_with_its_first_bad_image(kind, bad):
    images = np.zeros((4, 3, 2, 2), np.float32)
    images[2, 1, 0, 1] = bad
    with pytest.raises(SourceError, match=r"my G gave NaN or infinite values, first in image 2"):
        to_bytes(kind(images), (-1, 1), "my G")


@BOTH
def test_box_then_nearest_keeps_the_means(kind):
    images = np.random.default_rng(0).random((2, 3, 8, 12)).astype(np.float32)
    small = box_downscale(kind(images), 4)
    assert np.allclose(np.asarray(small)[0, 0, 0, 0], images[0, 0, :4, :4].mean())
    large = np.asarray(nearest_upscale(small, 4))
    assert large.shape == images.shape
    assert np.array_equal(large[:, :, ::4, ::4], large[:, :, 3::4, 3::4])
    assert np.array_equal(np.asarray(box_downscale(kind(large), 4)), np.asarray(small))


@BOTH
def test_grey_becomes_three_equal_channels(kind):
    grey = kind(np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2))
    rgb = np.asarray(grey_to_rgb(grey))
    assert rgb.shape == (2, 3, 2, 2)
    assert (rgb == np.asarray(grey)).all()
    assert grey_to_rgb(rgb) is rgb


@pytest.mark.parametrize(
    "images", [np.zeros((2, 3, 4, 4), np.float32), np.zeros((2, 4, 4, 3), np.uint8), torch.zeros(3, 4, 4)]
)
def test_anything_but_bytes_is_refused_with_what_was_found(images):
    with pytest.raises(SourceError, match=r"x gave images of dtype (float32|uint8) and shape \["):
        check_bytes(images, "x")
