"""`progan sample` and `progan video`, as a person meets them."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pgmetrics.errors import OptionError, PgmetricsError, SourceError
from reference_models.progan.cli.sample import sample
from reference_models.progan.cli.video import video
from reference_models.progan.model.checkpoint import Checkpoint, save
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.networks import Generator
from reference_models.progan.sampling.source import ProGANSource
from tests.helpers.samplers import sample_images

CONFIG = ProGANConfig(resolution=16, fmap_base=64, fmap_max=16, latent_size=16, label_size=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory of a conditional network with a checkpoint at 4 x 4 and one at 8 x 8."""
    directory = tmp_path_factory.mktemp("run")
    (directory / "checkpoints").mkdir()
    for side in (4, 8):
        generator = Generator(CONFIG)
        initialize(generator, "generator", side)
        facts = Checkpoint(
            config=CONFIG,
            images_shown=side,
            resolution=side,
            alpha=1.0,
            data_fingerprint="none",
            licence="CC0",
            label_names=("cat", "dog"),
            label_distribution=(0.5, 0.5),
        )
        save(directory / "checkpoints" / f"images{side}.safetensors", facts, generator)
    return directory


@pytest.fixture
def paths(run):
    return [run / "checkpoints" / f"images{side}.safetensors" for side in (4, 8)]


def call(command, *arguments):
    return CliRunner().invoke(command, [str(a) for a in (*arguments, "--device", "cpu")])


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_grid_has_64_images_unless_told(paths, tmp_path):
    done = call(sample, paths[1], "--out", tmp_path / "a.png")
    assert done.exit_code == 0
    assert done.stdout == f"{tmp_path / 'a.png'}\n"
    assert pixels_of(tmp_path / "a.png").shape == (64, 64, 3)


def test_options_reach_the_images(paths, tmp_path):
    out = tmp_path / "a.zip"
    options = ("--num", 3, "--seed", 5, "--label", "dog", "--truncation", 0.5, "--at", "final")
    assert call(sample, paths[1], *options, "--out", out).exit_code == 0
    source = ProGANSource(paths[1], seed=5, at="final", label="dog", truncation=0.5)
    with zipfile.ZipFile(out) as archive, archive.open("00000002.png") as file:
        assert len(archive.namelist()) == 3
        assert (pixels_of(file) == source.batch([2])[0].transpose(1, 2, 0)).all()


@pytest.mark.parametrize("name", ["a.zip", "a.npz", "a.PNG", "a", "v1.5"])
def test_the_ending_decides(paths, tmp_path, name):
    out = tmp_path / name
    assert call(sample, paths[1], "--num", 2, "--out", out).exit_code == 0
    if name == "a.npz":
        assert list(np.load(out)) == ["arr_0"]
    elif name == "a.zip":
        assert zipfile.ZipFile(out).namelist() == ["00000000.png", "00000001.png"]
    elif name == "a.PNG":
        assert pixels_of(out).shape == (8, 16, 3)
    else:
        assert sorted(p.name for p in out.iterdir()) == ["00000000.png", "00000001.png"]


def test_checkpoints_and_labels_make_rows(paths, tmp_path):
    out = tmp_path / "a.png"
    done = call(sample, *paths, "--label", "dog", "--label", "cat", "--out", out)
    rows = pixels_of(out)
    assert rows.shape == (4 * 8, 8 * 8, 3)
    assert done.stdout == f"{out}\n"
    told = done.stderr.splitlines()
    assert [line.split(": ", 1)[0] for line in told] == ["row 1", "row 2", "row 3", "row 4"]
    assert told[1].endswith("images4.safetensors,seed=0,label=cat, 4 x 4")
    dogs = ProGANSource(paths[1], label="dog").batch(range(8))
    assert (rows[16:24, 56:] == dogs[7].transpose(1, 2, 0)).all()


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (("BOTH", "--out", "OUT"), "let --out end in .png"),
        (("ONE", "--label", "cat", "--label", "dog", "--out", "OUT/a.zip"), "let --out end in .png"),
        (("ONE", "--out", "OUT/a.jpg"), "got .jpg"),
        (("ONE", "--num", "0", "--out", "OUT/a.png"), "--num"),
        (("ONE", "--truncation", "0", "--out", "OUT/a.png"), "--truncation"),
        (("--out", "OUT/a.png"), "CHECKPOINT"),
    ],
)
def test_wrong_usage_of_sample(paths, tmp_path, arguments, fact):
    named = {"BOTH": [str(path) for path in paths], "ONE": [str(paths[0])]}
    given = [part.replace("OUT", str(tmp_path)) for a in arguments for part in named.get(a, [a])]
    refused = call(sample, *given)
    assert refused.exit_code == 2
    assert fact in refused.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_refusals_leave_nothing(paths, tmp_path):
    refused = call(sample, paths[0], "--label", "cow", "--out", tmp_path / "a")
    assert isinstance(refused.exception, OptionError)
    assert "no class 'cow'; it has cat, dog" in str(refused.exception)
    refused = call(sample, tmp_path / "missing", "--out", tmp_path / "a.zip")
    assert isinstance(refused.exception, SourceError)
    assert not list(tmp_path.iterdir())


