"""Results as tables for people: text, Markdown, LaTeX, and the layout of the paper's Table 1."""

import re

import pytest

from pgmetrics.results import Results
from tests.helpers.result_rows import cells, row, scored


def test_the_table_prints_swd_in_thousandths_and_says_so():
    lines = Results(scored()).to_table().splitlines()
    assert cells(lines[0]) == ["SWD ×10³", "MS-SSIM"]
    assert cells(lines[1]) == ["32", "16", "Avg"]
    assert cells(lines[2]) == ["fake", "4.00 ± 0.10", "2.00 ± 0.10", "3.00 ± 0.10", "0.2500"]


def test_columns_stand_under_their_headings():
    # The mistake: a long cell pushing the rest of its line to the right.
    results = Results((*scored(), *scored(20000.0, subject="real")))
    lines = results.to_table().splitlines()
    ends = [lines[1].index(level) + len(level) for level in ("32", "16", "Avg")]
    for line in lines[2:4]:
        assert all(line[end - 1].isdigit() and line[end : end + 1] in ("", " ") for end in ends)


def test_the_floor_comes_first_and_the_stages_as_they_were_given():
    # Sorted by name 16x16 would come before 4x4.
    stages = [Results(scored()).with_run(name) for name in ("untrained", "4x4", "8x8", "16x16")]
    floor = Results(scored(subject="real")).with_run("reals")
    lines = Results.concat([*stages, floor]).to_table().splitlines()[2:7]
    assert [cells(line)[0] for line in lines] == ["real (floor)", "untrained", "4x4", "8x8", "16x16"]


def test_a_level_that_one_line_lacks_stays_empty_there():
    # The mistake: values sliding into the column of another level.
    full = Results(scored()).with_run("64x64")
    half = Results((row(level=16, value=0.007),)).with_run("16x16")
    line = Results.concat([full, half]).to_table().splitlines()[3]
    assert cells(line) == ["16x16", "-", "7.00 ± 0.10", "-", "-"]


def test_unlike_protocols_never_share_a_column():
    results = Results((row(level=32, protocol="at-stage"), row(level=32, protocol="at-final", value=0.009)))
    lines = results.to_table().splitlines()
    assert cells(lines[0]) == ["SWD ×10³ (at-stage)", "SWD ×10³ (at-final)"]
    assert cells(lines[2]) == ["fake", "5.00 ± 0.10", "9.00 ± 0.10"]


def test_seeds_are_told_apart():
    lines = Results((row(seed=0), row(seed=1, value=0.009))).to_table().splitlines()
    assert [cells(line) for line in lines[1:3]] == [
        ["fake, seed 0", "5.00 ± 0.10"],
        ["fake, seed 1", "9.00 ± 0.10"],
    ]


def test_a_score_of_the_reals_alone_is_no_floor():
    table = Results((row("ms-ssim", subject="real"),)).to_table()
    assert "real " in table
    assert "floor" not in table


def test_the_caption_says_over_what_and_how_many():
    # A ± that does not say what varied is worth nothing.
    table = Results((row(level=16), row("ms-ssim", value=0.2))).to_table()
    assert "SWD ×10³: 2,048 images, ± standard error over directions" in table
    assert "MS-SSIM: 2,048 images, ± standard error over pairs" in table
    assert "±" not in Results((row(stderr=None, stderr_kind=None),)).to_table()


def test_a_metric_without_a_style_of_its_own_is_printed_raw():
    lines = Results((row("mystery", value=0.00123456, stderr=None),)).to_table().splitlines()
    assert cells(lines[0]) == ["MYSTERY"]
    assert cells(lines[1]) == ["fake", "0.001235"]


def test_markdown_is_one_table_whatever_the_label():
    # A bar in a run's name would open a column of its own.
    text = Results.concat([Results(scored()).with_run(name) for name in ("a|b", "c")]).to_markdown()
    table = text.split("\n\n")[0].splitlines()
    assert table[0] == "|  | SWD ×10³ 32 | SWD ×10³ 16 | SWD ×10³ Avg | MS-SSIM |"
    assert table[2].startswith("| a\\|b | 4.00 ± 0.10 | 2.00 ± 0.10 |")
    assert table[3].startswith("| c | ")
    assert len(table) == 4


def latex_rows(text):
    """The cells of every line of a tabular, a multicolumn counted as often as it is wide."""
    lines = [line.removesuffix("\\\\") for line in text.splitlines() if line.endswith("\\\\")]
    widths = r"\\multicolumn\{(\d+)\}"
    return [
        sum(int(m[1]) if (m := re.search(widths, cell)) else 1 for cell in re.split(r"(?<!\\)&", line))
        for line in lines
    ]


def test_a_latex_table_has_as_many_cells_in_every_line_as_it_declares():
    # A bare & or a heading over one column too few: "Extra alignment tab" when the paper is set.
    results = Results.concat([Results(scored()).with_run(name) for name in ("a&b_1", "50 %")])
    text = results.to_latex()
    assert r"\begin{tabular}{lrrrr}" in text
    assert set(latex_rows(text)) == {5}
    assert len(latex_rows(text)) == 4
    assert r"a\&b\_1 & 4.00 $\pm$ 0.10" in text
    assert r"50 \%" in text


def test_a_latex_table_names_units_and_levels():
    text = Results((*scored(), row("fid-infinity", value=-0.5), row("ct", value=1.0))).to_latex()
    assert r"\multicolumn{3}{c}{SWD $\times 10^3$} & MS-SSIM & FID$_\infty$ & $C_T$" in text
    assert r"\cmidrule(lr){2-4}" in text
    assert " & 32 & 16 & Avg &  &  & " in text
    assert "$-$0.50" in text
    assert text[text.index(r"\begin") :].isascii()
    assert "% SWD ×10³: 2,048 images, ± standard error over directions" in text


def test_the_papers_table_has_levels_from_fine_to_coarse_their_mean_and_ms_ssim():
    # Karras et al. 2018, Table 1: "SWD x10^3: 128 64 32 16 Avg | MS-SSIM".
    swd = [row(level=level, value=level * 1e-5) for level in (16, 32, 64, 128)]
    one = Results((*swd, row(value=0.6e-3), row("ms-ssim", value=0.28)))
    floor = Results((row(value=0.1e-3, subject="real"),)).with_run("reals")
    frame = Results.concat([one.with_run("(a)"), one.with_run("(b)"), floor]).paper_table()
    levels = [("SWD ×10³", name) for name in ("128", "64", "32", "16", "Avg")]
    assert frame.columns.tolist() == [*levels, ("MS-SSIM", "")]
    assert frame.index.tolist() == ["real (floor)", "(a)", "(b)"]
    assert frame.loc["(a)"].tolist() == pytest.approx([1.28, 0.64, 0.32, 0.16, 0.6, 0.28])
    assert frame.loc["real (floor)"].isna().tolist() == [True, True, True, True, False, True]
    assert Results(()).paper_table().empty
