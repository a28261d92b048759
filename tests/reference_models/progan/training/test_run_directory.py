"""What a run writes into its directory, and which directories it leaves alone."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest

from pgmetrics.errors import OptionError, SourceError
from reference_models.progan.training import run_directory
from reference_models.progan.training.train import train
from tests.helpers.configs import TO_16 as CONFIG
from tests.helpers.trainers import source


@pytest.mark.slow
def test_stats_are_lines_of_json(tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory, "_IMAGES_BETWEEN_STATS", 30)
    train(source(), tmp_path / "run", CONFIG)
    rows = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    assert [row["images_shown"] for row in rows] == [32, 64, 96, 128, 160, 192]
    assert rows[1]["stage"]["resolution"] == 8
    assert rows[1]["images_per_second"] > 0


def test_a_directory_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(OptionError, match="not empty"):
        train(source(), tmp_path, CONFIG)
    with pytest.raises(OptionError, match=r"thesis\.tex cannot be written: File exists"):
        train(source(), tmp_path / "thesis.tex", CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OptionError, match="cannot be written"):
        train(source(), tmp_path / "file" / "run", CONFIG)


def test_refused_images_leave_no_run_behind(tmp_path):
    with pytest.raises(SourceError, match="smaller than the final resolution 16"):
        train(source(side=8), tmp_path / "run", CONFIG)
    # Or the next try, with better images, would be refused for the remains of this one.
    assert not any((tmp_path / "run").iterdir())
    train(source(), tmp_path / "run", replace(CONFIG, total_images=8))


@pytest.mark.slow
def test_whoever_waits_is_told_how_a_run_ended(tmp_path):
    def stop(error):
        def report(progress):
            assert not (tmp_path / "run" / "finished.json").exists()
            if progress.images_shown == 88:
                raise error

        return report

    for error, ended in (
        (KeyboardInterrupt, "interrupted"),
        (ZeroDivisionError, "failed"),
        (None, "complete"),
    ):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        with nullcontext() if error is None else pytest.raises(error):
            train(source(), tmp_path / "run", CONFIG, report=stop(error) if error else None)
        said = json.loads((tmp_path / "run" / "finished.json").read_text())
        assert said == {"ended": ended, "images_shown": 192 if error is None else 88}


@pytest.mark.parametrize(
    ("resolution", "size"), [(4, (64, 8)), (128, (64, 8)), (256, (16, 4)), (512, (4, 2)), (1024, (4, 2))]
)
def test_grids_stay_small_enough_to_look_at(resolution, size):
    assert run_directory.grid_size(resolution) == size


def test_tensorboard_is_refused_in_one_line_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        OptionError, match=r"TensorBoard is not installed; pip install 'pgmetrics\[tensorboard\]'"
    ):
        train(source(), tmp_path / "run", CONFIG, tensorboard=True)
    assert not any((tmp_path / "run").iterdir())


@pytest.mark.slow
def test_tensorboard_gets_the_numbers_and_none_twice(tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setattr(run_directory, "_IMAGES_BETWEEN_STATS", 20)

    def stop(progress):
        if progress.images_shown == 104:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(source(), tmp_path / "run", CONFIG, tensorboard=True, state_images=40, report=stop)
    train(source(), tmp_path / "run", CONFIG, tensorboard=True)
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    rows = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    for tag, name in (("loss/real", "real"), ("loss/norm", "norm")):
        seen = [(event.step, event.value) for event in events.Scalars(tag)]
        assert seen == [(row["images_shown"], pytest.approx(row[name], rel=1e-5)) for row in rows]
    assert [event.value for event in events.Scalars("stage/resolution")][-1] == 16
