"""`progan video`, as a person meets it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pgmetrics.errors import PgmetricsError
from reference_models.progan.cli.video import video
from reference_models.progan.sampling.source import ProGANSource
from tests.helpers.commands import call
from tests.helpers.samplers import sample_images


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
