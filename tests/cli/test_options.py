"""Options that commands share."""

import click
import pytest

from pgmetrics.cli.options import custom_network_for, names, parse_bytes


@pytest.mark.parametrize(
    ("text", "value"),
    [("512MB", 512 * 10**6), ("2GiB", 2**31), ("1.5g", 1_500_000_000), ("0", 0), ("77", 77)],
)
def test_amounts_of_memory(text, value):
    assert parse_bytes(None, None, text) == value


@pytest.mark.parametrize("text", ["lots", "-1", "1e3", "2TB", "1e18GiB", "9" * 30])
def test_what_is_no_amount_of_memory_is_refused(text):
    # Without a bound, 9 × 10²⁹ bytes would be passed on to numpy.
    with pytest.raises(click.BadParameter):
        parse_bytes(None, None, text)


def test_names_stand_between_commas():
    assert names(" swd, ms-ssim,,") == ["swd", "ms-ssim"]


def test_options_of_a_network_are_taken_out_and_go_together():
    options = {"features": None, "features_resize": None, "features_range": None, "preset": None, "seed": 3}
    assert custom_network_for(["fd"], options) == (["fd"], {"preset": None, "seed": 3})
    assert "features" in options
    with pytest.raises(click.UsageError, match="go with --features"):
        custom_network_for(["fd"], {**options, "features_resize": "none"})
    with pytest.raises(click.UsageError, match="clean-fid has a network of its own"):
        custom_network_for(["fd"], {**options, "features": "x.pt", "preset": "clean-fid"})
    with pytest.raises(click.UsageError, match="no metric reads features"):
        custom_network_for(["swd"], {**options, "features": "x.pt"})
