"""The documents' tables of metrics are what `pgmetrics metrics` prints.

`python -m tests.test_metric_tables` writes them anew, between `<!-- metrics -->` and `<!-- /metrics -->`.
"""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from pgmetrics.cli import main
from pgmetrics.metrics.listing import COLUMNS, USUAL
from pgmetrics.metrics.registry import outputs

ROOT = Path(__file__).parents[1]
TABLES = {
    "README.md": "title,meaning,better,use,misses",
    "docs/metrics.md": "name,title,needs,errors,source",
    "docs/uncertainty.md": "title,better,errors",
}
PLACE = re.compile(r"(?<=<!-- metrics -->\n\n).*(?=\n<!-- /metrics -->)", re.DOTALL)


def printed(*arguments):
    done = CliRunner().invoke(main, ["metrics", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def table(columns):
    return printed("--format", "markdown", "--columns", columns)


@pytest.mark.parametrize("name", TABLES)
def test_the_table_of_a_document_is_the_commands(name):
    # Wrong: a number, a direction or a meaning that changed in the code alone.
    (found,) = PLACE.findall((ROOT / name).read_text())
    assert found == table(TABLES[name]), "python -m tests.test_metric_tables writes it anew"


def test_json_holds_every_number_with_every_column():
    found = json.loads(printed("--format", "json"))
    assert [one["name"] for one in found] == [number.name for number in outputs()]
    assert all(set(COLUMNS) <= set(one) for one in found)
    needs = {one["name"]: (one["network"], one["real_images"], one["least_images"]) for one in found}
    assert needs["swd"] == (None, True, 2)
    assert needs["ms-ssim"] == (None, False, 4)
    assert needs["recall"] == ("inception", True, 6)
    assert needs["fd"] == ("custom", True, 2)


def test_text_has_a_paragraph_for_each_number_and_a_line_for_each_column():
    lines = printed("--columns", "name,errors").splitlines()
    assert lines[:2] == ["swd", "  ± over: directions, images, images and directions"]
    place = lines.index("ct")
    assert lines[place + 1] == "  ± over: generators that copy nothing (sd)"
    names = [line for line in printed().splitlines() if not line.startswith(" ")]
    assert names == [number.name for number in outputs()]


def test_the_help_names_the_columns_there_are():
    text = " ".join(printed("--help").split())
    assert f"{', '.join(COLUMNS)}." in text
    assert f"[default: {','.join(USUAL)}]" in text


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--columns", "name,price"], 1, "there is no column 'price'; there are name, title"),
        (["--columns", ","], 1, "no column was asked for"),
        (["--columns", "name", "--format", "json"], 2, "json holds all"),
    ],
)
def test_what_cannot_be_listed_is_refused_in_one_line(arguments, code, said):
    done = CliRunner().invoke(main, ["metrics", *arguments])
    assert done.exit_code == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


if __name__ == "__main__":
    for name, columns in TABLES.items():
        text = (ROOT / name).read_text()
        (ROOT / name).write_text(PLACE.sub(lambda _, columns=columns: table(columns), text))
