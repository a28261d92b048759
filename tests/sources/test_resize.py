"""A source resized to another resolution."""

import numpy as np
import pytest
from PIL import Image

from pgmetrics import sources
from pgmetrics.errors import OptionError, SourceError
from pgmetrics.sources import open_source
from pgmetrics.sources.resize import check_policy, resize_image


def test_another_resolution_needs_a_policy():
    source = sources.synthetic(16, 4, 0)
    assert open_source(source, resolution=16) is source
    with pytest.raises(SourceError, match="images of 16 × 16, and 8 × 8 was asked for; --resize box"):
        open_source(source, resolution=8)
    small = open_source(source, resolution=8, resize="box")
    assert small.resolution == (8, 8)
    assert small.fingerprint != source.fingerprint
    assert open_source(source, resolution=16, resize="box") is source
    with pytest.raises(OptionError, match="needs a resolution"):
        open_source(source, resize="box")


def test_resizing_comes_before_slicing(here):
    whole = open_source("photos", resolution=4, resize="box")
    part = open_source("photos@0:3", resolution=4, resize="box")
    assert part.resolution == (4, 4)
    assert {whole.identity([i]) for i in range(len(whole))} > {part.identity([i]) for i in range(3)}


def square(image, policy, side):
    return np.asarray(resize_image(Image.fromarray(image), policy, side))


def test_a_policy_stretches_all_or_crops_the_center():
    # Columns 0 and 5 lie outside of the center square of a 4 × 6 image.
    image = np.repeat([0, 10, 20, 30, 40, 250], 12).reshape(6, 4, 3).transpose(1, 0, 2).astype(np.uint8)
    assert square(image, "crop-box", 2)[..., 0].tolist() == [[15, 35], [15, 35]]
    assert square(image, "box", 2)[..., 0].tolist() == [[10, 107], [10, 107]]


@pytest.mark.parametrize(
    ("resize", "resolution", "said"),
    [
        ("nearest", 8, "unknown resize policy 'nearest'; choose from box, lanczos, bicubic, crop-box"),
        ("box", None, "resize box needs a resolution too"),
        (None, 8, "resolution 8 needs a resize too"),
        ("box", 0, "a resolution in pixels"),
    ],
)
def test_a_policy_and_a_resolution_go_together(resize, resolution, said):
    with pytest.raises(OptionError, match=said):
        check_policy(resize, resolution)
    check_policy(None, None)
    check_policy("crop-lanczos", 8)
