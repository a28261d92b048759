"""Samples depend on (checkpoint, seed, index) and on nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import replace
from math import erf, exp, pi, sqrt

import numpy as np
import pytest
import torch
from PIL import Image

from pgmetrics.errors import OptionError, SourceError
from pgmetrics.runtime import images as byte_images
from pgmetrics.sources import resolve
from reference_models.progan.model.checkpoint import Checkpoint, load, save
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.networks import Generator
from reference_models.progan.sampling.export import (
    image_grid,
    same_latents,
    save_folder,
    save_grid,
    save_npz,
    save_rows,
    save_zip,
)
from reference_models.progan.sampling.latents import labels, latents
from reference_models.progan.sampling.sampler import Sampler
from reference_models.progan.sampling.source import ProGANSource, open_source
from tests.helpers.samplers import sample_images

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


@pytest.mark.parametrize("bound", [2.0, 0.7, 1e-3])
def test_truncated_latents_are_normal_within_the_bound(bound):
    whole, cut = latents(5, range(300), 512), latents(5, range(300), 512, bound)
    assert cut.dtype == np.float32
    assert float(np.abs(cut).max()) <= bound
    # Neither drawn anew as a whole, nor scaled: what lies within stays.
    near = np.abs(whole) <= bound
    assert (cut[near] == whole[near]).all()
    # Clipping would pile numbers up at the bound: the variance and the share in the outer half are
    # those of the normal distribution cut off there.
    inside = erf(bound / sqrt(2))
    variance = 1 - 2 * bound * exp(-(bound**2) / 2) / sqrt(2 * pi) / inside
    assert float(cut.var()) == pytest.approx(variance, rel=0.02)
    outer = 1 - erf(bound / 2 / sqrt(2)) / inside
    assert float((np.abs(cut) > bound / 2).mean()) == pytest.approx(outer, abs=0.006)
    assert float(cut.mean()) == pytest.approx(0, abs=0.01 * bound)
    assert (latents(5, [7, 3], 512, bound) == cut[[7, 3]]).all()


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
    assert not ProGANSource(path).shuffled


def test_grey_networks_give_rgb(make):
    out = ProGANSource(make(channels=1)).batch([0, 1])
    assert out.shape == (2, 3, 16, 16)
    assert (out[:, :1] == out).all()


def test_conditional_networks_draw_their_labels(make):
    source = ProGANSource(make(label_size=3))
    whole = source.batch(range(70))
    assert (source.batch([69, 2]) == whole[[69, 2]]).all()


def test_a_class_is_taken_by_its_name(make):
    path = make(label_size=3, mbstd_group=2)  # a file of its own
    source = ProGANSource(path, label="class 1")
    _, generator = load(path)
    z = torch.from_numpy(latents(0, range(64), 48))
    one = torch.eye(3)[[1] * 64]
    expected = generator(z, one, resolution=16, alpha=0.5).mul(127.5).add(127.5).round().clamp(0, 255)
    whole = source.batch(range(70))
    assert (whole[:64] == expected.to(torch.uint8).numpy()).all()
    assert (source.batch([69, 2]) == whole[[69, 2]]).all()
    assert (ProGANSource(path, label="class 2").batch([0]) != whole[:1]).any()


def test_a_truncated_image_is_the_same_bytes_in_any_batch(path):
    source = ProGANSource(path, truncation=0.5)
    whole = source.batch(range(70))
    assert (ProGANSource(path, truncation=0.5).batch([69, 2]) == whole[[69, 2]]).all()
    assert (whole[:2] != ProGANSource(path).batch([0, 1])).any()
    # Nothing is further out than this, so nothing changes.
    assert (ProGANSource(path, truncation=9.0).batch([0, 1]) == ProGANSource(path).batch([0, 1])).all()


def test_fingerprint_and_name_tell_classes_and_truncations_apart(make):
    path = make(label_size=3)
    chosen = [
        {}, {"label": "class 0"}, {"label": "class 1"}, {"truncation": 0.5}, {"truncation": 0.25},
        {"label": "class 1", "truncation": 0.5}, {"at": "final"}, {"seed": 1},
    ]  # fmt: skip
    sources = [ProGANSource(path, **options) for options in chosen]
    assert len({source.fingerprint for source in sources}) == len(chosen)
    assert len({source.name for source in sources}) == len(chosen)
    # How many images it claims to have makes no other image.
    assert ProGANSource(path, n=9).identity(range(9)) == sources[0].identity(range(9))
    # A name opens the source again.
    for source in sources:
        assert resolve.open_source(source.name).fingerprint == source.fingerprint


def test_many_latents_go_through_in_batches_of_one_shape(path, monkeypatch):
    sampler = Sampler(path)
    z = latents(0, range(70), 48)
    # Bytes show only now and then that batches of other shapes are rounded otherwise.
    lengths = []
    original = byte_images.to_bytes
    monkeypatch.setattr(
        byte_images, "to_bytes", lambda x, *rest: (lengths.append(len(x)), original(x, *rest))[1]
    )
    assert (sampler.images(z) == ProGANSource(path).batch(range(70))).all()
    assert set(lengths) == {sampler.batch}
    assert (sampler.images(z[64:]) == sampler.images(z)[64:]).all()
    assert sampler.images(z[:0]).shape == (0, 3, 16, 16)


def test_options_are_read(path, make):
    source = open_source(str(path), {"seed": "3", "n": "500", "at": "final"})
    assert len(source) == 500
    assert (source.batch([2]) == ProGANSource(path, seed=3, at="final").batch([2])).all()
    assert len(open_source(str(path), {})) == 1_000_000
    with pytest.raises(IndexError):
        source.batch([500])
    labeled = make(label_size=3)
    source = open_source(str(labeled), {"label": "class 2", "truncation": ".5"})
    expected = ProGANSource(labeled, label="class 2", truncation=0.5)
    assert (source.batch([3]) == expected.batch([3])).all()
    with pytest.raises(OptionError, match=r"no class 'dog'; it has class 0, class 1, class 2$"):
        open_source(str(labeled), {"label": "dog"})
    with pytest.raises(OptionError, match=r"no class '3'; it has (class [0-9]+, ){9}class 9 and 20 more$"):
        ProGANSource(make(label_size=30), label="3")
    with pytest.raises(OptionError, match=r"no class 'clas 17'; it has class 17, [^,]*, [^,]* and 27 more$"):
        ProGANSource(make(label_size=30), label="clas 17")


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"sed": "3"}, "no option sed; it knows seed, n, at, label and truncation"),
        ({"seed": "x"}, "seed is a whole number, not 'x'"),
        ({"n": "-1"}, "n is a whole number, not '-1'"),
        ({"n": "0"}, "n=0"),
        ({"at": "end"}, "at=stage or at=final, not at=end"),
        ({"label": "cat"}, "is unconditional; it makes no images of a class 'cat'"),
        ({"truncation": "much"}, "a number for truncation, not 'much'"),
        ({"truncation": "0"}, "truncation from 0.001 to 100, not 0.0"),
        ({"truncation": "1e300"}, "truncation from 0.001 to 100, not 1e"),
        ({"truncation": "nan"}, "truncation from 0.001 to 100, not nan"),
    ],
)
def test_wrong_options_are_refused(path, options, fact):
    with pytest.raises((SourceError, OptionError), match=fact):
        open_source(str(path), options)


def test_a_diverged_network_is_refused(tmp_path):
    generator = Generator(CONFIG)
    initialize(generator, "generator", 1)
    with torch.no_grad():
        generator.to_rgb4.weight.fill_(3e38)  # finite itself, which reading the checkpoint checks
    facts = Checkpoint(
        config=CONFIG, images_shown=1, resolution=4, alpha=1.0, data_fingerprint="none", licence="CC0"
    )
    save(tmp_path / "c", facts, generator)
    with pytest.raises(SourceError, match=f"progan:{tmp_path / 'c'},seed=0 gave NaN .* first in image 70;"):
        ProGANSource(tmp_path / "c").batch([70])


def test_recognizing_does_not_import_torch(path):
    code = (
        "import sys; from pathlib import Path; from reference_models.progan.sampling import source; "
        f"assert source.recognizes(Path({str(path)!r})); assert 'torch' not in sys.modules"
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


def test_several_networks_show_the_same_latents_in_rows(path, make, tmp_path):
    other = make(resolution=32, alpha=1.0)
    sources = [ProGANSource(path, seed=2), ProGANSource(other, seed=2)]
    small, large = same_latents(sources, 3)
    assert (small == sample_images(path, 3, seed=2).repeat(2, axis=2).repeat(2, axis=3)).all()
    assert (large == sample_images(other, 3, seed=2)).all()
    save_rows(tmp_path / "rows.png", sources, 3)
    rows = pixels_of(tmp_path / "rows.png")
    assert rows.shape == (64, 96, 3)
    assert (rows[:32, 64:] == small[2].transpose(1, 2, 0)).all()
    assert (rows[32:, 32:64] == large[1].transpose(1, 2, 0)).all()


def test_latents_of_other_lengths_are_not_the_same(path, make):
    sources = [ProGANSource(path), ProGANSource(make(latent_size=32))]
    with pytest.raises(OptionError, match=r"48 numbers and progan:.* of 32; .* one latent_size"):
        same_latents(sources, 3)


@pytest.mark.parametrize(("write", "name"), [(save_zip, "a.zip"), (save_npz, "a.npz")])
def test_archives_hold_the_images_and_are_read_again(path, tmp_path, monkeypatch, write, name):
    monkeypatch.setattr("reference_models.progan.sampling.sampler.LARGEST_BATCH", 4)
    source = ProGANSource(path, seed=2)
    write(tmp_path / name, source, 5)
    again = resolve.open_source(tmp_path / name)
    assert len(again) == 5
    assert (again.batch(range(5)) == source.batch(range(5))).all()
    monkeypatch.setattr("time.time", lambda: 2e9)
    write(tmp_path / "later", source, 5)
    assert (tmp_path / "later").read_bytes() == (tmp_path / name).read_bytes()


def test_an_npz_is_what_numpy_reads(path, tmp_path):
    save_npz(tmp_path / "a.npz", ProGANSource(path), 3)
    with np.load(tmp_path / "a.npz") as held:
        assert held.files == ["arr_0"]
        assert held["arr_0"].dtype == np.uint8
        assert (held["arr_0"] == sample_images(path, 3).transpose(0, 2, 3, 1)).all()


def test_a_zip_s_files_can_be_opened_by_their_owner(path, tmp_path):
    # An entry without permissions is unpacked as a file that nobody may read.
    save_zip(tmp_path / "a.zip", ProGANSource(path), 1)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        (entry,) = archive.infolist()
    assert entry.external_attr >> 16 & 0o400
