"""A run that was stopped, killed or damaged goes on, and ends as one that never was."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pgmetrics.errors import OptionError, PgmetricsError, StateError
from pgmetrics.runtime.files import parse_json
from pgmetrics.sources.arrays import ArraySource
from reference_models.progan.model.checkpoint import checkpoints, inspect, recognizes
from reference_models.progan.model.schedule import stage
from reference_models.progan.training import run_directory
from reference_models.progan.training.signals import Interrupted
from reference_models.progan.training.train import train
from reference_models.progan.training.trainer import Trainer
from tests.helpers.configs import TO_16

ROOT = Path(__file__).parents[4]


# 4 until 40, fading to 8 until 64, 8 until 104, fading to 16 until 128, 16 until 192; a look is 8 images.
LSGAN = replace(TO_16, loss="lsgan", noise_strength=5.0)


class Killed(BaseException):
    """What nothing in the program expects."""


class Labeled(ArraySource):
    label_names = ("cat", "dog", "owl")

    @property
    def labels(self):
        return np.arange(len(self)) % 3


def source(kind=ArraySource, seed=5):
    return kind(np.random.default_rng(seed).integers(0, 256, (40, 3, 16, 16)).astype(np.uint8))


def after(looks, error=Killed):
    """A report that ends the run in whatever way after some looks."""
    seen = []

    def report(progress):
        seen.append(progress)
        if len(seen) == looks:
            raise error

    return report


def at(images_shown, act):
    """A report that acts at a moment of the run."""
    return lambda progress: act() if progress.images_shown == images_shown else None


def end(run):
    """Everything in a run that later steps or samples depend on, at its end: bytes by file name."""
    files = [max((run / "states").iterdir()), *checkpoints(run), *(run / "grids").iterdir()]
    return {path.relative_to(run): path.read_bytes() for path in files}


def names(run):
    """Every file of a run, whatever is in it."""
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that nothing happened to."""
    run = tmp_path_factory.mktemp("straight") / "run"
    train(source(), run, TO_16, licence="CC0")
    return run


def go_on(run, config=TO_16, **options):
    return train(source(), run, config, licence="CC0", **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (TO_16, ArraySource),
        (LSGAN, ArraySource),  # the average of its scores is state, too
        (replace(TO_16, label_size=3, simultaneous=True, mirror=True), Labeled),
        (replace(TO_16, generator_norm="batch", d_repeats=2), ArraySource),
    ],
    ids=["wgan-gp", "lsgan", "labels", "batch-norm"],
)
def test_a_run_killed_after_every_look_ends_as_one_that_was_not(tmp_path, config, kind):
    # So it is entered before, within and after both fades, and right where the optimizers forget.
    train(source(kind), tmp_path / "straight", config)
    lives = 0
    while True:
        lives += 1
        try:
            train(source(kind), tmp_path / "run", config, state_images=1, report=after(2))
            break
        except Killed:
            assert lives < 30
    assert lives > 10
    assert end(tmp_path / "run") == end(tmp_path / "straight")


@pytest.mark.slow
def test_steps_that_were_lost_are_made_again(tmp_path, straight):
    # States at 48, 96 and 144 are all there is: within fades, and each life repeats steps of the last one.
    for looks in (5, 7, 10, 8, 3):  # to 40, 56, 128, 160 and 168
        with pytest.raises(Killed):
            go_on(tmp_path / "run", state_images=48, report=after(looks))
    go_on(tmp_path / "run", state_images=48)
    assert end(tmp_path / "run") == end(straight)


KILLED = """
import os, signal, sys
from reference_models.progan.model import checkpoint
from reference_models.progan.training.trainer import Trainer
sys.path.insert(0, {tests!r})
from test_resume import TO_16, go_on
from pathlib import Path

where = {where!r}

def kill(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)

if where == "state":
    rename = os.replace
    def replace(source, target):
        if "states" in str(target) and "72." in str(target):
            kill()
        rename(source, target)
    os.replace = replace
elif where == "step":
    update = Trainer._update
    def updating(self, adam, network, *rest):
        if self.images_shown == 120 and network is self.generator:
            adam.step()
            kill()
        update(self, adam, network, *rest)
    Trainer._update = updating
else:
    make = Path.mkdir
    def mkdir(self, *args, **options):
        if self.name == "checkpoints":
            kill()
        make(self, *args, **options)
    Path.mkdir = mkdir
go_on(Path(sys.argv[1]), state_images=24)
"""


