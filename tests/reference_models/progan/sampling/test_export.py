"""Grids, folders and archives keep the pixels."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from PIL import Image

from pgmetrics.errors import OptionError
from pgmetrics.sources import resolve
from reference_models.progan.sampling.export import (
    image_grid,
    same_latents,
    save_folder,
    save_grid,
    save_npz,
    save_rows,
    save_zip,
)
from reference_models.progan.sampling.source import ProGANSource
from tests.helpers.samplers import sample_images


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


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
