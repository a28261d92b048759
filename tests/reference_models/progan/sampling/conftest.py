"""Untrained networks to sample from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reference_models.progan.model.checkpoint import Checkpoint, save
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.networks import Generator
from tests.helpers.configs import WITH_48_LATENTS


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    def write(**options):
        config = replace(
            WITH_48_LATENTS,
            **{k: v for k, v in options.items() if hasattr(WITH_48_LATENTS, k) and k != "resolution"},
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
