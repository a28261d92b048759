"""`pgmetrics growth`, as a person meets it: exit codes, what goes where, and Ctrl-C."""

import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pgmetrics.cli import main
from reference_models.progan.model.checkpoint import checkpoints
from tests.helpers.growing_run import LABELS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(finished, tmp_path):
    """A directory with run/ and reals/."""
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "reals").mkdir()
    rng = np.random.default_rng(0)
    for k in range(40):
        pixels = rng.integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(tmp_path / "reals" / f"{k}.png")
    return tmp_path


def arguments(here, *more):
    quick = ("--workers", 0, "--device", "cpu")
    if "--num-images" not in more:
        quick = ("--num-images", 12, *quick)
    return [str(a) for a in ("growth", here / "run", "--real", here / "reals", *quick, *more)]


def growth(here, *more):
    return CliRunner().invoke(main, arguments(here, *more))


@pytest.mark.slow
def test_what_the_error_is_over_can_be_chosen(here):
    done = growth(here, "--metrics", "swd", "--no-floor", "--error", "directions", "--format", "csv")
    assert {row["stderr_kind"] for row in csv.DictReader(io.StringIO(done.stdout))} == {"directions"}
    refused = growth(here, "--metrics", "fid", "--preset", "clean-fid", "--error", "images")
    assert refused.exit_code == 2
    assert "--preset clean-fid fixes --error" in refused.output


@pytest.mark.slow
def test_the_table_is_alone_on_stdout_and_the_file_in_its_format(here):
    done = growth(here, "--format", "csv", "--out", here / "r.json", "--untrained")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(dict.fromkeys(row["run"] for row in rows)) == ["reals-32x32", "untrained", *LABELS]
    assert (here / "r.json").exists()
    # Whether two checkpoints differ by more than noise is told by images, so that is the usual ± here.
    assert {row["stderr_kind"] for row in rows} == {"images", "pairs"}
    bare = growth(here, "--no-floor", "--metrics", "ms-ssim", "--format", "csv")
    assert {row["run"] for row in csv.DictReader(io.StringIO(bare.stdout))} == set(LABELS)


def test_both_protocols_can_be_asked_for(here):
    done = growth(
        here, "--protocol", "at-stage", "--protocol", "at-final", "--metrics", "ms-ssim", "--format", "csv"
    )
    assert {row["protocol"] for row in csv.DictReader(io.StringIO(done.stdout))} == {"at-final", "at-stage"}


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_read_is_named_and_the_exit_code_says_so(here):
    broken = checkpoints(here / "run")[2]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-5])
    for _ in range(2):  # the second time everything else is done
        done = growth(here)
        assert done.exit_code == 4
        assert f"skipped checkpoints/{broken.name}" in done.stderr
        assert "cut short" in done.stderr
        assert LABELS[3] in done.stdout
        assert LABELS[2] not in done.stdout
    broken.write_bytes(whole)
    assert growth(here).exit_code == 0


def test_refusals_are_one_line_and_wrong_usage_is_usage(here):
    done = CliRunner().invoke(main, ["growth", str(here / "reals"), "--real", str(here / "reals")])
    assert (done.exit_code, done.stderr.count("\n"), done.stderr.count("\r")) == (1, 1, 0)
    assert "holds no checkpoints" in done.stderr
    done = growth(here, "--num-images", 41)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "holds 40 images; num_images asks for 41" in done.stderr
    assert growth(here, "--protocol", "native").exit_code == 2
    assert growth(here, "--jobs", 0).exit_code == 2


@pytest.mark.slow
def test_a_finished_run_returns_without_waiting_for_torch(here):
    first = growth(here)
    program = (
        "import sys\nfrom pgmetrics.cli import main\nmain(sys.argv[1:], standalone_mode=False)\n"
        # Not SciPy: a caption says how varied a set is, which takes a quantile of Student's t.
        "print('loaded:', *{'torch', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments(here)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    table, _, loaded = done.stdout.rpartition("loaded:")
    assert table == first.stdout
    assert loaded.split() == []


def _start(here, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "pgmetrics", *arguments(here, *more)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def _wait_for_lines(store, count):
    end = time.monotonic() + 120
    while not store.exists() or store.read_bytes().count(b"\n") < count:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_ctrl_c_ends_watching_in_peace_and_scoring_with_a_word(here):
    (here / "run" / "finished.json").unlink()  # training goes on, as far as anybody knows
    watching = _start(here, "--watch", "--poll-seconds", 0.05)
    _wait_for_lines(here / "run" / "scores.jsonl", 10)
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=120)
    assert watching.returncode == 0, err
    assert LABELS[-1] in out
    assert not (here / "run" / ".growth").exists()
    watched = (here / "run" / "scores.jsonl").read_bytes()
    (here / "run" / "scores.jsonl").unlink()
    scoring = _start(here)
    _wait_for_lines(here / "run" / "scores.jsonl", 3)
    scoring.send_signal(signal.SIGINT)
    out, err = scoring.communicate(timeout=120)
    assert (scoring.returncode, out) == (130, "")
    assert "the same command resumes" in err
    assert "Traceback" not in err
    assert growth(here).exit_code == 0
    assert (here / "run" / "scores.jsonl").read_bytes() == watched
