"""Plots: every metric has one, they hold the store's numbers, and equal scores give equal files."""

import json
import re
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from pgmetrics.errors import OptionError, PgmetricsError, printable
from pgmetrics.report import plots, svg
from pgmetrics.report.plots import Look
from pgmetrics.report.run_curves import read_growth
from tests.report.conftest import drawn


def lines_of(figure):
    """The data of every line with more than two points or a marker."""
    return [line.get_xydata() for line in figure.axes[0].lines]


def test_every_metric_is_plotted_under_every_protocol(growth):
    assert [plot.name for plot in plots.plots(growth)] == [
        "swd-at-final", "swd-levels-at-final", "ms-ssim-at-final", "fid-at-final", "is-at-final",
        "kid-at-final", "swd-at-stage", "swd-levels-at-stage", "ms-ssim-at-stage",
    ]  # fmt: skip


def test_a_line_holds_the_printed_values(growth):
    # The mistake: raw SWD under a title that says x10^3.
    plot = drawn(growth, "swd-at-final")
    (curve,) = plot.curves
    expected = [[p.snapshot.images_shown, 1e3 * p.value] for p in curve.points]
    assert any(np.allclose(line, expected) for line in lines_of(plot.draw(Look())) if len(line) == 8)


def test_an_interval_is_drawn_for_every_point(growth):
    plot = drawn(growth, "ms-ssim-at-final")
    bars = [line for line in lines_of(plot.draw(Look())) if len(line) == 2 and line[0, 0] == line[1, 0]]
    for point in plot.curves[0].points:
        ends = [[point.snapshot.images_shown, point.low], [point.snapshot.images_shown, point.high]]
        assert any(np.allclose(bar, ends) for bar in bars)


def test_scores_at_unlike_resolutions_are_not_joined(growth):
    # A line from 16 to 32 pixels would show a change that is one of resolution.
    lines = [line for line in lines_of(drawn(growth, "swd-at-stage").draw(Look())) if len(line) > 2]
    assert [line[:, 0].tolist() for line in lines] == [[38016, 44032, 55040]]


def test_the_floor_is_a_band_with_its_interval(growth):
    plot = drawn(growth, "fid-at-final")
    real = plot.curves[0].reals[32]
    low, high = (
        [part.get_paths()[0].get_extents().y0, part.get_paths()[0].get_extents().y1]
        for part in plot.draw(Look()).axes[0].collections[:1]
    ).__next__()
    assert (low, high) == pytest.approx((real.low, real.high))


def test_fades_are_shaded_over_their_own_images(growth):
    patches = drawn(growth, "is-at-final").draw(Look(fade="#123456")).axes[0].patches
    shaded = [p.get_extents().transformed(p.axes.transData.inverted()) for p in patches]
    spans = {(round(box.x0), round(box.x1)) for box, p in zip(shaded, patches, strict=True) if p.get_fc()[:3]
             == pytest.approx((0x12 / 255, 0x34 / 255, 0x56 / 255))}  # fmt: skip
    assert spans == {(11008, 22016), (33024, 44032), (55040, 66048)}


def test_an_axis_of_values_below_zero_is_linear(growth):
    assert not drawn(growth, "kid-at-final").logarithmic
    assert drawn(growth, "fid-at-final").logarithmic
    assert not drawn(growth, "is-at-final").logarithmic


def test_labels_beside_the_axes_do_not_overlap(growth):
    # KID ends at 9.4 beside a floor of -0.4, on an axis up to 150 that is not high.
    figure = drawn(growth, "kid-at-final").draw(Look(height=170))
    figure.canvas.draw()
    texts = [t for t in figure.axes[0].texts if t.get_position()[0] > 1 and t.get_ha() == "left"]
    boxes = sorted((t.get_window_extent() for t in texts), key=lambda box: box.y0)
    assert len(boxes) == 2
    assert boxes[0].y1 <= boxes[1].y0 + 1
    assert max(box.x1 for box in boxes) <= figure.bbox.width


