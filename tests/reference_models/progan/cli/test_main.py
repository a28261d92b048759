"""The `progan` command, as a person meets it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from reference_models.progan.cli import main
from reference_models.progan.cli.training_bar import TrainingBar
from reference_models.progan.model import presets as configs
from reference_models.progan.model.checkpoint import Checkpoint, checkpoints, save
from reference_models.progan.model.checkpoint import inspect as inspect_checkpoint
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.flops import presets_table
from reference_models.progan.model.networks import Generator
from reference_models.progan.model.presets import PRESETS

CONFIG = ProGANConfig(
    resolution=8,
    fmap_base=32,
    fmap_max=8,
    latent_size=8,
    minibatch={4: 4},
    stabilise_images=32,
    fade_images=32,
    total_images=96,
)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A directory with images/, and run/ trained on them."""
    directory = tmp_path_factory.mktemp("cli")
    (directory / "images").mkdir()
    for k in range(20):
        pixels = np.random.default_rng(k).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(directory / "images" / f"{k}.png")
    return directory


@pytest.fixture(autouse=True)
def presets(monkeypatch):
    monkeypatch.setattr(
        configs, "PRESETS", dict(PRESETS) | {"test-8": CONFIG, "test-16": replace(CONFIG, resolution=16)}
    )


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def progan(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def train(here, *arguments):
    return progan("train", "--data", here / "images", "--workers", 0, "--device", "cpu", *arguments)


@pytest.fixture(scope="module")
def checkpoint(here):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configs, "PRESETS", {"test-8": CONFIG})
        done = train(here, "--preset", "test-8", "--out", here / "run", "--licence", "CC0", "--seed", 3)
    assert done.exit_code == 0, done.stderr
    path = checkpoints(here / "run")[-1]
    # The result, and nothing else, on stdout; on stderr, a pipe here, nothing of a run of seconds.
    assert done.stdout == f"{path}\n"
    assert done.stderr == ""
    return path


@pytest.mark.slow
def test_inspect_reads_what_train_wrote(checkpoint):
    facts = json.loads(progan("inspect", checkpoint, "--format", "json").stdout)
    assert (facts["images_shown"], facts["resolution"], facts["licence"]) == (96, 8, "CC0")
    assert facts["config"] == replace(CONFIG, seed=3).to_json()
    table = progan("inspect", checkpoint).stdout.splitlines()
    assert any(line.split() == ["images_shown", "96"] for line in table)


def test_samples_are_a_grid_or_a_folder(here, checkpoint):
    grid = progan("sample", checkpoint, "--num", 5, "--seed", 1, "--out", here / "grid.png")
    assert grid.stdout == f"{here / 'grid.png'}\n"
    assert pixels_of(here / "grid.png").shape == (16, 24, 3)
    folder = progan("sample", checkpoint, "--num", 5, "--seed", 1, "--out", here / "samples")
    assert folder.exit_code == 0
    first = pixels_of(here / "samples" / "00000000.png")
    assert (first == pixels_of(here / "grid.png")[:8, :8]).all()


@pytest.mark.parametrize(("option", "value"), [("--kimg", "0.008"), ("--total-images", "8")])
def test_training_ends_where_it_is_told(here, tmp_path, option, value):
    done = train(here, "--preset", "test-8", "--out", tmp_path / "run", option, value)
    facts = json.loads(progan("inspect", done.stdout.strip(), "--format", "json").stdout)
    # In whole repeats of 4 steps of 4 images.
    assert (facts["images_shown"], facts["resolution"]) == (16, 4)


def test_other_sizes_need_a_policy(here, tmp_path):
    refused = train(here, "--preset", "test-16", "--out", tmp_path / "run")
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1].startswith("Error: ")
    assert "8 x 8, smaller than the final resolution 16" in refused.stderr
    done = train(
        here, "--preset", "test-16", "--out", tmp_path / "run", "--total-images", 8, "--resize", "bicubic"
    )
    assert done.exit_code == 0, done.stderr


