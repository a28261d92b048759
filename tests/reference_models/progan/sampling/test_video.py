"""Videos: the path of the latents, the frames, and the files that players read."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pgmetrics.errors import OptionError, PgmetricsError, SourceError
from reference_models.progan.model.checkpoint import Checkpoint, save
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.networks import Generator
from reference_models.progan.sampling import video
from reference_models.progan.sampling.latents import latents
from reference_models.progan.sampling.sampler import Sampler
from reference_models.progan.sampling.source import ProGANSource
from reference_models.progan.sampling.video import Video, growth, interpolation, save_video, wandering_latents

CONFIG = ProGANConfig(resolution=16, fmap_base=64, fmap_max=16, latent_size=16)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    def write(resolution=8, **options):
        config = replace(CONFIG, **options)
        generator = Generator(config)
        initialize(generator, "generator", resolution)
        classes = config.label_size
        facts = Checkpoint(
            config=config,
            images_shown=5,
            resolution=resolution,
            alpha=1.0,
            data_fingerprint="none",
            licence="CC0",
            label_names=tuple(f"class {k}" for k in range(classes)),
            label_distribution=(1 / classes,) * classes if classes else (),
        )
        path = tmp_path_factory.mktemp("checkpoint") / "c.safetensors"
        save(path, facts, generator)
        return path

    return write


def plain(num_frames, side=8):
    """A video with another grey in each frame."""
    frames = [np.full((1, 3, side, side), 20 * (k % 12), np.uint8) for k in range(num_frames)]
    return Video(side, 1, num_frames, frames)


def frames_of(path):
    """The frames as float RGB, and their durations in milliseconds."""
    frames, durations = [], []
    with Image.open(path) as image:
        for k in range(image.n_frames):
            image.seek(k)
            image.load()
            frames.append(np.asarray(image.convert("RGB"), float))
            durations.append(image.info["duration"])
    return frames, durations


def test_latents_wander_as_published():
    # The recipe in the frequency domain: noise times the Gaussian's spectrum, over the root mean square.
    n, sigma = 60, 4.0
    path = wandering_latents(3, 1, n, 512, sigma)
    assert path.dtype == np.float32
    noise = wandering_latents(3, 1, n, 512, 0.0)
    steps = np.minimum(np.arange(n), n - np.arange(n))
    kernel = np.exp(-(steps**2) / (2 * sigma**2))
    smooth = np.fft.ifft(np.fft.fft(noise, axis=0) * np.fft.fft(kernel / kernel.sum())[:, None], axis=0).real
    # The filter ends at four sigma, where the Gaussian is 3e-4 of its height.
    assert path == pytest.approx(smooth / np.sqrt((smooth**2).mean()), abs=2e-3)
    assert float((path**2).mean()) == pytest.approx(1, abs=1e-5)


def test_the_path_is_closed():
    path = wandering_latents(0, 0, 40, 512, 3.0)
    step = np.sqrt(((path - np.roll(path, 1, axis=0)) ** 2).mean(1))
    assert step[0] == pytest.approx(step.mean(), rel=0.15)  # from the last frame to the first
    # For a Gaussian of sigma frames latents d frames apart correlate by exp(-d² / 4 sigma²).
    assert float((path[0] * path[3]).mean()) == pytest.approx(np.exp(-(3**2) / (4 * 3**2)), abs=0.15)
    assert abs(float((path[0] * path[20]).mean())) < 0.2


def test_paths_are_keyed_by_image():
    path = wandering_latents(0, 1, 40, 16, 3.0)
    assert (wandering_latents(0, 1, 40, 16, 3.0) == path).all()
    assert (wandering_latents(0, 2, 40, 16, 3.0) != path).any()
    assert (wandering_latents(1, 1, 40, 16, 3.0) != path).any()
    # Independent of the latents of samples, which have (seed, image) as their key.
    first = wandering_latents(0, 1, 40, 16, 0.0)[0]
    assert abs(np.corrcoef(first, latents(0, [1], 16)[0])[0, 1]) < 0.9


def test_interpolation_shows_the_images_of_the_path(make):
    sampler = Sampler(make())
    made = interpolation(sampler, seed=3, num_images=3, num_frames=50, sigma=4.0)
    assert (made.num_images, made.num_frames, made.side) == (3, 50, 8)
    frames = list(made.images)
    assert len(frames) == 50
    for image in range(3):
        # Frames are made in batches; float rounding between them may turn a byte.
        expected = sampler.images(wandering_latents(3, image, 50, 16, 4.0)).astype(float)
        found = np.stack([frame[image] for frame in frames]).astype(float)
        assert np.abs(found - expected).max() <= 1


def test_interpolation_of_more_images_than_a_batch(make, monkeypatch):
    sampler = Sampler(make())
    monkeypatch.setattr(sampler, "batch", 2)
    frames = list(interpolation(sampler, seed=3, num_images=3, num_frames=4, sigma=1.0).images)
    assert [frame.shape for frame in frames] == [(3, 3, 8, 8)] * 4


def test_classes_stay_for_the_whole_video(make, monkeypatch):
    sampler = Sampler(make(label_size=3))
    seen = []
    monkeypatch.setattr(
        sampler, "images", lambda z, y: seen.append(y) or np.zeros((len(z), 3, 8, 8), "uint8")
    )
    options = {"num_images": 4, "num_frames": 40, "sigma": 4.0}
    list(interpolation(sampler, seed=3, **options).images)
    drawn = np.concatenate(seen).reshape(40, 4, 3)
    assert (drawn == drawn[0]).all()
    assert len(np.unique(drawn[0].argmax(1))) > 1
    seen.clear()
    list(interpolation(sampler, seed=3, label="class 1", **options).images)
    assert (np.concatenate(seen).argmax(1) == 1).all()
    with pytest.raises(OptionError, match="no class 'dog'"):
        interpolation(sampler, seed=3, label="dog", **options)


def test_latents_that_stand_still_are_refused(make):
    with pytest.raises(OptionError, match="over 11 frames hardly move within 40; smooth over a quarter"):
        interpolation(Sampler(make()), seed=0, num_images=1, num_frames=40, sigma=11.0)


def test_growth_shows_the_samples_of_every_stage(make):
    sources = [ProGANSource(make(side), seed=3) for side in (4, 16)]
    made = growth(sources, num_images=3, frames_each=2)
    assert (made.num_images, made.num_frames, made.side) == (3, 4, 16)
    frames = list(made.images)
    small = sources[0].batch(range(3)).repeat(4, axis=2).repeat(4, axis=3)
    for frame, expected in zip(frames, [small, small, *[sources[1].batch(range(3))] * 2], strict=True):
        assert (frame == expected).all()


def test_growth_needs_latents_of_one_length(make):
    with pytest.raises(OptionError, match="one latent_size"):
        growth([ProGANSource(make()), ProGANSource(make(latent_size=8))], 1, 1)


@pytest.mark.parametrize(
    ("num_images", "side", "shape", "scale"),
    [(1, 8, (8, 8), 32), (3, 32, (64, 64), 4), (5, 32, (64, 96), 4), (1, 1024, (1024, 1024), 1)],
)
def test_frames_are_grids_of_a_size_that_can_be_seen(num_images, side, shape, scale):
    made = Video(side, num_images, 1, ())
    assert made.shape == shape
    assert made.comfortable_scale == scale


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_keep_pixels_and_speed(tmp_path, suffix):
    images = np.zeros((3, 3, 4, 4), np.uint8)
    images[1] = 200
    dark = np.zeros_like(images)
    moving = Video(4, 3, 31, [images, dark] * 15 + [images])
    save_video(tmp_path / f"a{suffix}", moving, fps=30, scale=8)
    frames, durations = frames_of(tmp_path / f"a{suffix}")
    assert len(frames) == 31
    assert frames[0].shape == (64, 64, 3)
    expected = np.zeros((64, 64))
    expected[:32, 32:] = 200  # the second image of a row of two
    inner = np.s_[4:28, 36:60]
    assert np.abs(frames[0].mean(2) - expected)[inner].max() <= 3
    assert np.abs(frames[30].mean(2) - expected)[40:].max() <= 3
    assert frames[1].max() <= 3
    # 30 frames a second are 3.33 hundredths each: always 3 would run 11 % too fast.
    assert sum(durations) == pytest.approx(31 * 1000 / 30, abs=5)
    assert max(durations) - min(durations) <= 10
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.info["loop"] == 0  # for ever


def decoded(path, height, width):
    """What ffmpeg shows: uint8 [frames, height, width, 3]."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    command = [ffmpeg, "-loglevel", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def test_mp4_keeps_frames_and_colors(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    colors = [(220, 30, 40), (30, 200, 60), (20, 40, 210), (128, 128, 128)]
    images = [np.tile(np.asarray(color, np.uint8)[:, None, None], (1, 1, 8, 8)) for color in colors]
    save_video(tmp_path / "a.MP4", Video(8, 1, 4, images), fps=5, scale=4)
    found = decoded(tmp_path / "a.MP4", 32, 32).astype(float)
    assert len(found) == 4
    for frame, color in zip(found, colors, strict=True):
        assert np.abs(frame.mean((0, 1)) - color).max() < 4
    assert [p.name for p in tmp_path.iterdir()] == ["a.MP4"]


