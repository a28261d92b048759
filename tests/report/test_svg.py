"""Plots as they stand in a page: colors from its style sheet, text in its font."""

import re
import xml.etree.ElementTree as ET

import pytest

from pgmetrics.report import plots, svg
from tests.report.conftest import drawn


@pytest.fixture(scope="module")
def inlined(growth):
    """Every plot as it stands in a page."""
    return [
        svg.inline(plot, f"p{number}", 500, 300, "wide") for number, plot in enumerate(plots.plots(growth))
    ]


def test_an_inline_plot_has_no_color_style_or_font_of_its_own(inlined):
    # A style attribute is refused by the page's policy; a color of its own is unreadable in the dark.
    for text in inlined:
        assert not re.search(r"style=|#[0-9a-f]{6}\b|rgb\(|font-family|xmlns|<style|http", text)


def test_ids_on_a_page_are_unique_and_found(inlined):
    # Two plots with the same clip path's id: the second is cut by the frame of the first.
    text = "".join(inlined)
    ids = re.findall(r'\bid="([^"]+)"', text)
    used = re.findall(r'(?:href="#|url\(#|aria-labelledby=")([^")]+)', text)
    assert len(ids) == len(set(ids))
    assert used
    assert set(used) <= set(ids)


def test_every_color_of_an_inline_plot_is_in_the_style_sheet(inlined):
    from importlib import resources

    sheet = resources.files("pgmetrics.report").joinpath("page.css").read_text("utf-8")
    text = "".join(inlined)
    used = {name for names in re.findall(r'class="([^"]+)"', text) for name in names.split()} - {"plot"}
    assert "f-curve" in used
    assert all(f".{name} {{" in sheet for name in used)


def test_an_inline_plot_tells_each_point(growth):
    root = ET.fromstring(svg.inline(drawn(growth, "fid-at-final"), "p", 500, 300, "wide"))
    titles = [title.text for title in root.iter("title")]
    assert "0000077056-32x32: 144.20 ± 0.38" in titles
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == root.find("title").get("id")
