"""Images of the page: the right ones, made alike, and neighbors that are the nearest."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from pgmetrics.errors import SampleError, SourceError
from pgmetrics.report import gallery
from pgmetrics.report.run_curves import read_growth
from pgmetrics.sources.base import sequence
from pgmetrics.sources.resolve import open_source
from tests.report.conftest import REAL


def noise(n, side=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3, side, side), dtype=np.uint8)


def test_neighbors_are_those_of_plain_subtraction():
    # The mistake: products in bytes or float32, which cannot hold them; another order of the reals.
    samples, reals = noise(5, 32, seed=1), noise(40, 32, seed=2)
    found = gallery.neighbors(samples, open_source(reals), 3, seed=0)
    apart = samples[:, None].astype(float) - reals[None].astype(float)
    rms = np.sqrt((apart**2).mean(axis=(2, 3, 4)))
    nearest = np.argsort(rms, axis=1)[:, :3]
    np.testing.assert_allclose(found.distances, np.take_along_axis(rms, nearest, axis=1), rtol=1e-12)
    np.testing.assert_array_equal(found.nearest, reals[nearest])
    assert found.searched == 40


def test_a_copy_lies_at_nothing_and_a_real_is_not_its_own_neighbor():
    reals = noise(20)
    found = gallery.neighbors(reals[7:8], open_source(reals), 2, seed=3)
    assert found.distances[0, 0] == 0
    np.testing.assert_array_equal(found.nearest[0, 0], reals[7])
    apart = reals[:, None].astype(float) - reals[None].astype(float)
    rms = np.sqrt((apart**2).mean(axis=(2, 3, 4)))
    np.fill_diagonal(rms, np.inf)
    assert found.usual == pytest.approx(np.median(rms.min(axis=1)))


def test_coarse_samples_are_enlarged_before_they_are_compared():
    reals = noise(10, side=8)
    samples = noise(2, side=4)
    found = gallery.neighbors(samples, open_source(reals), 1, seed=0)
    np.testing.assert_array_equal(found.samples, samples.repeat(2, axis=2).repeat(2, axis=3))


def test_too_few_reals_for_neighbors_are_refused():
    with pytest.raises(SampleError, match="4 neighbors need 5 real images; array holds 3"):
        gallery.neighbors(noise(1), open_source(noise(3)), 4, seed=0)


def test_every_stage_shows_the_same_latents_beside_reals_as_coarse(run):
    images = gallery.gather(read_growth(run), real=REAL, count=6)
    assert [panel.samples.shape for panel in images.panels] == [(6, 3, r, r) for r in (4, 8, 16, 32)]
    last = images.panels[-1]
    path = run / last.snapshot.file
    np.testing.assert_array_equal(last.samples, open_source(f"progan:{path}").batch(range(6)))
    reals = open_source(REAL)
    first = reals.batch([int(i) for i in sequence(reals, 0)[:6]])
    np.testing.assert_array_equal(last.reals, first)
    means = first.reshape(6, 3, 4, 8, 4, 8).astype(float).mean(axis=(3, 5))
    assert np.abs(images.panels[0].reals - means).max() <= 0.5
    assert images.near is not None
    assert images.notes == []


def test_no_real_images_means_none(run):
    images = gallery.gather(read_growth(run), count=4, show_reals=False)
    assert all(panel.reals is None for panel in images.panels)
    assert images.near is None


def test_another_seed_shows_other_samples(run):
    one, two = (gallery.gather(read_growth(run), count=4, show_reals=False, seed=s) for s in (0, 1))
    assert (one.panels[-1].samples != two.panels[-1].samples).any()


def test_a_checkpoint_that_changed_or_went_is_named_and_left_out(run, tmp_path):
    # The mistake: samples of another network under the scores of this one.
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "checkpoints" / "0000077056-32x32.safetensors").write_bytes(b"something else")
    (copy / "checkpoints" / "0000011008-4x4.safetensors").unlink()
    images = gallery.gather(read_growth(copy), real=REAL, count=4)
    assert [panel.snapshot.resolution for panel in images.panels] == [8, 16]
    assert any("no longer the file that was scored" in note for note in images.notes)
    assert any("0000011008-4x4.safetensors is no longer there" in note for note in images.notes)
    assert images.near is None


def test_reals_that_went_are_refused(run, tmp_path):
    growth = read_growth(run)
    with pytest.raises(SourceError, match=r"gone\.zip does not exist"):
        gallery.gather(growth, real=str(tmp_path / "gone.zip"), count=4)


@pytest.mark.parametrize(("side", "cell"), [(4, 96), (32, 96), (28, 84), (96, 96), (128, 64), (100, 50)])
def test_a_grid_shows_whole_pixels_of_every_image(side, cell):
    # Enlarged by anything but repetition, a 4 x 4 image is a blur that the network did not make.
    images = noise(3, side)
    data, width, height = gallery.png_grid(images, 2)
    with Image.open(io.BytesIO(data)) as png:
        sheet = np.asarray(png)
    assert (width, height) == (2 * cell + 4, 2 * cell + 4) == sheet.shape[1::-1]
    assert (sheet[cell : cell + 4, :, 3] == 0).all()
    second = sheet[:cell, cell + 4 :, :3]
    factor = cell // side
    if factor:
        np.testing.assert_array_equal(second[::factor, ::factor], images[1].transpose(1, 2, 0))
    else:
        step = side // cell
        mean = images[1].reshape(3, cell, step, cell, step).astype(float).mean(axis=(2, 4))
        assert np.abs(second.transpose(2, 0, 1) - mean).max() <= 0.5


# A run from somebody else: nothing that its store names is opened, imported or called.


def edited(run, copy, change):
    """A copy of a run, its store's lines changed by somebody."""
    shutil.copytree(run, copy)
    lines = [json.loads(line) for line in (copy / "scores.jsonl").read_text().splitlines()]
    for line in lines:
        change(line)
    (copy / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return copy


def setting(**changes):
    def change(line):
        if "settings" in line:
            line["settings"] |= changes

    return change


def file_of_last(name):
    def change(line):
        if line["item"].get("images_shown") == 77056:
            line["item"]["file"] = name

    return change


@pytest.mark.parametrize("field", ["loader", "real_spec"])
def test_code_that_a_store_names_is_not_run(run, tmp_path, monkeypatch, field):
    (tmp_path / "of_a_stranger.py").write_text(
        "from pathlib import Path\nPath('imported').touch()\ndef go(*_): Path('called').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    copy = edited(run, tmp_path / "run", setting(**{field: "of_a_stranger:go"}))
    images = gallery.gather(read_growth(copy), count=4)
    assert not (tmp_path / "imported").exists()
    assert not (tmp_path / "called").exists()
    assert images.near is None
    assert all(panel.reals is None for panel in images.panels)
    option = {"loader": "--loader", "real_spec": "--real SOURCE"}[field]
    assert any("of_a_stranger:go" in note and option in note for note in images.notes)
    assert bool(images.panels) == (field == "real_spec")


def test_a_loader_that_is_given_again_opens_the_checkpoints(run, tmp_path):
    copy = edited(run, tmp_path / "run", setting(loader="os:system"))
    images = gallery.gather(
        read_growth(copy), loader="reference_models.progan.sampling.source:ProGANSource", count=4
    )
    assert [panel.samples.shape[-1] for panel in images.panels] == [4, 8, 16, 32]


def test_real_images_that_a_store_names_are_not_opened(run, tmp_path):
    # The mistake: the store says which of the reader's images stand on the page.
    np.save(tmp_path / "private.npy", noise(96, 32))
    copy = edited(run, tmp_path / "run", setting(real_spec=str(tmp_path / "private.npy")))
    images = gallery.gather(read_growth(copy), count=4)
    assert all(panel.reals is None for panel in images.panels)
    (note,) = images.notes
    assert note == ("No real images: give --real SOURCE to show them (the run was scored with private.npy).")


@pytest.mark.parametrize("way", ["up", "absolute", "link", "folder", "zero byte"])
def test_a_checkpoint_outside_of_the_run_is_not_opened(run, tmp_path, way):
    last = "0000077056-32x32.safetensors"
    outside = shutil.copy(run / "checkpoints" / last, tmp_path / last)
    name = {"up": f"../{last}", "absolute": str(outside), "zero byte": "a\0b"}.get(way, f"{way}/{last}")
    copy = edited(run, tmp_path / "run", file_of_last(name))
    if way == "link":
        (copy / "link").mkdir()
        (copy / name).symlink_to(outside)
    if way == "folder":
        (copy / "folder").symlink_to(tmp_path)
    images = gallery.gather(read_growth(copy), count=4)
    assert [panel.snapshot.resolution for panel in images.panels] == [4, 8, 16]
    wanted = "is no name of a checkpoint" if way == "zero byte" else "lies outside of the run's directory"
    assert any(wanted in note for note in images.notes)
