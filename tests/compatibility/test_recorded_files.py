"""Files and numbers of an earlier version: read, resumed and equal."""

import csv
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.compatibility import record

RECORDED = Path(__file__).parent / "recorded"
ROUNDING = 1e-5  # other processors add float32 numbers in another order


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_metric_gives_the_recorded_numbers(tmp_path):
    # A refactoring that feeds a metric other images, another seed's patches or another network's rows.
    record.score(tmp_path / "scores.csv")
    found, recorded = rows(tmp_path / "scores.csv"), rows(RECORDED / "scores.csv")
    assert len(found) == len(recorded)
    for mine, its in zip(found, recorded, strict=True):
        numbers = {"value", "stderr"}
        assert {k: v for k, v in mine.items() if k not in numbers} == {
            k: v for k, v in its.items() if k not in numbers
        }
        for name in numbers:
            given, expected = (float(row[name] or "nan") for row in (mine, its))
            assert given == pytest.approx(expected, rel=ROUNDING, abs=ROUNDING, nan_ok=True), (mine, name)


def test_recorded_statistics_score_as_the_images_do(tmp_path):
    # Statistics that were prepared by an earlier version stand for the same images as today's.
    record.prepare(tmp_path / "real.pgstats")
    options = ["--fake", record.FAKE, "--num-images", 16, "--metrics", "fd,kid", *record.NETWORK]
    options += ["--workers", 0, "--format", "csv"]
    recorded, fresh = (
        list(csv.DictReader(record.pgmetrics_command("evaluate", "--real", real, *options).splitlines()))
        for real in (RECORDED / "real.pgstats", tmp_path / "real.pgstats")
    )
    assert [row["metric"] for row in recorded] == [row["metric"] for row in fresh]
    for mine, its in zip(recorded, fresh, strict=True):
        assert float(mine["value"]) == pytest.approx(float(its["value"]), rel=ROUNDING)


def test_a_recorded_run_is_resumed(tmp_path):
    # A training state that an earlier version saved leads to the checkpoint that it led to then.
    run = tmp_path / "run"
    shutil.copytree(RECORDED / "run", run)
    record.train(run, record.LAST)
    found = load_file(record.last_checkpoint(run))
    recorded = load_file(RECORDED / "resumed.safetensors")
    before = load_file(record.last_checkpoint(RECORDED / "run"))
    assert found.keys() == recorded.keys()
    for name, weights in recorded.items():
        torch.testing.assert_close(found[name], weights, rtol=1e-3, atol=1e-5)
    # The comparison is of use only if the weights moved meanwhile.
    assert any(not torch.allclose(before[name], recorded[name], rtol=1e-2) for name in before)


def test_recorded_scores_are_read_and_not_made_again(tmp_path):
    # Another series beside the recorded one would mean that all checkpoints are scored a second time.
    run = tmp_path / "run"
    shutil.copytree(RECORDED / "run", run)
    before = (run / "scores.jsonl").read_bytes()
    record.score_run(run)
    assert (run / "scores.jsonl").read_bytes() == before