def test_procedural_images_have_the_preset_s_resolution(tmp_path):
    arguments = ("--data", "synthetic:leaves,n=8", "--preset", "test-16", "--total-images", 8, "--workers", 0)
    done = progan("train", *arguments, "--out", tmp_path / "run", "--device", "cpu")
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "fact"),
    [
        (("train", "--preset", "test-9", "--out", "OUT"), 1, "unknown preset 'test-9'; choose from "),
        (("train", "--preset", "test-8", "--out", "IMAGES"), 1, "not empty"),
        (("train", "--preset", "test-8", "--out", "OUT", "--device", "abacus"), 1, "device 'abacus'"),
        (
            ("train", "--preset", "test-8", "--out", "OUT", "--kimg", "1", "--total-images", "5"),
            2,
            "say the same",
        ),
        (("train", "--preset", "test-8"), 2, "Missing option '--out'"),
        (("sample", "IMAGES/0.png", "--out", "OUT"), 1, "not a ProGAN checkpoint"),
        (("sample", "missing", "--out", "OUT"), 1, "No such file"),
        (("sample", "missing", "--out", "OUT", "--num", "0"), 2, "--num"),
        (("inspect", "IMAGES/0.png"), 1, "not a ProGAN checkpoint"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(here, tmp_path, arguments, code, fact):
    arguments = [
        a.replace("IMAGES", str(here / "images")).replace("OUT", str(tmp_path / "out")) for a in arguments
    ]
    if arguments[0] == "train":
        arguments[1:1] = ["--data", str(here / "images")]
    refused = progan(*arguments)
    assert refused.exit_code == code
    assert fact in refused.stderr.splitlines()[-1]
    assert refused.stderr.splitlines()[-1].startswith("Error: ")
    assert refused.stdout == ""
    assert not list((tmp_path / "out").glob("*"))


def test_presets_are_listed_with_what_they_cost(monkeypatch):
    monkeypatch.setattr(configs, "PRESETS", PRESETS)
    out = progan("presets").stdout
    assert out == presets_table() + "\n"
    assert all(name in out for name in PRESETS)
    as_json = json.loads(progan("presets", "--format", "json").stdout)
    assert as_json["cifar10-32"] == PRESETS["cifar10-32"].to_json()


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_with_the_same_command(here, tmp_path, checkpoint, monkeypatch):
    def arguments(out):
        return ("--preset", "test-8", "--out", out, "--licence", "CC0", "--seed", 3)

    stages = []

    def stop(bar, progress):
        stages.append(progress.images_shown)
        if progress.images_shown == 48:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TrainingBar, "report", stop)
    stopped = train(here, *arguments(tmp_path / "run"))
    assert stopped.exit_code == 143
    assert stopped.stdout == ""
    assert stopped.stderr.splitlines()[-1] == "stopped at 48 images; the same command resumes from there"
    done = train(here, *arguments(tmp_path / "run"))
    assert done.exit_code == 0, done.stderr
    assert stages == [16, 32, 48, 64, 80, 96]
    assert Path(done.stdout.strip()).read_bytes() == checkpoint.read_bytes()
    # As Ctrl-C while images are decoded, where there is nothing to save.
    monkeypatch.setattr("reference_models.progan.training.train.TrainingImages", ctrl_c)
    stopped = train(here, *arguments(tmp_path / "new"))
    assert (stopped.exit_code, stopped.stderr.splitlines()[-1]) == (130, "stopped")
    refused = train(here, *arguments(tmp_path / "run"), "--option", "ema=0.5")
    assert refused.exit_code == 1
    assert "is a run with ema=0.999, not 0.5" in refused.stderr.splitlines()[-1]


def ctrl_c(*args, **options):
    raise KeyboardInterrupt


def test_options_change_the_preset(here, tmp_path):
    options = ("--option", "loss=lsgan", "--option", "noise_strength=0.2", "--option", "minibatch=4:8")
    done = train(here, "--preset", "test-8", "--out", tmp_path / "run", "--total-images", 8, *options)
    config = inspect_checkpoint(Path(done.stdout.strip())).config
    assert (config.loss, config.noise_strength, config.minibatch) == ("lsgan", 0.2, {4: 8})
    refused = train(here, "--preset", "test-8", "--out", tmp_path / "no", "--option", "color=blue")
    assert refused.exit_code == 1
    assert "'color=blue' is not an option" in refused.stderr


@pytest.mark.slow
def test_states_are_kept_as_asked(here, tmp_path):
    asked = ("--state-images", 16, "--keep-states", 3)
    train(here, "--preset", "test-8", "--out", tmp_path / "run", *asked)
    kept = sorted(int(path.stem[6:]) for path in (tmp_path / "run" / "states").iterdir())
    assert kept == [64, 80, 96]


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("2000000000", "class 2,000,000,000; at most 100,000 classes are taken"),
        ("[0.5, 0.5]", "a vector; a class is a whole number"),
    ],
)
def test_a_broken_dataset_json_is_told_and_refused_where_classes_are_asked_for(here, tmp_path, label, reason):
    # Catches training without classes, and without a word, on a set that seems to have them.
    images = shutil.copytree(here / "images", tmp_path / "images")
    pairs = ", ".join(f'["{k}.png", {label}]' for k in range(20))
    (images / "dataset.json").write_text(f'{{"labels": [{pairs}]}}')
    reason = f"dataset.json gives 0.png {reason}"
    arguments = ("--preset", "test-8", "--total-images", 8, "--workers", 0, "--device", "cpu")
    command = ("train", "--data", images, *arguments, "--out", tmp_path / "run")
    refused = progan(*command, "--conditional")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.splitlines() == [f"Error: {images} has no classes to condition on; {reason}"]
    for done in (progan(*command), progan("data", images, "--workers", 0, "--out", tmp_path / "set")):
        assert done.exit_code == 0, done.stderr
        assert f"Warning: {images} has no classes: {reason}" in done.stderr.splitlines()


