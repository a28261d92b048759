"""`pgmetrics metrics`: every number, what it needs and what its ± is over."""

import json

import pytest
from click.testing import CliRunner

from pgmetrics.cli import main
from pgmetrics.metrics.listing import COLUMNS, USUAL
from pgmetrics.metrics.registry import outputs
from tests.helpers.metric_list import printed


def test_json_holds_every_number_with_every_column():
    found = json.loads(printed("--format", "json"))
    assert [one["name"] for one in found] == [number.name for number in outputs()]
    assert all(set(COLUMNS) <= set(one) for one in found)
    needs = {one["name"]: (one["network"], one["real_images"], one["least_images"]) for one in found}
    assert needs["swd"] == (None, True, 2)
    assert needs["ms-ssim"] == (None, False, 4)
    assert needs["recall"] == ("inception", True, 6)
    assert needs["fd"] == ("custom", True, 2)


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
