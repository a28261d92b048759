"""The demo, on a network of a few channels that is shown a few hundred images."""

import csv

import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.stages import main, summary
from pgmetrics.results import read_results
from reference_models.progan import config
from reference_models.progan.config import ProGANConfig


@pytest.fixture
def _small_preset(monkeypatch):
    small = ProGANConfig(
        resolution=32, latent_size=8, fmap_base=64, fmap_max=8,
        stabilise_images=64, fade_images=64, total_images=448,
    )  # fmt: skip
    monkeypatch.setattr(config, "PRESETS", {**config.PRESETS, "small": small})


@pytest.mark.usefixtures("_small_preset")
def test_every_stage_is_scored_at_the_final_size_beside_the_floor_and_an_untrained_network(tmp_path):
    arguments = ["--out", str(tmp_path / "demo"), "--preset", "small", "--num-images", "32"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    with open(tmp_path / "demo" / "stages.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(dict.fromkeys(row["run"] for row in rows)) == [
        "reals", "untrained", "4x4", "8x8", "16x16", "32x32",
    ]  # fmt: skip
    assert {row["protocol"] for row in rows} == {"at-final"}
    assert {row["level"] for row in rows if row["metric"] == "swd"} == {"32", "16", ""}
    found = read_results(tmp_path / "demo" / "stages.json")
    assert found.to_table() in done.stdout
    assert summary(found) in done.stdout
    with Image.open(tmp_path / "demo" / "samples.png") as sheet:
        assert sheet.size == (80 + 16 * 64, 6 * 2 * 64 + 5 * 8)  # six panels of two rows of sixteen
    # A second run must not mix with the first.
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "is not empty" in again.stderr