def test_classes_are_learned_from_folders_of_a_prepared_set(tmp_path):
    for k in range(12):
        folder = tmp_path / "images" / ("cat", "dog")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 256, (8, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    arguments = (
        "--preset",
        "test-8",
        "--total-images",
        8,
        "--workers",
        0,
        "--device",
        "cpu",
        "--conditional",
    )
    straight = progan(
        "train", "--data", tmp_path / "images", "--crop", *arguments, "--out", tmp_path / "straight"
    )
    assert straight.exit_code == 0, straight.stderr
    prepared = progan(
        "data", tmp_path / "images", "--crop", "--mirror", "--workers", 0, "--out", tmp_path / "set"
    )
    assert prepared.exit_code == 0, prepared.stderr
    done = progan("train", "--data", tmp_path / "set", *arguments, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    for path, mirror in ((straight.stdout, False), (done.stdout, True)):
        facts = inspect_checkpoint(Path(path.strip()))
        assert facts.label_names == ("cat", "dog")
        assert facts.config.mirror == mirror
    # What the command line says goes before what the set says.
    done = progan(
        "train", "--data", tmp_path / "set", *arguments, "--out", tmp_path / "own", "--option", "mirror=false"
    )
    assert not inspect_checkpoint(Path(done.stdout.strip())).config.mirror


def test_every_command_is_there():
    commands = set(main.commands)
    assert commands == {"train", "inspect", "presets", "bench", "data", "import", "sample", "video"}


@pytest.mark.slow
def test_snapshots_are_taken_as_often_as_asked(here):
    done = train(here, "--out", here / "often", "--preset", "test-8", "--snapshot-images", 16)
    assert done.exit_code == 0, done.output
    shown = [inspect_checkpoint(path).images_shown for path in checkpoints(here / "often")]
    assert shown == [16, 32, 48, 64, 80, 96]
    assert (here / "often" / "untrained.safetensors").exists()
    assert json.loads((here / "often" / "finished.json").read_text())["ended"] == "complete"
    refused = train(here, "--out", here / "never", "--preset", "test-8", "--snapshot-images", 0)
    assert refused.exit_code == 2
    assert not (here / "never").exists()


def test_how_steps_are_made_is_passed_on(tmp_path, monkeypatch):
    asked = {}

    def training(source, run_dir, config, **options):
        asked.update(options, precision=config.precision)
        return run_dir

    monkeypatch.setattr("reference_models.progan.training.train.train", training)
    arguments = ["train", "--data", "synthetic:leaves,resolution=32,n=64", "--preset", "tiny-32"]
    more = [
        "--compile",
        "--micro-batch",
        "4",
        "--option",
        "precision=bfloat16",
        "--out",
        str(tmp_path / "run"),
    ]
    done = CliRunner().invoke(main, [*arguments, *more])
    assert done.exit_code == 0, done.stderr
    assert (asked["compiled"], asked["micro_batch"], asked["precision"]) == (True, 4, "bfloat16")


def test_files_that_are_left_out_of_training_are_told(here, tmp_path, caplog):
    images = shutil.copytree(here / "images", tmp_path / "images")
    (images / "notes.txt").touch()
    arguments = ("--preset", "test-8", "--out", tmp_path / "run", "--total-images", 8, "--workers", 0)
    assert progan("train", "--data", images, *arguments, "--device", "cpu").exit_code == 0
    assert caplog.messages == [f"{images}: 1 file left out: 1 .txt"]


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e300"])
@pytest.mark.parametrize(
    "command",
    [
        ["train", "--data", "images", "--out", "new", "--preset", "tiny-32", "--kimg"],
        ["video", "interpolate", "CHECKPOINT", "--out", "new.gif", "--seconds"],
        ["video", "interpolate", "CHECKPOINT", "--out", "new.gif", "--smoothing"],
        ["video", "grow", "CHECKPOINT", "--out", "new.gif", "--seconds"],
        ["sample", "CHECKPOINT", "--out", "new.png", "--truncation"],
    ],
    ids=lambda command: " ".join((*command[:2], command[-1])),
)
def test_numbers_of_options_are_finite(tmp_path, command, number):
    # click takes nan for a number in any range, and inf for one in a range without an end.
    checkpoint = tmp_path / "untrained.safetensors"
    save(
        checkpoint,
        Checkpoint(config=CONFIG, images_shown=0, resolution=8, alpha=1.0, data_fingerprint="", licence=""),
        Generator(CONFIG),
    )
    done = CliRunner().invoke(
        main, [str(checkpoint) if part == "CHECKPOINT" else part for part in command] + [number]
    )
    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.output.splitlines()[-1].startswith("Error: ")