@pytest.mark.slow
def test_kill_9_in_the_midst_of_anything(tmp_path, straight):
    # Before there is anything, within the write of a state, and between two halves of a step in a fade.
    run = tmp_path / "run"
    for where, newest in (("beginning", None), ("state", 48), ("step", 96)):
        code = KILLED.format(tests=str(Path(__file__).parent), where=where)
        done = subprocess.run(
            [sys.executable, "-c", code, str(run)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        found = sorted(path.name for path in (run / "states").glob("images*"))
        assert found[-1:] == ([] if newest is None else [f"images{newest:010d}.safetensors"])
        assert bool(list(run.rglob("*.part"))) == (where == "state")  # gone when the run goes on
        assert not (run / "finished.json").exists()
    go_on(run)
    assert end(run) == end(straight)
    assert not list(run.rglob("*.part"))
    assert json.loads((run / "finished.json").read_text())["ended"] == "complete"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_who_asks_for_a_stop_finds_the_state_saved(tmp_path, straight, number, code):
    # Asked in the midst of a step, which is finished first. In a fade, so that nothing else is due.
    run = tmp_path / "run"
    update = Trainer._update

    def updating(self, adam, network, *rest):
        if self.images_shown == 108 and network is self.discriminator:
            os.kill(os.getpid(), number)
        update(self, adam, network, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_update", updating)
        with pytest.raises(Interrupted, match="112 images") as stopped:
            go_on(run)
    assert stopped.value.exit_code == code
    assert [path.name for path in (run / "states").iterdir()] == ["images0000000112.safetensors"]
    facts = inspect(checkpoints(run)[-1])
    assert (facts.images_shown, facts.resolution, facts.alpha) == (112, 16, 0.25)
    assert json.loads((run / "finished.json").read_text()) == {"ended": "interrupted", "images_shown": 112}
    # Handlers are what they were.
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    go_on(run, report=at(120, lambda: not (run / "finished.json").exists() or pytest.fail("not over")))
    assert end(run) == end(straight)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [TO_16, replace(TO_16, generator_norm="batch", total_images=80)],
    ids=["wgan-gp", "batch-norm"],
)
def test_a_run_interrupted_at_every_look_becomes_one_that_never_was(tmp_path, config):
    # Seen before: the checkpoint of a fade's end overwritten by one of alpha 0.75, for good; checkpoints,
    # grids and states of the interrupts left among the others; statistics of a batch norm measured for a
    # checkpoint that an undisturbed run does not have, in the next state.
    options = {"state_images": 40, "keep_states": 3}
    train(source(), tmp_path / "straight", config, **options)
    run = tmp_path / "run"
    for shown in range(8, config.total_images, 8):
        with pytest.raises(Interrupted, match=f"stopped at {shown} images"):
            train(source(), run, config, report=after(1, KeyboardInterrupt), **options)
        # Where it stands can be sampled: at the end of a fade, faded in.
        (facts,) = [facts for facts in map(inspect, checkpoints(run)) if facts.images_shown == shown]
        assert facts.alpha == (1.0 if shown in (64, 128) else stage(shown - 8, config).alpha)
        assert (run / "states" / f"images{shown:010d}.safetensors").exists()
    train(source(), run, config, **options)
    assert end(run) == end(tmp_path / "straight")
    assert names(run) == names(tmp_path / "straight")


@pytest.mark.slow
def test_an_interrupt_never_costs_a_state_that_is_kept(tmp_path):
    # The newest may be damaged: two states are kept in case, and those of interrupts come on top.
    run = tmp_path / "run"

    def kept():
        return sorted(int(path.stem[6:]) for path in (run / "states").iterdir())

    for looks, states in ((3, [24]), (4, [40, 56]), (2, [40, 72]), (1, [40, 80]), (6, [80, 120, 128])):
        with pytest.raises(Interrupted):
            go_on(run, state_images=40, report=after(looks, KeyboardInterrupt))
        assert kept() == states
    go_on(run, state_images=40)
    assert kept() == [160, 192]


@pytest.mark.slow
def test_who_names_files_of_others_as_provisional_does_not_have_them_removed(tmp_path):
    run, other = tmp_path / "run", tmp_path / "images.txt"
    with pytest.raises(Interrupted):
        go_on(run, report=after(3, KeyboardInterrupt))
    other.write_text("x")
    (run / "provisional.json").write_text(
        json.dumps(
            ["../images.txt", "checkpoints/../../images.txt", "checkpoints/..", str(other), 7, "run.json"]
        )
    )
    go_on(run)
    assert other.exists()
    assert (run / "run.json").exists()


def cut(path, keep=0.5):
    os.truncate(path, int(path.stat().st_size * keep))


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0, 0.001, 0.5, 0.999])
def test_a_state_that_was_cut_short_is_passed_over_for_the_one_before(tmp_path, straight, keep):
    run, warnings = tmp_path / "run", []
    with pytest.raises(Killed):
        go_on(run, state_images=40, report=after(16))
    assert sorted(path.name[6:16] for path in (run / "states").iterdir()) == ["0000000080", "0000000120"]
    cut(run / "states" / "images0000000120.safetensors", keep)
    seen = []
    go_on(run, report=lambda progress: seen.append(progress.images_shown), warn=warnings.append)
    assert seen[0] == 88
    (warning,) = warnings
    assert "images0000000120.safetensors was cut short or damaged" in warning
    assert warning in (run / "log.txt").read_text()
    assert end(run) == end(straight)


