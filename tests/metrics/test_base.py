"""What every metric and state has, and what is checked of states that were stored."""

from dataclasses import replace

import numpy as np
import pytest

from pgmetrics.errors import OptionError, StateError
from pgmetrics.metrics import base
from pgmetrics.metrics.base import StateKey, all_within, check_comparable, stored_array, stored_blocks
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.ms_ssim import MultiScaleSSIM
from pgmetrics.metrics.swd import SlicedWasserstein
from pgmetrics.runtime.blocks import IndexSet

KEY = StateKey("rows", {"groups": 5}, "real", 0, 32, 32, "files:1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "moments"}, "rows.*moments"),
        ({"parameters": {"groups": 10}}, "5.*10"),
        ({"seed": 1}, "seed.*0.*1"),
        ({"height": 64}, "height.*32.*64"),
        ({"network": "toy"}, "toy"),
    ],
)
def test_states_are_compared_if_they_differ_in_side_and_source_alone(change, said):
    fake = replace(KEY, side="fake", source="files:2")
    check_comparable(KEY, fake)
    with pytest.raises(StateError, match=said):
        check_comparable(KEY, replace(fake, **change))


def test_a_stored_array_has_its_dtype_shape_and_finite_values():
    arrays = {"rows": np.zeros((3, 4), np.float32), "nan": np.array([1.0, np.nan])}
    assert stored_array(arrays, "rows", np.float32, (None, 4)) is arrays["rows"]
    with pytest.raises(StateError, match="the array 'means' is missing"):
        stored_array(arrays, "means", np.float32, (4,))
    for dtype, shape, said in (
        (np.float64, (None, 4), r"is float32 \[3, 4\], not float64 \[any, 4\]"),
        (np.float32, (None, 5), r"not float32 \[any, 5\]"),
        (np.float32, (None,), r"not float32 \[any\]"),
    ):
        with pytest.raises(StateError, match=said):
            stored_array(arrays, "rows", dtype, shape)
    with pytest.raises(StateError, match="'nan' has values that are not finite"):
        stored_array(arrays, "nan", np.float64, (None,))


def test_values_are_checked_in_every_piece(monkeypatch):
    # Catches a check of the first piece alone, and NaN, of which every comparison is false.
    monkeypatch.setattr(base, "_PIECE", 4)
    values = np.zeros((3, 3))
    assert all_within(values, 0)
    assert all_within(values[:0], 0)
    for wrong in (1.5, -1.5, np.nan):
        values[2, 2] = wrong
        assert not all_within(values, 1)
    assert not all_within(np.full(3, np.inf), float(np.finfo(np.float64).max))


def test_blocks_make_up_the_images_seen():
    seen = IndexSet([(0, 24), (40, 48)])

    def blocks(*starts):
        return stored_blocks({"starts": np.array(starts, np.int64)}, seen)

    assert blocks(0, 8, 40) == [(0, 8), (8, 24), (40, 48)]
    assert blocks(0, 40, 44) == [(0, 24), (40, 44), (44, 48)]
    for wrong in ((0,), (8, 40), (0, 30, 40), (0, 40, 48), (0, 8, 8, 40), (8, 0, 40), ()):
        with pytest.raises(StateError, match="does not cut the 32 images seen into blocks"):
            blocks(*wrong)


def test_errors_over_both_are_over_images_where_no_directions_are_drawn():
    assert SlicedWasserstein().with_error("both").error == "both"
    assert KernelInceptionDistance().with_error("both") == KernelInceptionDistance().with_error("images")
    plain = MultiScaleSSIM()
    assert plain.with_error("directions") is plain


def test_a_metric_of_pixels_has_no_network_and_gives_all_of_its_numbers():
    metric = MultiScaleSSIM()
    assert metric.tap is None
    assert metric.with_network("custom") is metric
    assert metric.keeping_rows() is metric
    with pytest.raises(OptionError, match="mean comes with ms-ssim: ask for ms-ssim"):
        metric.giving(["mean"])


def test_how_many_images_are_taken_and_what_errors_are_over_do_not_change_what_is_stored():
    def key(metric):
        return metric.new_state("fake", resolution=(32, 32)).key

    usual = SlicedWasserstein(patches_per_image=8)
    assert key(usual) == key(replace(usual, num_images=20)) == key(replace(usual, error="images"))
    assert key(usual) != key(replace(usual, patches_per_image=9))
