"""Two processes that share every minibatch: the same steps, one set of files, one word when one fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pgmetrics.errors import OptionError
from reference_models.progan.model.checkpoint import checkpoints
from reference_models.progan.training.distributed import Ranks, process_group
from tests.reference_models.progan.training.test_steps import (
    CONFIG,
    FADING,
    ROUNDING,
    VARIANTS,
    furthest,
    gradients,
    losses,
)

HERE = Path(__file__).parents[4]


def torchrun(*arguments, **options):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        env=environment,
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.slow
def test_two_processes_make_the_step_that_one_makes(tmp_path):
    # Wrong: gradients not added, added twice, not divided; the same share for both; other noise on each rank;
    # a group whose threads go on when it is left, and now and then abort a process that ends.
    script = tmp_path / "step.py"
    script.write_text(
        """
import sys
from pathlib import Path
import torch
from dataclasses import replace
from reference_models.progan.training.distributed import process_group
from tests.reference_models.progan.training.test_steps import CONFIG, FADING, VARIANTS, gradients, losses

with process_group() as ranks:
    assert ranks.size == 2
    # A stop that one is asked for is everybody's.
    assert ranks.all_reduce_max(5 + ranks.rank) == 6
    assert ranks.broadcast_from_first(10 + ranks.rank) == 10
    for name, changes in VARIANTS.items():
        found, progress = gradients(replace(CONFIG, **changes), FADING, ranks=ranks)
        torch.save((found, losses(progress)), f"{sys.argv[1]}/{name}-{ranks.rank}.pt")
if sys.platform == "linux":
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name], threads
"""
    )
    running = torchrun(script, tmp_path)
    _, said = running.communicate(timeout=300)
    assert running.returncode == 0, said
    for name, changes in VARIANTS.items():
        one, progress = gradients(replace(CONFIG, **changes), FADING)
        for rank in range(2):
            two, of_two = torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True)
            assert furthest(one, two) < ROUNDING, (name, rank)
            assert of_two == pytest.approx(losses(progress), rel=1e-4, abs=1e-6), (name, rank)


OPTIONS = (
    "resolution=16", "fmap_base=64", "fmap_max=16", "latent_size=8", "minibatch=4:8", "stabilise_images=160",
    "fade_images=160", "minibatch_repeats=2", "ema=0.9",
)  # fmt: skip


def training(run, *more):
    options = [part for option in OPTIONS for part in ("--option", option)]
    return [
        "-m", "reference_models.progan.cli", "train", "--data", "synthetic:leaves,resolution=16,n=64",
        "--preset", "tiny-32", "--total-images", 800, "--state-images", 80, "--workers", 0, "--out", run,
        *options, *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_a_shared_run_is_stopped_and_goes_on(tmp_path):
    run = tmp_path / "run"
    running = torchrun(*training(run))
    deadline = time.monotonic() + 120
    while not list((run / "states").glob("images*.safetensors")):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=120)
    assert said.count("the same command resumes from there") == 1
    ended = json.loads((run / "finished.json").read_text())
    assert ended["ended"] == "interrupted", said
    assert 80 <= ended["images_shown"] < 800
    states = sorted((run / "states").iterdir())
    assert int(re.sub(r"\D", "", states[-1].stem)) == ended["images_shown"]

    running = torchrun(*training(run))
    out, said = running.communicate(timeout=300)
    assert running.returncode == 0, said
    # One writes the checkpoint, and says so.
    last = checkpoints(run)[-1]
    assert out.split() == [str(last)]
    log = (run / "log.txt").read_text()
    assert log.count("begun at 0 images") == 1
    assert f"resumed at {ended['images_shown']:,} images" in log

    whole = tmp_path / "whole"
    running = torchrun(*training(whole))
    _, said = running.communicate(timeout=300)
    assert running.returncode == 0, said
    assert checkpoints(whole)[-1].read_bytes() == last.read_bytes()
    # Every rank holds the same weights, or the next step would be another on each.
    alone = subprocess.run(
        [sys.executable, *map(str, training(tmp_path / "alone"))],
        cwd=HERE, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (path,) = alone.stdout.split()
    one, two = load_file(path), load_file(last)
    # 100 steps let rounding grow; another order of images or weights that part would be far off.
    spread = max(float((one[name] - two[name]).abs().mean() / one[name].std().clamp(min=0.1)) for name in one)
    assert spread < 0.05, spread


@pytest.mark.slow
def test_a_minibatch_that_cannot_be_shared_is_refused_once_for_all(tmp_path):
    running = torchrun(*training(tmp_path / "run", "--option", "mbstd_group=8"))
    _, said = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "1 group of mbstd_group=8, which 2 ranks cannot share evenly" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_who_finds_the_first_process_gone_says_so(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "others.txt").write_text("not a run")
    running = torchrun(*training(tmp_path / "run"))
    _, said = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "no training run" in said


def test_a_process_by_itself_has_nobody_to_ask(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with process_group() as ranks:
        assert ranks == Ranks(0, 1)
    assert (ranks.all_reduce_max(7), ranks.broadcast_from_first(5)) == (7, 5)
    ranks.all_reduce_sum([torch.ones(2)])


def test_half_of_torchrun_s_variables_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(OptionError, match="start them with torchrun"), process_group():
        pass