@pytest.mark.slow
def test_without_a_state_that_can_be_read_nothing_is_begun_anew(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Killed):
        go_on(run, state_images=40, report=after(16))
    for path in (run / "states").iterdir():
        cut(path)
    with pytest.raises(StateError, match=r"no state in .* can be read; delete that directory"):
        go_on(run)


@pytest.mark.slow
def test_only_the_last_states_are_kept_and_none_of_a_lost_future(tmp_path):
    run = tmp_path / "run"

    def kept():
        return sorted(int(path.stem[6:]) for path in (run / "states").iterdir())

    with pytest.raises(Killed):
        go_on(run, state_images=24, keep_states=3, report=after(20))
    assert kept() == [96, 120, 144]
    cut(run / "states" / "images0000000144.safetensors")
    with pytest.raises(Killed):
        go_on(run, state_images=8, report=after(2))
    # Or the damaged one would be kept for the newest, in place of one that can be read.
    assert kept() == [120, 128]
    with pytest.raises(OptionError, match="keep_states is a whole number at least 1"):
        go_on(run, keep_states=0)
    with pytest.raises(OptionError, match=r"state_images is a whole number at least 1 .*, not 0"):
        go_on(run, state_images=0)


@pytest.mark.slow
def test_states_are_saved_every_five_minutes_unless_told_otherwise(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(run_directory.time, "monotonic", lambda: now[0])

    def minute(progress):
        now[0] += 60

    saved = []
    save = run_directory.RunDirectory.save_state
    monkeypatch.setattr(
        run_directory.RunDirectory,
        "save_state",
        lambda self, state: (saved.append(state.images_shown), save(self, state)),
    )
    go_on(tmp_path / "run", report=minute)
    assert saved == [40, 80, 120, 160, 192]
    # Looks come every 8 images: a state is due at the first one past each 30.
    saved.clear()
    go_on(tmp_path / "other", state_images=30, report=minute)
    assert saved == [32, 64, 96, 120, 152, 184, 192]


def rows(run):
    return [parse_json(line) for line in (run / "stats.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_numbers_go_on_without_gaps_or_repeats(tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory, "_IMAGES_BETWEEN_STATS", 20)
    go_on(tmp_path / "straight")
    run = tmp_path / "run"
    for looks in (9, 10):
        with pytest.raises(Killed):
            go_on(run, state_images=40, report=after(looks))
        with (run / "stats.jsonl").open("a") as file:
            file.write('{"images_shown": 1')  # what a kill leaves of a line
    # An earlier version wrote NaN where a loss was not finite.
    text = (run / "stats.jsonl").read_text()
    (run / "stats.jsonl").write_text(re.sub('"real": [^,]+', '"real": NaN', text, count=1))
    go_on(run)

    def timeless(run):
        return [{name: row[name] for name in row if name != "images_per_second"} for row in rows(run)]

    expected = timeless(tmp_path / "straight")
    expected[0]["real"] = None
    assert timeless(run) == expected
    assert [row["images_shown"] for row in rows(run)] == [24, 48, 72, 96, 120, 144, 168, 192]
    assert all(row["images_per_second"] > 0 for row in rows(run))
    log = (run / "log.txt").read_text().splitlines()
    told = [line[21:] for line in log]
    assert told[0] == "begun at 0 images"
    assert [line for line in told if line.startswith("resumed")] == [
        "resumed at 40 images",
        "resumed at 80 images",
    ]
    assert told[-1] == "complete at 192 images"
    assert any(line.startswith("wrote images0000000064-res0008") for line in told)
    assert any("8 x 8, alpha 0.25" in line and "img/s" in line for line in told)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"config": replace(TO_16, ema=0.99)}, r"with ema=0\.9, not 0\.99"),
        ({"config": replace(TO_16, seed=1, ema=0.99)}, r"with ema=0\.9, not 0\.99"),  # the first
        ({"config": replace(TO_16, minibatch={4: 8})}, r'with minibatch=\{"4": 4\}, not \{"4": 8\}'),
        ({"config": replace(TO_16, total_images=96)}, "with total_images=192, not 96"),
        ({"source": source(seed=6)}, "a run on other images"),
        ({"licence": "CC BY 4.0"}, "with licence=CC0, not CC BY"),
        ({"crop": True}, "with crop=false, not true"),
    ],
)
def test_a_run_with_other_settings_is_left_alone(tmp_path, straight, change, fact):
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    arguments = {"source": source(), "run_dir": run, "config": TO_16, "licence": "CC0"} | change
    with pytest.raises(OptionError, match=fact) as refused:
        train(**arguments)
    assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_run_can_be_made_longer(tmp_path, straight):
    # No step depends on how many are to come. Its end lies in a fade that begins at 96 and is seen at 104.
    run = tmp_path / "run"
    go_on(run, replace(TO_16, total_images=104))
    go_on(run)
    resumed, wanted = end(run), end(straight)
    # Only its shorter self's last checkpoint differs, and the checkpoints from before say what was planned.
    state = Path("states/images0000000192.safetensors")
    assert resumed[state] == wanted[state]
    last = checkpoints(straight)[-1].relative_to(straight)
    assert resumed[last] == wanted[last]
    assert json.loads((run / "config.json").read_text())["total_images"] == 192


