"""Results: exact in data, readable for people, and never half a file."""

import builtins
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmetrics.errors import OptionError, PgmetricsError, StateError
from pgmetrics.results import COLUMNS, Results, read_results, run_id, run_scores
from tests.helpers.result_rows import row, scored


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


def test_equal_work_gives_equal_bytes():
    # A time, a set's order or a provenance in the rows would differ from run to run.
    one = Results(scored(), {"time": "2018-02-26T09:00"})
    two = Results(scored(), {"time": "2018-02-26T10:00"})
    assert one.to_csv() == two.to_csv()
    assert one.to_json() != two.to_json()


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


def test_printing_a_result_shows_its_table():
    results = Results(scored())
    assert str(results) == results.to_table()


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