def test_stages_are_named_alike_and_not_over_each_other(growth):
    # "16x16" beside "4", and on a phone names written across their neighbors'.
    for width, names in ((500, ["4×4", "8×8", "16×16", "32×32"]), (200, ["8", "16", "32"])):
        figure = drawn(growth, "is-at-final").draw(Look(width=width))
        figure.canvas.draw()
        texts = [t for t in figure.axes[0].texts if t.get_ha() == "center"]
        assert [t.get_text() for t in texts] == names
        boxes = [t.get_window_extent() for t in texts]
        assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_words_say_what_the_plot_shows(growth):
    text = drawn(growth, "fid-at-final").description
    assert "446.90 ± 0.98 after 11,008 images, 144.20 ± 0.38 after 77,056" in text
    assert "floor (real against real) 29.48" in text
    assert "standard deviation over splits" in drawn(growth, "is-at-final").key


@pytest.mark.slow
@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
def test_equal_scores_give_equal_files(growth, format):
    # Matplotlib writes dates and random ids unless told not to.
    for name in ("ms-ssim-at-final", "swd-levels-at-stage"):
        one, two = (plots.render(drawn(growth, name).draw(Look()), format) for _ in range(2))
        assert one == two


@pytest.fixture(scope="module")
def saved(growth, tmp_path_factory):
    """Every plot as a picture."""
    return plots.save_plots(growth, tmp_path_factory.mktemp("plots") / "new", "png")


@pytest.mark.slow
def test_every_plot_has_a_file_of_its_name(growth, saved):
    assert [path.name for path in saved] == [f"{plot.name}.png" for plot in plots.plots(growth)]


def test_a_picture_for_slides_is_opaque(saved):
    with Image.open(saved[0]) as picture:
        assert picture.size == (460 * 220 // 72, 300 * 220 // 72)
        assert picture.convert("RGBA").getextrema()[3] == (255, 255)


def test_another_format_is_refused(growth, tmp_path):
    with pytest.raises(OptionError, match="png, svg, pdf, not 'gif'"):
        plots.save_plots(growth, tmp_path, "gif")


def test_without_matplotlib_it_says_how_to_get_it(growth, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PgmetricsError, match="pip install matplotlib"):
        plots.save_plots(growth, tmp_path)


def hostile_growth(network_run, folder, text):
    """The run with its labels, protocols and MS-SSIM's name made hostile."""
    folder.mkdir()
    with open(folder / "scores.jsonl", "w") as file:
        for line in (network_run / "scores.jsonl").read_text().splitlines():
            entry = json.loads(line)
            for row in entry.get("results", ()):
                row |= {"run": row["run"] + text, "protocol": text + row["protocol"]}
                row["metric"] = row["metric"].replace("ms-ssim", f"ms{text}")
            if "label" in entry["item"]:
                entry["item"]["label"] += text
            file.write(json.dumps(entry) + "\n")
    return read_growth(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["/../../evil", r"$\frac{$", "$x$", "<b>&\"'", "\udcff", "\ufffe", "..", "x" * 400]
)
def test_a_hostile_store_is_drawn_as_text_within_the_folder(network_run, tmp_path, text):
    # Files were written beside the folder; mathtext, FreeType and the parser of SVG failed on the rest.
    found = hostile_growth(network_run, tmp_path / "run", text)
    before = set(tmp_path.rglob("*"))
    written = plots.save_plots(found, tmp_path / "deep" / "out", "svg")
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "deep", tmp_path / "deep" / "out", *written}
    assert {path.parent for path in written} == {tmp_path / "deep" / "out"}
    assert len(set(written)) == 9
    for path in written:
        ET.parse(path)
        assert re.fullmatch(r"[\w.-]+", path.name, re.ASCII)
    plot = next(plot for plot in plots.plots(found) if plot.metric == f"ms{text}")
    for format in ("png", "pdf"):
        plots.render(plot.draw(Look()), format)
    svg.inline(plot, "p", 400, 300, "wide")
    assert plot.draw(Look()).axes[0].get_title("left") == printable(f"MS{text.upper()}")


def test_no_setting_of_the_user_hands_a_store_to_latex(network_run, tmp_path):
    from matplotlib import rc_context

    found = hostile_growth(network_run, tmp_path / "run", r"\input{x}")
    with rc_context({"text.usetex": True}):
        figure = plots.plots(found)[0].draw(Look())
    words = [text for text in figure.findobj(Text) if text.get_text()]
    assert words
    assert not any(text.get_usetex() or text.get_parse_math() for text in words)
