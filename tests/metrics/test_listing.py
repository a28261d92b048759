"""The list of the numbers, from their declarations."""

import pytest

from pgmetrics.errors import OptionError
from pgmetrics.metrics.listing import facts, to_markdown, to_text
from pgmetrics.metrics.registry import outputs
from tests.helpers.metric_list import printed


def test_text_has_a_paragraph_for_each_number_and_a_line_for_each_column():
    lines = printed("--columns", "name,errors").splitlines()
    assert lines[:2] == ["swd", "  ± over: directions, images, images and directions"]
    place = lines.index("ct")
    assert lines[place + 1] == "  ± over: generators that copy nothing (sd)"
    names = [line for line in printed().splitlines() if not line.startswith(" ")]
    assert names == [number.name for number in outputs()]


def test_needs_are_told_in_words():
    needs = {one["name"]: one["needs"] for one in facts()}
    assert needs["swd"] == "equally many reals, at least 2 images of each side, sides of at least 16 pixels"
    assert needs["ms-ssim"].startswith("at least 4 images")
    assert needs["fid"].startswith("weights of inception, reals, ")
    assert needs["fd"].startswith("a custom network, reals, ")


def test_a_markdown_table_has_a_line_for_each_number_and_a_cell_for_each_column():
    # A bar in a cell would open a column of its own.
    lines = to_markdown(["name", "better"]).splitlines()
    assert lines[:3] == ["| name | better |", "| :-- | :-- |", "| swd | lower is better |"]
    assert len(lines) == 2 + len(list(outputs()))
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines)


@pytest.mark.parametrize("listed", [to_text, to_markdown])
def test_columns_that_there_are_not_are_refused(listed):
    with pytest.raises(OptionError, match="there is no column 'price'; there are name, title"):
        listed(["name", "price"])
    with pytest.raises(OptionError, match="no column was asked for"):
        listed([])
