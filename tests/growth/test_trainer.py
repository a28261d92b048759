"""Whether somebody still trains in a run that is watched."""

import fcntl
import os
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from pgmetrics.growth import trainer
from reference_models.progan.model.checkpoint import checkpoints
from tests.helpers.growing_run import LABELS
from tests.helpers.growth_scores import SWD, items, score

needs_locks = pytest.mark.skipif(
    not Path("/proc/locks").exists(), reason="needs Linux's list of locks, /proc/locks"
)


@contextmanager
def _training_in(run):
    place = os.open(run, os.O_RDONLY)
    fcntl.flock(place, fcntl.LOCK_EX)
    yield
    os.close(place)


@needs_locks
def test_a_trainer_is_gone_when_it_has_been_missed_for_a_minute(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(trainer, "_now", lambda: now)
    watched = trainer.TrainerWatch(tmp_path)
    now = 1000.0
    assert not watched.is_gone()  # never seen: nobody knows
    with _training_in(tmp_path):
        assert not watched.is_gone()
    now = 2000.0  # long busy
    assert not watched.is_gone()
    now = 2059.0
    with _training_in(tmp_path):
        assert not watched.is_gone()  # killed, and started again
    now = 2100.0
    assert not watched.is_gone()
    now = 2159.0
    assert not watched.is_gone()
    now = 2161.0
    assert watched.is_gone()


@needs_locks
def test_watching_ends_after_a_killed_trainer_when_all_is_scored(run, monkeypatch, caplog):
    monkeypatch.setattr(trainer, "GRACE", 0.1)
    (run / "finished.json").unlink()
    hidden = [path.rename(run.parent / path.name) for path in checkpoints(run)[2:]]
    training = _training_in(run)
    training.__enter__()

    def progress(what, done, total):
        if (done, total) == (3, 3):  # the floor and two checkpoints
            for path in hidden:
                path.rename(run / "checkpoints" / path.name)
            training.__exit__(None, None, None)

    at_last = threading.Timer(60, (run / "finished.json").write_text, ["{}"])
    at_last.start()
    score(run, watch=True, poll_seconds=0.02, metrics=[SWD], progress=progress)
    at_last.cancel()
    assert [label for kind, label in items(run) if kind == "checkpoint"] == LABELS
    assert "nobody trains in" in caplog.text
