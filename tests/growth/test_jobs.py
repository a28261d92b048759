"""Several processes that score the checkpoints of one run."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pgmetrics.errors import OptionError
from pgmetrics.growth import read_scores
from pgmetrics.sources.arrays import ArraySource
from tests.helpers.growth_scores import real_pixels, score, store

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_several_jobs_give_the_same_bytes_and_end_with_whoever_asked(finished, tmp_path):
    np.save(tmp_path / "reals.npy", real_pixels())
    one, two, killed = (Path(shutil.copytree(finished, tmp_path / name)) for name in ("one", "two", "killed"))
    how = {"protocols": ["at-stage", "at-final"], "untrained": True}
    score(one, str(tmp_path / "reals.npy"), **how)
    found, skipped = score(two, str(tmp_path / "reals.npy"), jobs=2, **how)
    assert store(one) == store(two)
    assert not skipped
    assert found == read_scores(one)
    program = (
        "import sys; from pgmetrics.growth import score_run; "
        "score_run(sys.argv[1], sys.argv[2], num_images=16, jobs=2, device='cpu', workers=0)"
    )
    asked = subprocess.Popen(
        [sys.executable, "-c", program, str(killed), str(tmp_path / "reals.npy")], cwd=ROOT
    )
    with asked:
        _until(lambda: (killed / "scores.jsonl").exists())
        helpers = _children(asked.pid)
        assert helpers
        asked.kill()
    _until(lambda: not any(_is_scoring(pid) for pid in helpers))


def test_what_cannot_be_sent_to_other_processes_is_refused(run, monkeypatch):
    with pytest.raises(OptionError, match=r"jobs=2 needs images.*that other processes can open"):
        score(run, lambda indices: real_pixels()[np.array(indices) % 40], jobs=2)
    # Such a class has a pickle, and no other process finds it.
    monkeypatch.setattr(InScript, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "InScript", InScript, raising=False)
    with pytest.raises(OptionError, match=r"jobs=2 needs images.*InScript is defined in the running script"):
        score(run, InScript(real_pixels()), jobs=2)


class InScript(ArraySource):
    pass


def _until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _children(pid):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
            except OSError:
                continue
            if int(status.rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def _is_scoring(pid):
    try:
        return b"pgmetrics.runtime.workers" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
