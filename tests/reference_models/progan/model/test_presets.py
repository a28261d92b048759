"""The presets hold what the original's experiments set, and every one of them trains."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pgmetrics.sources.arrays import ArraySource
from reference_models.progan.data.training_images import TrainingImages
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.flops import presets_table
from reference_models.progan.model.networks import Discriminator, Generator
from reference_models.progan.model.presets import PRESETS
from reference_models.progan.model.schedule import stage
from reference_models.progan.training.trainer import Trainer


def differing(before: ProGANConfig, after: ProGANConfig) -> dict[str, object]:
    a, b = before.to_json(), after.to_json()
    return {name: b[name] for name in b if a[name] != b[name]}


# Section 7.7 of the specification of the original, row by row: what each changes.
TABLE1 = [
    ("a", "b", {"growing": True}),
    ("b", "c", {"minibatch": {"4": 16}, "ema": 0.999}),
    (
        "c",
        "d",
        {
            "latent_size": 512,
            "normalise_latents": True,
            "generator_norm": "none",
            "discriminator_norm": "none",
            "activation": "leaky",
            "output": "linear",
            "d_repeats": 1,
            "adam_beta2": 0.99,
            "drift": 0.001,
        },
    ),
    ("d", "e-star", {"minibatch_statistics": "discrimination"}),
    ("d", "e", {"minibatch_statistics": "stddev", "mbstd_group": 16}),
    ("e", "f", {"equalized": True, "learning_rate": {"4": 0.001}}),
    ("f", "g", {"pixel_norm": True}),
    ("g", "h", {"fmap_base": 8192, "total_images": 20_000_000}),
]


@pytest.mark.parametrize(("before", "after", "changes"), TABLE1, ids=lambda value: str(value)[:6])
def test_a_row_of_table_1_changes_what_the_paper_says(before, after, changes):
    assert differing(PRESETS[f"table1-{before}"], PRESETS[f"table1-{after}"]) == changes


def test_table_1_begins_with_gulrajani_and_ends_with_the_paper_s_own_training():
    a, g = PRESETS["table1-a"], PRESETS["table1-g"]
    assert differing(ProGANConfig(), a) == {
        "resolution": 128, "latent_size": 128, "fmap_base": 2048, "minibatch_statistics": "none",
        "normalise_latents": False, "equalized": False, "pixel_norm": False, "generator_norm": "batch",
        "discriminator_norm": "layer", "activation": "relu", "output": "tanh", "growing": False,
        "stabilise_images": 800_000, "fade_images": 800_000, "total_images": 10_000_000,
        "minibatch": {"4": 64}, "learning_rate": {"4": 0.0001}, "minibatch_repeats": 1, "d_repeats": 5,
        "adam_beta2": 0.9, "drift": 0.0, "ema": 0.999**4, "mirror": True,
    }  # fmt: skip
    assert differing(ProGANConfig(), g) == {
        "resolution": 128, "fmap_base": 2048, "mbstd_group": 16, "stabilise_images": 800_000,
        "fade_images": 800_000, "total_images": 10_000_000, "minibatch_repeats": 1, "mirror": True,
    }  # fmt: skip


@pytest.mark.parametrize(("row", "per_generator_step"), [("a", 20), ("b", 20), ("c", 5), ("d", 1), ("g", 1)])
def test_averages_of_table_1_forget_as_fast_as_the_original_s(row, per_generator_step):
    # The original averages after a generator step, ours in every discriminator step.
    config = PRESETS[f"table1-{row}"]
    assert config.ema**config.d_repeats == pytest.approx(0.999**per_generator_step, rel=1e-12)


@pytest.mark.parametrize("name", ["tiny-32", "small-32", "tiny-64"])
def test_twins_differ_in_growing_alone(name):
    assert differing(PRESETS[name], PRESETS[f"{name}-fixed"]) == {"growing": False}
    assert differing(PRESETS["tiny-32"], PRESETS["tiny-32-lsgan"]) == {"loss": "lsgan", "noise_strength": 0.2}


# The published counts of the original at these settings; batch norm has a gain in place of nothing.
COUNTS = {
    "celebahq-1024-v1": (23_079_115, 23_087_249),
    "lsun-256": (23_044_309, 23_052_353),
    "cifar10-32": (1_296_908, 1_298_689),
    "table1-g": (13_629_810, 13_636_897),
    "table1-h": (22_933_394, 22_941_313),
}


@pytest.mark.parametrize("name", PRESETS)
def test_networks_of_every_preset_can_be_built(name):
    config = PRESETS[name]
    with torch.device("meta"):
        counts = tuple(sum(p.numel() for p in n(config).parameters()) for n in (Generator, Discriminator))
    assert counts == COUNTS.get(name, counts)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains(name):
    # Scaled down to where a step takes milliseconds: what makes the presets differ in kind stays.
    preset = PRESETS[name]
    config = replace(
        preset,
        resolution=8,
        fmap_base=32,
        fmap_max=8,
        latent_size=8,
        minibatch={4: 4},
        minibatch_repeats=2,
        stabilise_images=16,
        fade_images=16,
        total_images=64,
    )
    pixels = np.random.default_rng(5).integers(0, 256, (12, 3, 8, 8)).astype(np.uint8)
    trainer = Trainer(config, TrainingImages(ArraySource(pixels), config), torch.device("cpu"))
    before = [p.detach().clone() for p in trainer.generator.parameters()]
    resolutions = set()
    while trainer.images_shown < config.total_images:
        now = stage(trainer.images_shown, config)
        progress = trainer.run(now)
        resolutions.add(now.resolution)
        assert np.isfinite([progress.real, progress.fake, progress.penalty, progress.norm]).all()
    assert progress.skipped == 0
    assert resolutions == ({4, 8} if preset.growing else {8})
    moved = [not torch.equal(a, b) for a, b in zip(before, trainer.generator.parameters(), strict=True)]
    if preset.growing:
        assert all(moved)


PAGE = Path(__file__).parents[4] / "docs" / "training.md"


def test_every_field_and_preset_is_explained():
    # An option comes with a line that says who uses it.
    first_cells = {line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("|")}
    explained = set(re.findall(r"`([^`]+)`", " ".join(first_cells)))
    assert {each.name for each in fields(ProGANConfig)} | set(PRESETS) <= explained


def test_defaults_are_explained_as_they_are():
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    for name in (
        "fused_scale",
        "mbstd_group",
        "loss",
        "growing",
        "d_repeats",
        "gp_resolution",
        "drift",
        "ema",
    ):
        (default,) = [cells[2] for cells in rows if f"`{name}`" in cells[1]]
        value = getattr(ProGANConfig(), name)
        assert default.strip(" `").startswith(str(value).lower() if isinstance(value, bool) else str(value))


def test_the_checklist_names_tests_that_are_there():
    files = {path.name: path for path in Path(__file__).parents[1].rglob("test_*.py")}
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE.read_text())
    assert len(named) > 50
    for file, test in named:
        assert f"def {test}(" in files[file].read_text(), f"{file}::{test}"


def test_the_page_shows_the_table_that_the_command_prints():
    assert presets_table() in PAGE.read_text()