def test_a_complete_run_is_not_touched(tmp_path, straight):
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    last = go_on(run, report=lambda progress: pytest.fail("trained"))
    assert last == checkpoints(run)[-1]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before
    # Killed right after its last state, it only lacks the word; or somebody lost the checkpoint.
    (run / "finished.json").unlink()
    go_on(run)
    assert json.loads((run / "finished.json").read_text())["ended"] == "complete"
    wanted = last.read_bytes()
    last.unlink()
    assert go_on(run).read_bytes() == wanted


def test_two_trainings_in_one_directory_are_one_too_many(tmp_path):
    def again():
        with pytest.raises(OptionError, match="trained in by another process"):
            go_on(tmp_path / "run")

    go_on(tmp_path / "run", replace(TO_16, total_images=16), report=at(8, again))


@pytest.mark.slow
def test_files_of_others_may_lie_beside_those_of_a_run(tmp_path, straight):
    # Scoring writes its store there, and its page.
    run = tmp_path / "run"
    with pytest.raises(Killed):
        go_on(run, state_images=40, report=after(9))
    (run / "scores.jsonl").write_text("{}\n")
    go_on(run)
    assert end(run) == end(straight)
    assert (run / "scores.jsonl").read_text() == "{}\n"


def test_what_is_left_of_a_beginning_is_no_hindrance(tmp_path):
    (tmp_path / ".run.json.4711.part").write_text("{")
    train(source(), tmp_path, replace(TO_16, total_images=8))
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(OptionError, match=r"run\.json cannot be read .*; take another directory"):
        train(source(), tmp_path, replace(TO_16, total_images=8))


def test_a_state_is_not_taken_for_a_checkpoint(straight):
    # Scoring a run scores whatever a plug-in recognizes in it.
    assert not any(recognizes(path) for path in (straight / "states").iterdir())


@pytest.mark.slow
def test_a_disk_that_is_too_small_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    def free(size):
        usage = namedtuple("usage", "total used free")(10**12, 0, size)
        monkeypatch.setattr(run_directory.shutil, "disk_usage", lambda path: usage)

    needed = run_directory.bytes_of_run(TO_16, 8, 2)
    free(needed - 1)
    with pytest.raises(PgmetricsError, match=r"will need about .* MB .* and its disk has .* left"):
        go_on(tmp_path / "run", snapshot_images=8)
    assert not any((tmp_path / "run").iterdir())
    free(needed)
    go_on(tmp_path / "run", snapshot_images=8)
    # The estimate is one: not below what was written, and of that order.
    written = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert 0.2 * needed < written < needed


@pytest.mark.slow
def test_a_run_of_an_older_version_goes_on_where_its_images_are_vouched_for(tmp_path, straight):
    # That version identified images by names and times, so that nobody can tell whether these are the same.
    run = tmp_path / "run"
    with pytest.raises(Killed):
        go_on(run, state_images=40, report=after(9))
    settings = json.loads((run / "run.json").read_text())
    settings["data_fingerprint"] = "directory:a3dccffc59c5,resolution=None,resize=None,alpha=None,bits=None"
    (run / "run.json").write_text(json.dumps(settings))
    with pytest.raises(OptionError, match=r"by an older version.*--same-images resumes with them") as refused:
        go_on(run)
    assert "\n" not in str(refused.value)
    told = []
    go_on(run, same_images=True, warn=told.append)
    assert "taken for those that the run began with" in told[0]
    assert end(run) == end(straight)
    # From then on they are identified, and others are no longer vouched for.
    with pytest.raises(OptionError, match="is a run on other images"):
        train(source(seed=6), run, TO_16, same_images=True)
