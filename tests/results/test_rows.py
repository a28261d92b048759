"""The rows of results: their columns, and which values they can have."""

import json

import numpy as np
import pytest

from pgmetrics.errors import StateError
from pgmetrics.results import COLUMNS, Results, read_results
from tests.helpers.result_rows import file_of, row


def test_rows_have_the_decided_columns_in_the_decided_order():
    # A column forgotten or moved breaks every reader of the CSV.
    written = Results((dict(reversed(row().items())),)).to_csv()
    assert written.splitlines()[0] == (
        "run,subject,metric,level,value,stderr,stderr_kind,n_real,n_fake,seed,protocol"
    )
    assert tuple(json.loads(Results((row(),)).to_json())["results"][0]) == COLUMNS


def test_numbers_of_numpy_are_written_as_numbers():
    # repr(np.float64(0.1)) is "np.float64(0.1)", and json refuses np.float32 and np.int64.
    results = Results((row(value=np.float64(0.1), stderr=np.float32(0.5), level=np.int64(16)),))
    assert ",16,0.1,0.5," in results.to_csv()
    assert json.loads(results.to_json())["results"][0]["level"] == 16


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"value": float("nan")}, "value for swd at level 16 of fake is nan"),
        ({"value": None}, "needs a value"),
        ({"stderr": float("inf")}, "stderr for swd at level 16 of fake is inf"),
        ({"value": "high"}, "not a number: 'high'"),
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
    ({"value": True}, "the value for swd of fake is not a number: 'True'"),
    ({"value": "0.5"}, "the value for swd of fake is not a number: '0.5'"),
    ({"stderr": -1}, "the stderr for swd of fake is -1; it is at least 0"),
    ({"metric": "kid", "stderr": -1}, "the stderr for kid of fake is -1; it is at least 0"),
    ({"stderr": 1e300}, "the stderr for swd of fake is 1e.300; no number"),
    ({"stderr": False}, "the stderr for swd of fake is not a number: 'False'"),
    ({"seed": -1}, "the seed for swd of fake is -1; it is a whole number from 0 "),
    ({"seed": 0.5}, "the seed for swd of fake is 0.5; it is a whole number"),
    ({"n_fake": -8}, "the n_fake for swd of fake is -8; it is a whole number from 0 "),
    ({"n_fake": 8.5}, "the n_fake for swd of fake is 8.5; it is a whole number"),
    ({"n_real": True}, "the n_real for swd of fake is not a number: 'True'"),
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
