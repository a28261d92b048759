"""The demo, on a network of a few channels that is shown a few hundred images."""

import csv

import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.stages import main, summary
from pgmetrics.results import read_results
from reference_models.progan.model import presets
from reference_models.progan.model.config import ProGANConfig


@pytest.fixture
def _small_preset(monkeypatch):
    small = ProGANConfig(
        resolution=32, latent_size=8, fmap_base=64, fmap_max=8,
        minibatch={4: 8}, stabilise_images=64, fade_images=64, total_images=448,
    )  # fmt: skip
    monkeypatch.setattr(presets, "PRESETS", {**presets.PRESETS, "small": small})


@pytest.mark.slow
@pytest.mark.usefixtures("_small_preset")
def test_every_checkpoint_is_scored_at_the_final_size_beside_the_floor_and_an_untrained_network(tmp_path):
    out = tmp_path / "demo"
    arguments = ["--out", str(out), "--preset", "small", "--num-images", "16", "--snapshot-images", "96"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    with open(out / "stages.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    runs = list(dict.fromkeys(row["run"] for row in rows))
    assert runs[:2] == ["reals-32x32", "untrained"]
    assert len(runs) - 2 == len(list((out / "run" / "checkpoints").glob("*.safetensors"))) >= 8
    assert {label.partition("-")[2].partition("-")[0] for label in runs[2:]} == {
        "4x4", "8x8", "16x16", "32x32",
    }  # fmt: skip
    assert {row["protocol"] for row in rows} == {"at-final"}
    assert {row["level"] for row in rows if row["metric"] == "swd"} == {"32", "16", ""}
    found = read_results(out / "stages.json")
    assert found.to_table() in done.stdout
    assert summary(found) in done.stdout
    assert "of the way" in summary(found)
    assert read_results(out / "run") == found  # the run can be gone on with by pgmetrics growth
    with Image.open(out / "samples.png") as sheet:
        assert sheet.size == (80 + 16 * 64, 6 * 2 * 64 + 5 * 8)  # six panels of two rows of sixteen
    assert "<html" in (out / "report.html").read_text()
    assert any((out / "plots").iterdir())
    # A second run must not mix with the first.
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "is not empty" in again.stderr
