"""What a comparison found, in data and in tables for people."""

import csv
import io
import json

import pytest

from pgmetrics.comparison.compare import compare
from pgmetrics.errors import OptionError
from tests.helpers.compared import results, row


def test_no_table_says_that_a_p_value_is_zero():
    # Data keep the number itself.
    found = compare(results(row("swd", 0.1, 0.001)), results(row("swd", 0.109, 0.001)))
    assert 0 < found.rows[0]["p_holm"] < 1e-5
    assert "  <0.0001  " in found.to_table()
    assert r"| \<0.0001 |" in found.to_markdown()
    assert "0.0000" not in found.to_table() + found.to_markdown()
    assert str(found.rows[0]["p_holm"]) in found.to_csv()


def test_data_is_raw_and_tables_are_for_people(tmp_path):
    swd = [row("swd", v, 0.001, level=level) for v, level in ((0.02, 32), (0.03, 16), (0.025, None))]
    better = [{**one, "value": one["value"] / 2} for one in swd]
    found = compare(results(*swd, row()), results(*better, row()))
    table = str(found).splitlines()
    assert table[0].split() == ["A", "B", "B", "-", "A", "95", "%", "interval", "p", "verdict"]
    assert table[1].split()[:6] == ["SWD", "×10³", "32", "20.00", "10.00", "-10.00"]
    assert table[3].startswith("SWD ×10³ Avg")
    assert table[4].endswith("within noise")
    assert found.rows[0]["difference"] == -0.01
    for suffix in (".csv", ".json", ".md", ".txt"):
        found.save(tmp_path / f"c{suffix}")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "c.csv").read_text())))
    assert float(rows[0]["difference"]) == -0.01
    assert json.loads((tmp_path / "c.json").read_text())["rows"][0]["verdict"] == "better"
    assert (tmp_path / "c.md").read_text().startswith("|  | A | B | B - A | 95 % interval | p | verdict |\n")
    assert (tmp_path / "c.txt").read_text() == str(found)
    frame = found.to_pandas()
    assert frame.level.tolist()[:2] == [32, 16]
    assert frame.verdict.tolist() == ["better", "better", "better", "within noise"]
    with pytest.raises(OptionError, match="not 'xlsx'"):
        found.to_text("xlsx")
    with pytest.raises(OptionError, match="the suffix names the format"):
        found.save(tmp_path / "c.xlsx")
