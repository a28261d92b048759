"""`progan sample`, as a person meets it."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from PIL import Image

from pgmetrics.errors import OptionError, SourceError
from reference_models.progan.cli.sample import sample
from reference_models.progan.sampling.source import ProGANSource
from tests.helpers.commands import call


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
