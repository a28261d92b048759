"""Levels are means of the original bytes, and images have as many channels as asked for."""

from __future__ import annotations

import numpy as np

from reference_models.progan.data.pyramid_levels import levels
from tests.helpers.image_files import pixels


def test_levels_are_means_of_the_original_bytes_rounded_to_even():
    # Rounding each level from the rounded one above drifts; half up, as in C, differs at every tie.
    images = pixels(3, 128, 128).transpose(0, 3, 1, 2).copy()
    images[0] = 255  # the largest sums
    found = dict(levels(images))
    assert list(found) == [128, 64, 32, 16, 8, 4]
    for side, level in found.items():
        k = 128 // side
        means = images.reshape(3, 3, side, k, side, k).mean(axis=(3, 5), dtype=np.float64)
        assert level.dtype == np.uint8
        np.testing.assert_array_equal(level, np.round(means))
    assert (found[64] != np.floor(images.reshape(3, 3, 64, 2, 64, 2).mean(axis=(3, 5)) + 0.5)).any()
