"""A run directory to sample from."""

from __future__ import annotations

import pytest

from reference_models.progan.model.checkpoint import Checkpoint, save
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.networks import Generator

CONFIG = ProGANConfig(resolution=16, fmap_base=64, fmap_max=16, latent_size=16, label_size=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory of a conditional network with a checkpoint at 4 x 4 and one at 8 x 8."""
    directory = tmp_path_factory.mktemp("run")
    (directory / "checkpoints").mkdir()
    for side in (4, 8):
        generator = Generator(CONFIG)
        initialize(generator, "generator", side)
        facts = Checkpoint(
            config=CONFIG,
            images_shown=side,
            resolution=side,
            alpha=1.0,
            data_fingerprint="none",
            licence="CC0",
            label_names=("cat", "dog"),
            label_distribution=(0.5, 0.5),
        )
        save(directory / "checkpoints" / f"images{side}.safetensors", facts, generator)
    return directory


@pytest.fixture
def paths(run):
    return [run / "checkpoints" / f"images{side}.safetensors" for side in (4, 8)]
