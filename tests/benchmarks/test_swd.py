"""The benchmark of SWD: both contestants score the same images, and memory bounds change no digit."""

import re

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.swd import as_decoded, main, ours, plain, procedural


def test_images_are_the_same_in_either_order_of_memory():
    images = procedural(16, 4, 0)
    assert (as_decoded(images) == images).all()
    assert as_decoded(images).strides[1] == 1
    other = procedural(16, 4, 1)
    assert ours(as_decoded(images), as_decoded(other), "cpu") == ours(images, other, "cpu")


@pytest.mark.slow
def test_ours_and_the_plain_recipe_see_the_same_distance():
    # With draws of their own; wrong statistics or a wrong normalization would differ by far more.
    real, fake = (procedural(16, 64, seed) for seed in (0, 1))
    assert np.allclose(ours(real, 255 - fake, "cpu"), plain(real, 255 - fake), rtol=0.1)


def test_speed_has_a_row_for_each():
    done = CliRunner().invoke(main, ["speed", "--side", "16", "--num-images", "8", "--turns", "1"])
    assert done.exit_code == 0, done.output
    assert re.findall(r"^\| (\w[\w ]*) \|", done.stdout, re.M) == ["pgmetrics", "plain recipe"]


def test_the_bound_of_memory_changes_no_digit():
    bounds = ["--max-memory", str(2**28), "--max-memory", str(2**31)]
    small = ["--side", "16", "--num-images", "8", "--workers", "0"]
    done = CliRunner().invoke(main, ["memory", *small, *bounds])
    assert done.exit_code == 0, done.output
    rows = re.findall(r"^\| ([\d,]+ MiB) \|.*\| (\S+) \|$", done.stdout, re.M)
    assert [bound for bound, _ in rows] == ["256 MiB", "2,048 MiB"]
    assert rows[0][1] == rows[1][1]
