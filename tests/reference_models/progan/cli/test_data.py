"""`progan data`, as a person meets it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from pgmetrics import sources
from pgmetrics.errors import OptionError, SourceError
from reference_models.progan.cli.data import data
from reference_models.progan.data.prepared import PreparedSource
from tests.helpers.image_files import encoded, pixels, png_of_16_bits, write

IMAGES = pixels(6, 16, 21)


@pytest.fixture
def files(tmp_path):
    """Six images of 16 × 21 in two folders."""
    return write(
        tmp_path / "files", {f"{'ab'[i % 2]}/{i}.png": encoded(image) for i, image in enumerate(IMAGES)}
    )


def run(*arguments):
    """The command by itself; `progan` turns refusals into one line."""
    result = CliRunner().invoke(data, [*map(str, arguments), "--workers", "0"])
    if isinstance(result.exception, (OptionError, SourceError)):
        raise result.exception
    return result


def test_prints_the_directory_that_training_takes(files, tmp_path):
    out = tmp_path / "levels"
    result = run(files, "--out", out, "--crop", "--mirror")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}\n"
    source = PreparedSource(out)
    # listed by folder, so the even ones first
    np.testing.assert_array_equal(
        source.batch(range(6)), IMAGES[[0, 2, 4, 1, 3, 5]].transpose(0, 3, 1, 2)[..., 2:18]
    )
    assert source.label_names == ["a", "b"]
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.mirror is True


def test_the_same_command_checks_a_complete_directory(files, tmp_path):
    out = tmp_path / "levels"
    command = (files, "--out", out, "--resize", "crop-lanczos", "--resolution", 8)
    assert "checksum" not in run(*command).stderr
    again = run(*command)
    assert again.exit_code == 0
    assert "is complete, and every checksum holds" in again.stderr
    assert again.stdout == f"{out}\n"
    path = out / "level-0004.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 128
    path.write_bytes(content)
    with pytest.raises(SourceError, match="does not have the checksum"):
        run(*command)
    with pytest.raises(OptionError, match="prepared with mirror null, not false"):
        run(*command, "--no-mirror")


@pytest.mark.parametrize("one_channel", ["--gray", "--grey"])
def test_options_reach_the_images(tmp_path, one_channel):
    # Each of these files is refused without its option.
    grey = pixels(1, 8, 8)[0, :, :, 0]
    clear = np.dstack([np.stack([grey] * 3, axis=2), np.zeros((8, 8), np.uint8)])
    deep = png_of_16_bits(np.full((8, 8, 1), 0x8080, np.uint16))
    files = write(tmp_path / "files", {"0.png": encoded(clear), "1.png": deep})
    out = tmp_path / "levels"
    with pytest.raises(SourceError, match="transparen"):
        run(files, "--out", out)
    with pytest.raises(SourceError, match="16"):
        run(files, "--out", tmp_path / "shallow", "--alpha", "white")
    result = run(files, "--out", tmp_path / "grey", "--alpha", "white", "--bits", 8, one_channel)
    assert result.exit_code == 0, result.output
    stored = np.load(tmp_path / "grey" / "level-0008.npy")
    assert stored.shape == (2, 1, 8, 8)
    assert (stored[0] == 255).all()
    assert (stored[1] == 128).all()
    assert "note: 16-bit scaled to 8-bit: 1\n" in result.stderr


def test_two_ways_to_crop_are_one_too_many(files, tmp_path):
    result = run(files, "--out", tmp_path / "x", "--crop", "--resize", "box", "--resolution", 8)
    assert result.exit_code == 2
    assert "give either --resize or --crop" in result.output


def test_any_source_can_be_prepared(files, tmp_path):
    result = run(f"{files}@1:5", "--out", tmp_path / "part", "--crop")
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "part" / "levels.json").read_text())
    assert manifest["num_images"] == 4
    assert manifest["fingerprint"] == sources.open_source(f"{files}@1:5").fingerprint + "+crop"
    result = run("synthetic:leaves,n=5", "--resolution", 8, "--out", tmp_path / "leaves")
    assert len(PreparedSource(tmp_path / "leaves")) == 5


def test_files_that_are_left_out_are_told(files, tmp_path, caplog):
    (files / "notes.txt").touch()
    assert run(files, "--out", tmp_path / "levels", "--crop").exit_code == 0
    assert caplog.messages == [f"{files}: 1 file left out: 1 .txt"]
