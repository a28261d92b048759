"""`progan bench`, as a person meets it; not how fast training is."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from reference_models.progan.cli import main
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.training import speed

OPTIONS = ["--preset", "tiny-32", "--turns", "1"]
for _option in ("resolution=8", "fmap_base=32", "minibatch=4:4", "mbstd_group=2"):
    OPTIONS += ["--option", _option]


@pytest.fixture
def matrices(monkeypatch):
    monkeypatch.setattr(
        speed, "matmul_rate", lambda device, precision: {"bfloat16": 2e9, "float32": 1e9}[precision]
    )


@pytest.mark.slow
def test_the_command_prints_a_row_per_stage(matrices):
    done = CliRunner().invoke(main, ["bench", *OPTIONS])
    assert done.exit_code == 0, done.stderr
    title, limit, header, *rows = done.stdout.splitlines()
    assert title.startswith("tiny-32, float32, eager, cpu")
    assert "limit: 1 GFLOP/s" in limit
    assert [row.split()[:2] for row in rows] == [["4", "4"], ["8", "4"]]
    assert len(rows[0].split()) == 6
    assert "img/s" in header


@pytest.mark.slow
def test_its_json_holds_what_the_table_says(matrices):
    more = [
        "--resolution",
        "8",
        "--option",
        "precision=bfloat16",
        "--micro-batch",
        "2",
    ]
    done = CliRunner().invoke(main, ["bench", *OPTIONS, *more, "--format", "json"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    (row,) = found["rows"]
    assert ProGANConfig.from_json(found["config"]).precision == "bfloat16"
    assert found["limit_flops_per_second"] == 2e9
    assert row["of_limit"] == pytest.approx(row["flops_per_second"] / 2e9)
    assert (row["resolution"], row["minibatch"], len(row["seconds"])) == (8, 4, 1)


def test_its_options_reach_the_steps(matrices, monkeypatch):
    asked = {}
    monkeypatch.setattr(speed, "step_speeds", lambda config, wanted, **options: asked.update(options) or [])
    done = CliRunner().invoke(main, ["bench", *OPTIONS, "--compile", "--micro-batch", "2", "--device", "cpu"])
    assert done.exit_code == 0, done.stderr
    assert (asked["compiled"], asked["micro_batch"], asked["turns"]) == (True, 2, 1)
    assert ", compiled, cpu" in done.stdout