def test_mp4_tells_how_its_colors_are_meant(tmp_path):
    # Untold, players guess from the height, and large videos would turn greenish.
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    save_video(tmp_path / "a.mp4", plain(3), fps=5, scale=4)
    told = subprocess.run([ffmpeg, "-i", tmp_path / "a.mp4"], capture_output=True, text=True).stderr
    assert "yuv420p(tv, bt709" in told
    assert "5 fps" in told
    assert "00:00:00.60" in told


def asked(*_):
    raise AssertionError("a frame was made")
    yield


@pytest.mark.parametrize(
    ("name", "fps", "scale", "fact"),
    [
        ("a.avi", 30, 1, r"must end in \.mp4, \.gif, \.webp"),
        ("a", 30, 1, "must end in"),
        ("a.gif", 60, 1, "50 frames a second at most, not 60"),
        ("a.webp", 30, 2**12, r"3\.0 GiB of frames, which \.webp needs .* 2 GiB are allowed"),
    ],
)
def test_what_cannot_be_written_is_refused_before_a_frame_is_made(tmp_path, name, fps, scale, fact):
    with pytest.raises(OptionError, match=fact):
        save_video(tmp_path / name, Video(8, 1, 1, asked()), fps, scale)
    assert not list(tmp_path.iterdir())


