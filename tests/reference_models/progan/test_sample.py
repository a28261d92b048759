"""Samples depend on (checkpoint, seed, index) and on nothing else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pgmetrics import images as byte_images
from pgmetrics.errors import OptionError, SourceError
from reference_models.progan.checkpoint import Checkpoint, load, save
from reference_models.progan.config import ProGANConfig
from reference_models.progan.layers import initialize
from reference_models.progan.networks import Generator
from reference_models.progan.sample import (
    ProGANSource,
    image_grid,
    labels,
    latents,
    open_source,
    sample_images,
    save_folder,
    save_grid,
)

CONFIG = ProGANConfig(resolution=32, fmap_base=256, fmap_max=48, latent_size=48)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    def write(**options):
        config = replace(
            CONFIG, **{k: v for k, v in options.items() if hasattr(CONFIG, k) and k != "resolution"}
        )
        generator = Generator(config)
        initialize(generator, "generator", 1)
        classes = config.label_size
        facts = Checkpoint(
            config=config,
            images_shown=5,
            resolution=options.get("resolution", 16),
            alpha=options.get("alpha", 0.5),
            data_fingerprint="none",
            licence="CC0",
            label_names=tuple(f"class {k}" for k in range(classes)),
            label_distribution=tuple(k / sum(range(classes)) for k in range(classes)),
        )
        path = tmp_path_factory.mktemp("checkpoint") / "c.safetensors"
        save(path, facts, generator)
        return path

    return write


@pytest.fixture(scope="module")
def path(make):
    return make()


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_latents_are_keyed_by_image():
    # A generator seeded once per batch would make them depend on the batch.
    rows = latents(5, range(8), 512)
    assert rows.dtype == np.float32
    assert (latents(5, [7, 3], 512) == rows[[7, 3]]).all()
    assert (latents(6, [7, 3], 512) != rows[[7, 3]]).all()
    # Keys that fall together modulo 2**32 are a known trap.
    assert (latents(5 + 2**32, [7], 512) != rows[[7]]).all()
    many = latents(0, range(400), 512)
    assert abs(float(many.mean())) < 0.01
    assert float(many.std()) == pytest.approx(1, abs=0.01)


def test_labels_are_as_frequent_as_in_training():
    rows = labels(0, range(4000), [0.1, 0.0, 0.6, 0.3])
    assert (rows.sum(1) == 1).all()
    assert rows.mean(0) == pytest.approx([0.1, 0, 0.6, 0.3], abs=0.03)
    assert (labels(0, [17, 4], [0.1, 0.0, 0.6, 0.3]) == rows[[17, 4]]).all()


def test_an_image_is_the_same_bytes_in_any_batch(path):
    # Convolutions and matrix products round differently by batch shape and by place in the batch.
    source = ProGANSource(path, seed=3)
    whole = source.batch(range(150))
    assert whole.dtype == np.uint8
    assert whole.shape == (150, 3, 16, 16)
    for indices in ([149], [7, 3, 71, 7, 135], list(range(60, 70)), list(range(149, -1, -7))):
        assert (ProGANSource(path, seed=3).batch(indices) == whole[indices]).all()
    assert (ProGANSource(path, seed=4).batch(range(4)) != whole[:4]).any()


def test_an_image_is_the_same_float_in_any_batch(path, monkeypatch):
    # Bytes hide small differences most of the time; what is rounded must not differ at all.
    seen = []
    original = byte_images.to_bytes
    monkeypatch.setattr(
        byte_images, "to_bytes", lambda x, *rest: (seen.append(x.clone()), original(x, *rest))[1]
    )
    ProGANSource(path).batch(range(64))
    ProGANSource(path).batch([37])
    ProGANSource(path).batch([64 + 36, 37])
    assert torch.equal(seen[0][37], seen[1][37])
    assert torch.equal(seen[0][37], seen[2][37])


def test_samples_are_rounded_and_saturated(path):
    # Truncating darkens by half a level; rescaling a grid's values changes them all.
    _, generator = load(path)
    z = torch.from_numpy(latents(0, range(64), 48))
    expected = (generator(z, resolution=16, alpha=0.5) * 127.5 + 127.5).round().clamp(0, 255)
    source = ProGANSource(path)
    assert float(expected.max()) == 255
    assert (source.batch(range(64)) == expected.to(torch.uint8).numpy()).all()


def test_at_final_repeats_pixels(path):
    stage, final = ProGANSource(path), ProGANSource(path, at="final")
    assert stage.resolution == (16, 16)
    assert final.resolution == (32, 32)
    small, large = stage.batch(range(5)), final.batch(range(5))
    assert (large == small.repeat(2, axis=2).repeat(2, axis=3)).all()
    assert stage.fingerprint != final.fingerprint


def test_fingerprint_is_of_the_content(path, make, tmp_path):
    copy = tmp_path / "other name.bin"
    copy.write_bytes(path.read_bytes())
    assert ProGANSource(copy).fingerprint == ProGANSource(path).fingerprint
    assert ProGANSource(path, seed=1).fingerprint != ProGANSource(path).fingerprint
    assert ProGANSource(make(resolution=32)).fingerprint != ProGANSource(path).fingerprint
    assert ProGANSource(path).order_key is None


def test_grey_networks_give_rgb(make):
    out = ProGANSource(make(channels=1)).batch([0, 1])
    assert out.shape == (2, 3, 16, 16)
    assert (out[:, :1] == out).all()


def test_conditional_networks_draw_their_labels(make):
    source = ProGANSource(make(label_size=3))
    whole = source.batch(range(70))
    assert (source.batch([69, 2]) == whole[[69, 2]]).all()


def test_options_are_read(path):
    source = open_source(str(path), {"seed": "3", "n": "500", "at": "final"})
    assert len(source) == 500
    assert (source.batch([2]) == ProGANSource(path, seed=3, at="final").batch([2])).all()
    assert len(open_source(str(path), {})) == 1_000_000
    with pytest.raises(IndexError):
        source.batch([500])


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"sed": "3"}, "no option sed; it knows seed, n and at"),
        ({"seed": "x"}, "whole number for seed, not 'x'"),
        ({"n": "-1"}, "whole number for n, not '-1'"),
        ({"n": "0"}, "n=0"),
        ({"at": "end"}, "at=stage or at=final, not at=end"),
    ],
)
def test_wrong_options_are_refused(path, options, fact):
    with pytest.raises((SourceError, OptionError), match=fact):
        open_source(str(path), options)


def test_a_diverged_network_is_refused(tmp_path):
    generator = Generator(CONFIG)
    initialize(generator, "generator", 1)
    with torch.no_grad():
        generator.block4.conv.weight[0, 0, 0, 0] = float("nan")
    facts = Checkpoint(
        config=CONFIG, images_shown=1, resolution=4, alpha=1.0, data_fingerprint="none", licence="CC0"
    )
    save(tmp_path / "c", facts, generator)
    with pytest.raises(SourceError, match=f"progan:{tmp_path / 'c'},seed=0 gave NaN"):
        ProGANSource(tmp_path / "c").batch([0])


def test_recognising_does_not_import_torch(path):
    code = (
        "import sys; from pathlib import Path; from reference_models.progan import sample; "
        f"assert sample.recognises(Path({str(path)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_global_random_numbers_are_left_alone(path):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    sample_images(path, 3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_grids_and_folders_keep_pixels(path, tmp_path):
    images = sample_images(path, 5, seed=2)
    grid = image_grid(images, columns=3)
    assert grid.shape == (32, 48, 3)
    assert (grid[16:, 16:32] == images[4].transpose(1, 2, 0)).all()  # row by row
    assert (grid[16:, 32:] == 0).all()
    save_grid(tmp_path / "grid.png", images, columns=3)
    assert (pixels_of(tmp_path / "grid.png") == grid).all()
    save_folder(tmp_path / "out", ProGANSource(path, seed=2), 5)
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == [f"{k:08d}.png" for k in range(5)]
    assert (pixels_of(tmp_path / "out" / names[4]).transpose(2, 0, 1) == images[4]).all()
    with pytest.raises(OptionError, match="not empty"):
        save_folder(tmp_path / "out", ProGANSource(path), 5)
