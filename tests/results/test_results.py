"""Results: exact in data, readable for people, and never half a file."""

import builtins
import errno
import json
import math
import os
import re
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmetrics.errors import OptionError, PgmetricsError, StateError
from pgmetrics.results import COLUMNS, Results, check_destination, read_results, run_id, run_scores


def row(metric="swd", level=None, value=0.005, **others):
    one_set = metric == "ms-ssim"
    defaults = {
        "run": "run-a",
        "subject": "fake",
        "metric": metric,
        "level": level,
        "value": value,
        "stderr": 0.0001,
        "stderr_kind": "pairs" if one_set else "directions",
        "n_real": None if one_set else 2048,
        "n_fake": 2048,
        "seed": 0,
        "protocol": "karras2018",
    }
    return {**defaults, **others}


def scored(scale=1.0, **others):
    """Two levels, their mean and MS-SSIM, as an evaluation gives them."""
    return (
        row(level=32, value=0.004 * scale, **others),
        row(level=16, value=0.002 * scale, **others),
        row(value=0.003 * scale, **others),
        row("ms-ssim", value=0.25, stderr=None, stderr_kind=None, **others),
    )


def cells(line):
    """The columns of a printed line: they stand at least two spaces apart."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


# The data.


def test_rows_have_the_decided_columns_in_the_decided_order():
    # A column forgotten or moved breaks every reader of the CSV.
    written = Results((dict(reversed(row().items())),)).to_csv()
    assert written.splitlines()[0] == (
        "run,subject,metric,level,value,stderr,stderr_kind,n_real,n_fake,seed,protocol"
    )
    assert tuple(json.loads(Results((row(),)).to_json())["results"][0]) == COLUMNS


def test_pandas_keeps_missing_apart_from_zero():
    # The mistake: a mean over levels at level 0 or NaN-turned-float levels such as 16.0, stderr 0.
    frame = Results(scored()).to_pandas()
    assert list(frame.columns) == list(COLUMNS)
    assert str(frame["level"].dtype) == str(frame["n_real"].dtype) == str(frame["n_fake"].dtype) == "Int64"
    assert frame["level"].tolist() == [32, 16, pd.NA, pd.NA]
    assert frame["stderr"].dtype == np.float64
    assert math.isnan(frame["stderr"].iloc[3])
    assert frame["n_real"].tolist() == [2048, 2048, 2048, pd.NA]


def test_no_rows_still_have_columns():
    assert list(Results(()).to_pandas().columns) == list(COLUMNS)
    assert Results.from_csv(Results(()).to_csv()).rows == ()


def test_values_in_data_are_raw():
    # The mistake: the x10^3 of the printed table leaking into files.
    results = Results((row(value=0.005),))
    assert results.to_pandas()["value"].tolist() == [0.005]
    assert json.loads(results.to_json())["results"][0]["value"] == 0.005
    assert ",0.005," in results.to_csv()


possible = st.floats(-1e70, 1e70)
labels = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@given(
    value=possible, stderr=st.none() | possible.map(abs), run=labels, level=st.none() | st.integers(1, 4096)
)
def test_csv_and_json_read_back_exactly(value, stderr, run, level):
    # Rounding on the way out, a comma or quotes in a label, None read back as 0 or "".
    results = Results((row("kid", level, value, stderr=stderr, run=run),), {"device": "cpu"})
    assert Results.from_json(results.to_json()) == results
    assert Results.from_csv(results.to_csv()).rows == results.rows


def test_numbers_of_numpy_are_written_as_numbers():
    # repr(np.float64(0.1)) is "np.float64(0.1)", and json refuses np.float32 and np.int64.
    results = Results((row(value=np.float64(0.1), stderr=np.float32(0.5), level=np.int64(16)),))
    assert ",16,0.1,0.5," in results.to_csv()
    assert json.loads(results.to_json())["results"][0]["level"] == 16


def test_equal_work_gives_equal_bytes():
    # A time, a set's order or a provenance in the rows would differ from run to run.
    one = Results(scored(), {"time": "2018-02-26T09:00"})
    two = Results(scored(), {"time": "2018-02-26T10:00"})
    assert one.to_csv() == two.to_csv()
    assert one.to_json() != two.to_json()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"value": float("nan")}, "value for swd at level 16 of fake is nan"),
        ({"value": None}, "needs a value"),
        ({"stderr": float("inf")}, "stderr for swd at level 16 of fake is inf"),
        ({"value": "high"}, "no number: 'high'"),
        ({"run": "two\rlines"}, "text of one line"),
        ({"duration": 3.0}, r"unknown: \['duration'\]"),
    ],
)
def test_a_row_that_says_nothing_is_refused(wrong, message):
    with pytest.raises(StateError, match=message):
        Results((row(level=16, **wrong),))


def test_a_missing_column_is_refused():
    incomplete = row()
    del incomplete["stderr_kind"]
    with pytest.raises(StateError, match="missing here: \\['stderr_kind'\\]"):
        Results((incomplete,))


def test_a_caller_cannot_change_a_result_through_its_own_row():
    mine = row(value=0.005)
    results = Results((mine,))
    mine["value"] = 0.0
    assert results.rows[0]["value"] == 0.005


# Several runs together.


def test_concat_keeps_order_and_each_runs_provenance():
    early = Results(scored(), {"device": "cpu"}).with_run("8x8")
    late = Results(scored(), {"device": "cuda:0"}).with_run("16x16")
    later = Results(scored(), {"device": "mps"}).with_run("32x32")
    together = Results.concat([Results.concat([early, late]), later])
    assert [r["run"] for r in together.rows[::4]] == ["8x8", "16x16", "32x32"]
    assert together.provenance == {
        "runs": {"8x8": {"device": "cpu"}, "16x16": {"device": "cuda:0"}, "32x32": {"device": "mps"}}
    }
    assert Results.from_json(together.to_json()) == together


def test_two_answers_to_one_question_are_refused():
    # The mistake: one stage's rows silently printed over another's.
    results = Results(scored())
    with pytest.raises(StateError, match="two results for swd at level 32 of fake in run 'run-a'"):
        Results.concat([results, results])


def test_run_id_depends_on_content_alone():
    assert run_id({"seed": 0, "metrics": ["swd"]}) == run_id({"metrics": ["swd"], "seed": 0})
    assert run_id({"seed": 0}) != run_id({"seed": 1})


def test_a_run_id_is_never_read_as_a_number(tmp_path):
    # A bare digest such as 1234e5678901 comes back from pandas.read_csv as infinity.
    ids = [run_id({"seed": seed}) for seed in range(5000)]
    assert len(set(ids)) == 5000
    for name in ids:
        with pytest.raises(ValueError, match="could not convert"):
            float(name)


# Tables for people.


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


def test_printing_a_result_shows_its_table():
    results = Results(scored())
    assert str(results) == results.to_table()


# LaTeX and the paper's own layout.


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


# The store of a run.


def stored(path, settings="one", values=(0.4, 0.2), torn=b""):
    """A store of a floor and two checkpoints, with the rows that `scored` gives."""
    items = [{"kind": "floor", "label": "reals-32x32", "resolution": 32, "final_resolution": 32}]
    items += [
        {
            "kind": "checkpoint", "label": label, "file": f"checkpoints/{label}", "digest": "0" * 64,
            "images_shown": shown, "resolution": resolution, "alpha": alpha, "final_resolution": 32,
        }
        for label, shown, resolution, alpha in (("early", 1000, 16, 0.5), ("late", 2000, 32, 1.0))
    ]  # fmt: skip
    with run_scores.Journal(path) as store:
        store.append(run_scores.Entry(settings, {"kind": "settings"}, settings={"seed": 0}))
        for item, scale in zip(items, (0.1, *values), strict=True):
            rows = scored(scale, run=item["label"], subject="real" if item["kind"] == "floor" else "fake")
            store.append(run_scores.Entry(settings, item, rows, {"device": "cpu"}))
    with open(run_scores.store_path(path), "ab") as file:
        file.write(torn)
    return path


def test_a_store_reads_as_one_table_with_what_each_run_was(tmp_path):
    found = read_results(stored(tmp_path))
    assert [r["run"] for r in found.rows[::4]] == ["reals-32x32", "early", "late"]
    assert found.rows == read_results(tmp_path / "scores.jsonl").rows
    assert found.provenance["settings"] == {"seed": 0}
    assert found.provenance["runs"]["late"]["device"] == "cpu"
    assert found.item("late")["images_shown"] == 2000
    assert found.item("nobody") is None


def test_a_torn_last_line_is_passed_over(tmp_path):
    assert len(read_results(stored(tmp_path, torn=b'{"format": 1, "ser')).rows) == 12


def test_of_several_series_the_last_one_counts_unless_one_is_named(tmp_path):
    # The mistake: rows of two settings in one table.
    stored(tmp_path, "old")
    stored(tmp_path, "new", values=(0.9, 0.8))
    assert read_results(tmp_path).rows[4]["value"] == pytest.approx(0.9 * 0.004)
    assert read_results(tmp_path, series="old").rows[4]["value"] == pytest.approx(0.4 * 0.004)
    with pytest.raises(StateError, match=r"no series gone .* there are old, new"):
        read_results(tmp_path, series="gone")
    Results(scored()).save(tmp_path / "a.json")
    with pytest.raises(OptionError, match=r"a\.json: a series is part of a store"):
        read_results(tmp_path / "a.json", series="old")


def test_a_run_that_was_not_scored_says_what_to_do(tmp_path):
    with pytest.raises(PgmetricsError, match=r"no scores\.jsonl in it; pgmetrics growth"):
        read_results(tmp_path)


def test_pandas_joins_the_stages(tmp_path):
    # The mistake: the floor, which no checkpoint scored, at 0 images.
    frame = read_results(stored(tmp_path)).to_pandas(stages=True)
    assert list(frame.columns) == [*COLUMNS, "images_shown", "resolution", "alpha"]
    assert str(frame["images_shown"].dtype) == str(frame["resolution"].dtype) == "Int64"
    assert frame["images_shown"].tolist() == [pd.NA] * 4 + [1000] * 4 + [2000] * 4
    assert frame["alpha"].iloc[4] == 0.5
    assert frame["resolution"].iloc[0] == 32
    plain = Results(scored()).to_pandas(stages=True)
    assert plain["images_shown"].isna().all()


def test_runs_put_together_keep_their_stages(tmp_path):
    # concat once knew `{"runs": ...}` alone and gave every run of a store the whole provenance.
    store = read_results(stored(tmp_path))
    together = Results.concat([Results(scored(), {"device": "cuda"}).with_run("other"), store])
    assert together.item("late") == store.item("late")
    assert together.provenance["runs"]["late"]["settings"] == {"seed": 0}


# Files.


@pytest.mark.parametrize("name", ["scores.json", "scores.csv", "SCORES.JSON", "scores.parquet"])
def test_a_saved_result_reads_back(tmp_path, name):
    results = Results(scored(), {"device": "cpu"})
    results.save(tmp_path / name)
    assert read_results(tmp_path / name).rows == results.rows
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_csv_that_a_spreadsheet_saved_reads_back(tmp_path):
    # It adds a byte order mark and ends lines with two characters.
    results = Results(scored())
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + results.to_csv().replace("\n", "\r\n").encode())
    assert read_results(tmp_path / "a.csv").rows == results.rows


@pytest.mark.parametrize(
    ("name", "method"),
    [("a.md", "to_markdown"), ("a.txt", "to_table"), ("a.csv", "to_csv"), ("a.tex", "to_latex")],
)
def test_the_suffix_names_the_format(tmp_path, name, method):
    results = Results(scored())
    results.save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == getattr(results, method)().encode()


def test_another_suffix_is_refused_before_any_work(tmp_path):
    for name in ("scores.xlsx", "scores"):
        with pytest.raises(
            OptionError, match=f"{name}: the suffix names the format: .csv, .json, .md, .txt, .tex, .parquet"
        ):
            check_destination(tmp_path / name)
        with pytest.raises(OptionError):
            Results(scored()).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(PgmetricsError, match=r"there is no directory .*missing"):
        check_destination(tmp_path / "missing" / "scores.csv")
    with pytest.raises(PgmetricsError, match=r"folder\.csv cannot be written: it is a directory"):
        check_destination(tmp_path / "folder.csv")
    assert check_destination(tmp_path / "scores.csv") == "csv"
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


def test_a_directory_without_permission_is_refused_before_any_work(tmp_path, monkeypatch):
    # Asked of the system, since a test that runs as root may write anywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PgmetricsError, match="no permission to write to"):
        check_destination(tmp_path / "scores.csv")


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    # The mistake: opening the target for writing, so that a failed run destroys the last good one.
    target = tmp_path / "scores.csv"
    Results((row(value=0.001),)).save(target)
    before = target.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PgmetricsError, match=r"scores\.csv cannot be written: No space left on device"):
        Results((row(value=0.002),)).save(target)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_a_killed_run_shows_no_half_written_result(tmp_path, monkeypatch):
    # Ctrl-C between writing and renaming: nothing may appear under the final name.
    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Results(scored()).save(tmp_path / "scores.json")
    assert not list(tmp_path.iterdir())


def test_a_result_is_readable_by_whoever_the_umask_allows(tmp_path):
    # tempfile's files are private to the user, also after renaming.
    Results(scored()).save(tmp_path / "scores.csv")
    with open(tmp_path / "other.csv", "w"):
        pass
    assert (tmp_path / "scores.csv").stat().st_mode == (tmp_path / "other.csv").stat().st_mode


def test_a_link_is_written_through(tmp_path):
    # os.replace on the link itself would turn it into a file and leave its target as it was.
    (tmp_path / "results").mkdir()
    (tmp_path / "latest.csv").symlink_to(tmp_path / "results" / "scores.csv")
    Results(scored()).save(tmp_path / "latest.csv")
    assert (tmp_path / "latest.csv").is_symlink()
    assert (tmp_path / "results" / "scores.csv").is_file()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"[]"),
        ("a.json", b'{"results": [1], "provenance": {}}'),
        ("a.json", b'{"results": 3, "provenance": {}}'),
        ("a.json", b'{"results": [{"run": "a"}], "provenance": {}}'),
        ("a.csv", b"run,value\na,1\n"),
        ("a.csv", b"\xff\xfe"),
        ("a.csv", b""),
        ("a.csv", b"run," + 200_000 * b"x"),
        ("a.csv", (",".join(COLUMNS) + "\na,fake,swd,high,1,,,,,0,p\n").encode()),
        ("a.csv", (",".join(COLUMNS) + "\na,fake,swd,16\n").encode()),
        ("a.csv", (",".join(COLUMNS) + "\na,fake,swd,16,1,,,,,0,p,more\n").encode()),
        ("a.parquet", b"PAR1 and then nothing"),
    ],
)
def test_a_file_of_something_else_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StateError, match=name) as caught:
        read_results(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_table_for_people_is_not_read_back(tmp_path):
    Results(scored()).save(tmp_path / "a.md")
    with pytest.raises(OptionError, match=r"read from \.json, \.csv, \.parquet or \.jsonl"):
        read_results(tmp_path / "a.md")


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(PgmetricsError, match=r"none\.json cannot be read: No such file"):
        read_results(tmp_path / "none.json")


def test_parquet_keeps_types_and_provenance_and_opens_in_pandas(tmp_path):
    # Levels as floats, a missing stderr as 0, and no word of where the numbers came from.
    results = Results(scored(), {"device": "cpu"})
    results.save(tmp_path / "a.parquet")
    assert read_results(tmp_path / "a.parquet") == results
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "a.parquet"), results.to_pandas(), check_dtype=False
    )


def test_parquet_of_something_else_is_named(tmp_path):
    pd.DataFrame({"run": ["a"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(StateError, match=r"a\.parquet: not a result: it has no column .*value"):
        read_results(tmp_path / "a.parquet")


def test_parquet_without_pyarrow_says_how_to_get_it_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(PgmetricsError, match="pip install pyarrow"):
        check_destination(tmp_path / "a.parquet")


def test_another_format_is_refused():
    with pytest.raises(OptionError, match="not 'html'"):
        Results(scored()).to_text("html")


def test_rows_are_read_without_pandas(monkeypatch):
    # A command that prints a table must not wait for pandas.
    real_import = builtins.__import__

    def without_pandas(name, *others, **options):
        assert name.split(".")[0] != "pandas"
        return real_import(name, *others, **options)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    results = Results(scored())
    assert Results.from_csv(results.to_csv()).to_table() == results.to_table()


# From somebody else.


def file_of(path, provenance, **changes):
    content = {"results": [{**row(), **changes}], "provenance": provenance}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("part", "provenance"),
    [
        ("sources", {"sources": []}),
        ("sources.real", {"sources": {"real": "zip:1"}}),
        ("sources.real", {"sources": {"real": {"fingerprint": 1}}}),
        ("parameters", {"parameters": [1]}),
        ("parameters.metrics", {"parameters": {"metrics": ["swd"]}}),
        ("parameters.metrics.swd", {"parameters": {"metrics": {"swd": 3}}}),
        ("parameters.metrics.swd", {"parameters": {"metrics": {"swd": {"names": 3}}}}),
        ("parameters.metrics.swd", {"parameters": {"metrics": {"swd": {"network": []}}}}),
        ("networks", {"networks": "all"}),
        ("versions", {"versions": 1}),
        ("runs", {"runs": []}),
        ("runs.run-a", {"runs": {"run-a": 1}}),
        ("runs.run-a.item", {"runs": {"run-a": {"item": "floor"}}}),
        ("sources", {"runs": {"run-a": {"sources": 2}}}),
    ],
)
def test_a_provenance_of_another_kind_is_refused_by_its_part(tmp_path, part, provenance):
    # These were AttributeErrors and TypeErrors of compare, the page or the pytest fixture.
    with pytest.raises(StateError, match=rf"a\.json: not a result: {part} in its provenance"):
        read_results(file_of(tmp_path / "a.json", provenance))


@pytest.mark.parametrize(
    "changes",
    [
        {"run": 5},
        {"metric": ["swd"]},
        {"protocol": {}},
        {"level": "1e999"},
        {"n_fake": []},
    ],
)
def test_a_cell_of_another_kind_is_refused(tmp_path, changes):
    with pytest.raises(StateError, match=f"{next(iter(changes))}"):
        read_results(file_of(tmp_path / "a.json", {}, **changes))


IMPOSSIBLE = [
    ({"value": -0.001}, "the value for swd of fake is -0.001; it is at least 0"),
    ({"metric": "fid", "value": -3}, "the value for fid of fake is -3; it is at least 0"),
    ({"metric": "ms-ssim", "value": 1.5}, "the value for ms-ssim of fake is 1.5; it is at most 1"),
    ({"metric": "is", "value": 0.5}, "the value for is of fake is 0.5; it is at least 1"),
    ({"value": 1e308}, "the value for swd of fake is 1e.308; no number here is beyond 1e.70"),
    ({"metric": "kid", "value": -1e308}, "the value for kid of fake is -1e.308; no number"),
    ({"value": True}, "the value for swd of fake is no number: 'True'"),
    ({"value": "0.5"}, "the value for swd of fake is no number: '0.5'"),
    ({"stderr": -1}, "the stderr for swd of fake is -1; it is at least 0"),
    ({"metric": "kid", "stderr": -1}, "the stderr for kid of fake is -1; it is at least 0"),
    ({"stderr": 1e300}, "the stderr for swd of fake is 1e.300; no number"),
    ({"stderr": False}, "the stderr for swd of fake is no number: 'False'"),
    ({"seed": -1}, "the seed for swd of fake is -1; it is a whole number from 0 "),
    ({"seed": 0.5}, "the seed for swd of fake is 0.5; it is a whole number"),
    ({"n_fake": -8}, "the n_fake for swd of fake is -8; it is a whole number from 0 "),
    ({"n_fake": 8.5}, "the n_fake for swd of fake is 8.5; it is a whole number"),
    ({"n_real": True}, "the n_real for swd of fake is no number: 'True'"),
    ({"n_real": 2**70}, "the n_real for swd of fake is 1.18059e.21; it is a whole number from 0 to 9.2e.18"),
    ({"level": 0}, "the level for swd at level 0 of fake is 0; it is a whole number from 1 "),
]


@pytest.mark.parametrize(("changes", "line"), IMPOSSIBLE)
def test_an_impossible_number_is_no_result(tmp_path, changes, line):
    # Catches a comparison that believes a negative distance, or a bool for a number.
    with pytest.raises(StateError, match=f"a.json: not a result: {line}"):
        read_results(file_of(tmp_path / "a.json", {}, **({"level": None} | changes)))


@pytest.mark.parametrize("metric", ["kid", "ct", "fid-bias", "fd-bias", "fid-infinity", "ones-own"])
def test_numbers_that_may_be_negative_are_results(tmp_path, metric):
    found = read_results(file_of(tmp_path / "a.json", {}, metric=metric, value=-0.25, seed=2**128 - 1))
    assert found.rows[0]["value"] == -0.25
    assert found.rows[0]["seed"] == 2**128 - 1


def test_an_impossible_number_of_a_table_is_no_result(tmp_path):
    (tmp_path / "a.csv").write_text(Results((row(value=0.125),)).to_csv().replace("0.125", "-0.125"))
    with pytest.raises(StateError, match=r"a\.csv: not a result: the value for swd .* is -0\.125"):
        read_results(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"results": 1e999, "provenance": {}}', '{"results": NaN}', "9" * 400]
)
def test_json_that_python_alone_takes_is_no_result(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(StateError, match=r"a\.json: not a result"):
        read_results(tmp_path / "a.json")


def test_a_parquet_file_with_another_provenance_is_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    Results((row(),)).save(tmp_path / "a.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    for content in (b"[1]", b"{", b"[" * 100_000):
        other = table.replace_schema_metadata({b"pgmetrics": content})
        pyarrow.parquet.write_table(other, tmp_path / "a.parquet")
        with pytest.raises(StateError, match=r"a\.parquet: not a result: .*provenance"):
            read_results(tmp_path / "a.parquet")


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet", ".jsonl"])
def test_a_pipe_is_no_result(tmp_path, suffix):
    # Opening one waits for a writer, for ever.
    os.mkfifo(tmp_path / f"a{suffix}")
    with pytest.raises(PgmetricsError, match="it is a pipe"):
        read_results(tmp_path / f"a{suffix}")


def test_tables_say_how_varied_sets_are_beside_the_reals():
    # Nothing told a reader that 0.0767 is as varied as the reals' 0.0737, and that 0.2436 is not.
    values = {"reals-32x32": 0.0737, "untrained": 0.0750, "4x4": 0.2436, "32x32": 0.0767}
    rows = [
        row(
            "ms-ssim", value=value, stderr=0.004, stderr_kind="pairs", run=run,
            subject="real" if run.startswith("reals") else "fake",
        )
        for run, value in values.items()
    ]  # fmt: skip
    line = "MS-SSIM: as varied as the reals: untrained, 32x32; less varied than the reals: 4x4"
    assert line in Results(tuple(rows)).to_table().splitlines()
    assert line in Results(tuple(rows)).to_markdown()
    assert f"% {line}" in Results(tuple(rows)).to_latex()
    assert "varied" not in Results(tuple(rows[1:])).to_table()
    alone = [{**one, "run": "r"} for one in (rows[0], rows[2])]
    assert "MS-SSIM: less varied than the reals: fake" in Results(tuple(alone)).to_table()