def test_interpolation_has_the_length_and_size_asked_for(paths, tmp_path):
    out = tmp_path / "a.gif"
    done = call(video, "interpolate", paths[1], "--seconds", 2, "--fps", 10, "--num", 3, "--out", out)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{out}\n"
    with Image.open(out) as image:
        assert (image.n_frames, image.size) == (20, (256, 256))
    call(video, "interpolate", paths[1], "--seconds", 0.5, "--fps", 4, "--scale", 3, "--out", out)
    with Image.open(out) as image:
        assert (image.n_frames, image.size) == (2, (24, 24))


def test_interpolation_options_reach_the_video(paths, tmp_path, monkeypatch):
    seen = []

    def interpolation(sampler, **options):
        seen.append(options)
        raise PgmetricsError("enough")

    monkeypatch.setattr("reference_models.progan.sampling.video.interpolation", interpolation)
    common = (video, "interpolate", paths[1], "--out", tmp_path / "a.gif")
    call(*common)
    call(*common, "--seconds", 4, "--fps", 20)
    call(*common, "--smoothing", 2, "--seed", 7, "--num", 9, "--label", "dog")
    assert seen == [
        {"seed": 0, "num_images": 1, "num_frames": 300, "sigma": 30.0, "label": None},
        {"seed": 0, "num_images": 1, "num_frames": 80, "sigma": 8.0, "label": None},
        {"seed": 7, "num_images": 9, "num_frames": 300, "sigma": 60.0, "label": "dog"},
    ]


def test_growth_goes_through_a_run(run, tmp_path):
    out = tmp_path / "a.webp"
    options = ("--seconds", 0.3, "--fps", 10, "--label", "dog", "--truncation", 0.5, "--seed", 3)
    done = call(video, "grow", run, *options, "--out", out)
    assert done.exit_code == 0, done.output
    sources = [
        ProGANSource(path, seed=3, label="dog", truncation=0.5)
        for path in sorted((run / "checkpoints").iterdir())
    ]
    with Image.open(out) as image:
        assert image.n_frames == 2  # the writer joins frames that are alike
        for k, source, scale in ((0, sources[0], 64), (1, sources[1], 32)):
            image.seek(k)
            image.load()
            assert image.info["duration"] == 300
            expected = source.batch([0])[0].repeat(scale, axis=1).repeat(scale, axis=2).transpose(1, 2, 0)
            # The video is lossy, mostly where colors meet.
            assert np.abs(np.asarray(image.convert("RGB"), float) - expected).mean() < 8


def test_growth_takes_checkpoints_in_the_order_given(paths, tmp_path):
    out = tmp_path / "a.gif"
    done = call(video, "grow", paths[1], paths[0], "--seconds", 1, "--fps", 1, "--scale", 1, "--out", out)
    assert done.exit_code == 0, done.output
    first = sample_images(paths[1], 1)[0].transpose(1, 2, 0)
    with Image.open(out) as image:
        assert np.abs(np.asarray(image.convert("RGB"), float) - first).max() <= 2


def test_wrong_usage_of_video(paths, tmp_path):
    refused = call(video, "grow", tmp_path, "--out", tmp_path / "a.gif")
    assert refused.exit_code == 2
    assert "has no checkpoints" in refused.stderr.splitlines()[-1]
    refused = call(video, "interpolate", paths[0], "--out", tmp_path / "a.avi")
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1].startswith("Error: ")
    refused = call(video, "interpolate", paths[0], "--smoothing", 5, "--out", tmp_path / "a.gif")
    assert "hardly move" in refused.stderr
    assert not list(tmp_path.iterdir())
