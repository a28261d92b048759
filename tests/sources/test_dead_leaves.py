"""The procedural set: the same everywhere, at every resolution, with statistics worth measuring."""

import subprocess
import sys

import numpy as np
import pytest

from pgmetrics import sources
from pgmetrics.errors import SourceError


def boxed(images, factor):
    n, c, h, w = images.shape
    return images.reshape(n, c, h // factor, factor, w // factor, factor).mean((3, 5))


@pytest.mark.parametrize("side", [4, 8, 16, 32])
def test_small_images_are_the_larger_ones_box_downscaled(side):
    # Catches a scene that depends on the resolution, and samples half a pixel off.
    small = sources.synthetic(side, 6, 1).batch(range(6))
    large = sources.synthetic(64, 6, 1).batch(range(6))
    # Both are rounded once, and the mean of rounded values is itself off by up to half a level.
    assert abs(small - boxed(large, 64 // side)).max() <= 1


@pytest.mark.parametrize("side", [128, 256, 512, 1024])
def test_large_images_show_the_same_scene(side):
    small = sources.synthetic(64, 2, 1).batch(range(2)).astype(float)
    large = boxed(sources.synthetic(side, 2, 1).batch(range(2)), side // 64)
    for a, b in zip(small, large, strict=True):
        # Finer shapes join, so only alike; two different scenes correlate within ±0.3.
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.75


def test_images_depend_on_seed_and_index_alone():
    first = sources.synthetic(16, 10, 0).batch(range(10))
    np.testing.assert_array_equal(sources.synthetic(16, 1_000, 0).batch([9, 3]), first[[9, 3]])
    other = sources.synthetic(16, 10, 1).batch(range(10))
    assert len({image.tobytes() for image in np.concatenate([first, other])}) == 20
    # The last index that a key can hold.
    assert sources.synthetic(16, 2**32, 0).batch([2**32 - 1]).any()


def test_images_are_the_same_in_another_process_and_for_ever():
    # The digest was written down when the set was made (VERSION 1): whoever changes a pixel must
    # raise the version, or results filed under one name would come from two data sets.
    code = (
        "import hashlib; from pgmetrics.sources.dead_leaves import DeadLeaves, VERSION\n"
        "digest = hashlib.sha256()\n"
        "for side, n in ((4, 50), (32, 50), (128, 4), (256, 2)):\n"
        "    digest.update(DeadLeaves(side, n, 7).batch(range(n)).tobytes())\n"
        "print(VERSION, digest.hexdigest()[:16])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["1", "c9622ef90a8bfff4"]


def test_spectrum_falls_as_in_photographs():
    # Power falls as 1 / frequency^a with a near 2; white noise has 0, a blur or a few discs 3 and more.
    images = sources.synthetic(128, 24, 5).batch(range(24)).mean(1)
    images = images - images.mean((1, 2), keepdims=True)
    window = np.hanning(128)[:, None] * np.hanning(128)
    power = (abs(np.fft.fft2(images * window)) ** 2).mean(0)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    octaves = [(2.0**-k, 2.0 ** -(k - 1)) for k in (6, 5, 4, 3)]
    levels = [np.log2(power[(radius >= low) & (radius < high)].mean()) for low, high in octaves]
    slope = -np.polyfit(range(4), levels, 1)[0]
    assert 1.5 < slope < 3


def test_images_differ_in_color_contrast_and_detail():
    # Metrics of diversity need something to measure: catches one palette or density for all.
    images = sources.synthetic(64, 60, 2).batch(range(60)).astype(float)
    assert images.mean((2, 3)).std(0).min() > 20  # brightness of each channel, from image to image
    assert images.std((2, 3)).mean(1).std() > 8  # contrast
    detail = abs(np.diff(images, axis=3)).mean((1, 2, 3)) / images.std((1, 2, 3))
    assert detail.std() / detail.mean() > 0.2
    # Neither washed out nor cut off.
    assert 90 < images.mean() < 165
    assert ((images == 0) | (images == 255)).mean() < 0.15


def test_the_rim_is_as_full_as_the_middle():
    # Catches centers drawn within the frame, or shapes dropped that reach into it.
    images = sources.synthetic(32, 300, 4).batch(range(300)).astype(float)
    for axis in (2, 3):
        detail = abs(np.diff(images, axis=axis)).mean(tuple({0, 1, 2, 3} - {5 - axis}))
        assert 0.9 < detail[[0, -1]].mean() / detail[8:-8].mean() < 1.1


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ((33,), "not 33"),
        ((2,), "not 2"),
        ((2048,), "1024, not 2048"),
        ((32, 0), "n=0"),
        ((32, 1, -1), "seed=-1"),
    ],
)
def test_what_it_cannot_do_is_refused(arguments, fact):
    with pytest.raises(SourceError, match=fact):
        sources.synthetic(*arguments)


def test_strips_leave_no_seams():
    # Large images are drawn in strips of rows: a sample lost between two would repeat or shift a row.
    image = sources.synthetic(256, 1, 9).batch([0])[0].astype(float)
    steps = abs(np.diff(image, axis=1)).mean((0, 2))
    assert steps.max() < 4 * np.median(steps)
    assert steps.min() > 0
