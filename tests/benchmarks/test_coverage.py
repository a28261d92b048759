"""The simulation of what intervals hold, in small; docs/uncertainty.md has it in full."""

import json
from math import sqrt

import pytest

from benchmarks import coverage


def case(name):
    return next(one for one in coverage.cases() if one.name == name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swd alike", "ms-ssim unlike", "fd unlike", "is alike", "kid alike"])
def test_a_repetition_looks_at_the_value_and_at_two_differences(name):
    rows = coverage.repetition(case(name), 0)
    assert {row[0] for row in rows} == {"printed", "value", "B - A", "C - A"}
    assert coverage.repetition(case(name), 0) == rows != coverage.repetition(case(name), 1)
    json.dumps(rows, allow_nan=False)
    for what, _, _, _, stderr, p_value in rows:
        assert stderr is None or stderr > 0
        assert p_value is None or what == "B - A"


@pytest.mark.slow
def test_what_the_file_holds_is_not_done_again_and_a_torn_line_is(tmp_path):
    path = tmp_path / "coverage.jsonl"
    coverage.simulate(path, 3, ["is alike"], processes=1)
    whole = sorted(path.read_text().splitlines())
    path.write_text("\n".join(whole)[:-20])
    coverage.simulate(path, 3, ["is alike"], processes=1)
    lines = [line["repetition"] for line in coverage.read(path)]
    assert sorted(lines) == [0, 1, 2]


@pytest.mark.slow
def test_another_seed_is_another_simulation_in_the_same_file(tmp_path):
    path = tmp_path / "coverage.jsonl"
    for seed in (1, 2):
        coverage.simulate(path, 2, ["is alike"], processes=1, seed=seed)
    one, two = ([line["rows"] for line in coverage.read(path, seed)] for seed in (1, 2))
    assert len(one) == len(two) == 2
    assert all(rows not in two for rows in one)
    assert list(coverage.read(path)) == []


def test_with_new_directions_only_what_is_claimed_under_any_is_looked_at():
    rows = coverage.repetition(case("swd alike, new directions"), 0)
    assert {row[0] for row in rows} == {"printed", "B - A"}
    held = coverage.repetition(case("swd alike"), 0)
    assert all(row[3:5] != other[3:5] for row, other in zip(rows, held, strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["given fd 257", "symmetric kid", "blurred fd 40"])
def test_rare_p_values_are_those_of_the_difference(name):
    (row,) = coverage.repetition(case(name), 0)
    assert coverage.repetition(case(name), 0) == [row] != coverage.repetition(case(name), 1)
    json.dumps(row, allow_nan=False)
    what, _, level, _, stderr, p_value, df = row
    assert (what, level) == ("B - A", None)
    assert stderr > 0
    assert 0 <= p_value <= 1
    assert df == pytest.approx(6, abs=2) if name.startswith("given") else df > 20


def test_tails_count_only_what_is_called_better_where_b_is_worse():
    rows = [["B - A", "fd", None, sign * 3.0, 1.0, 0.005, 60.0] for sign in (-1, 1, 1)]
    lines = [
        {"case": name, "repetition": i, "rows": [row]}
        for name in ("symmetric fd", "blurred fd 64")
        for i, row in enumerate(rows)
    ]
    both, better = coverage.tails(lines)
    assert (both.shares, both.normal) == ((1, 1, 0), (1, 1, 0))
    assert better.shares == pytest.approx((1 / 3, 1 / 3, 0))
    assert (both.df, both.stderr, both.mean, both.repetitions) == (60, 1, 1, 3)
    assert coverage.summarize(lines) == []
    assert "| symmetric fd | fd | 3 | 1 | 3.46 | 1 | 60 | 100.00%" in coverage.table_of_tails([both])


def test_rows_are_in_the_order_of_the_cases():
    lines = [
        {"case": name, "repetition": 0, "rows": [["value", "m", None, 1.0, 1.0, None]]}
        for name in ("kid alike", "own", "swd unlike", "kid near")
    ]
    assert [one.case for one in coverage.summarize(lines)] == ["kid near", "swd unlike", "kid alike", "own"]


@pytest.mark.slow
def test_intervals_of_is_hold_and_the_test_alarms_as_often_as_they_say():
    # 150 repetitions: 95 % and 5 % within 4 standard deviations of their binomial.
    found = coverage.summarize(
        [
            {"case": "is", "repetition": number, "rows": coverage.repetition(case("is unlike"), number)}
            for number in range(150)
        ]
    )
    spread = 4 * sqrt(0.05 * 0.95 / 150)
    for one in found:
        if one.covered is not None:
            assert abs(one.covered - 0.95) < spread, one
        if one.alarms is not None:
            assert abs(one.alarms - 0.05) < spread, one
    assert "| is | value | is | 150 |" in coverage.table(found)
