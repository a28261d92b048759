"""What a standard error is over, and of how many units."""

import numpy as np
import pytest

from pgmetrics.metrics import error_kinds
from tests.helpers.compared_rows import row


@pytest.mark.parametrize(
    ("kind", "n_real", "n_fake", "expected"),
    [
        ("images", 100, 50, 49),
        ("images", None, 50, 49),
        ("images and directions", 100, 50, 49),
        ("images and 4 directions", 100, 50, 3),
        ("pairs", None, 50, 24),
        ("pairs", 50, None, 24),  # of the reals
        ("fakes given the reals", 30, 50, 49),
        ("reals given the fakes", 30, 50, 29),
        ("images (jackknife, 5 groups)", 1000, 300, 4),
        ("fake images (jackknife, 10 groups)", 3, 1000, 9),
        # Older results do not say how many groups: 257 images were the fewest, in five.
        ("images (jackknife)", 1000, 257, 4),
        ("fake images (jackknife)", None, 1000, 9),
        ("images (16 x 4 parts)", 100, 100, 48),
        ("directions", 100, 100, np.inf),
    ],
)
def test_an_error_is_as_sure_as_its_fewest_units(kind, n_real, n_fake, expected):
    found = error_kinds.degrees_of_freedom(row(stderr_kind=kind, n_real=n_real, n_fake=n_fake))
    assert found == expected
    assert error_kinds.is_over_images(kind) is not ("given the fakes" in kind or kind == "directions")