def test_mp4_without_its_extra_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(PgmetricsError, match=r"pip install 'pgmetrics\[video\]'; GIF and WebP"):
        save_video(tmp_path / "a.mp4", Video(8, 1, 1, asked()), 30)
    save_video(tmp_path / "a.gif", plain(2), 30)


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for ffmpeg")
def test_what_ffmpeg_says_is_told_in_one_line(tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho first >&2; echo 'No space left on device' >&2; echo >&2; exit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(video, "_ffmpeg", lambda: str(program))
    # Large enough that the pipe breaks.
    with pytest.raises(PgmetricsError, match=r"could not write .*a\.mp4: No space left on device$"):
        save_video(tmp_path / "a.mp4", plain(40), 30, scale=32)
    program.write_text("#!/bin/sh\ncat > /dev/null; exit 3\n")
    with pytest.raises(PgmetricsError, match=r"could not write .*a\.mp4: it ended with 3$"):
        save_video(tmp_path / "a.mp4", plain(2), 30)
    assert [p.name for p in tmp_path.iterdir()] == ["ffmpeg"]


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_network_that_fails_leaves_no_half_video(tmp_path, suffix):
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg")

    def failing():
        yield from plain(3).images
        raise SourceError("gave NaN")

    with pytest.raises(SourceError, match="gave NaN"):
        save_video(tmp_path / f"a{suffix}", Video(8, 1, 4, failing()), 30)
    assert not list(tmp_path.iterdir())


def test_a_video_cannot_go_where_there_is_no_directory(tmp_path):
    with pytest.raises(PgmetricsError, match="cannot be written: No such file"):
        save_video(tmp_path / "missing" / "a.gif", plain(2), 30)
