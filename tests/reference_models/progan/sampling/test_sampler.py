"""A sampler: batches of one shape, and no images of a network that diverged."""

from __future__ import annotations

import pytest
import torch

from pgmetrics.errors import SourceError
from pgmetrics.runtime import images as byte_images
from reference_models.progan.model.checkpoint import Checkpoint, save
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.networks import Generator
from reference_models.progan.sampling.latents import latents
from reference_models.progan.sampling.sampler import Sampler
from reference_models.progan.sampling.source import ProGANSource
from tests.helpers.configs import WITH_48_LATENTS


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


def test_a_diverged_network_is_refused(tmp_path):
    generator = Generator(WITH_48_LATENTS)
    initialize(generator, "generator", 1)
    with torch.no_grad():
        generator.to_rgb4.weight.fill_(3e38)  # finite itself, which reading the checkpoint checks
    facts = Checkpoint(
        config=WITH_48_LATENTS,
        images_shown=1,
        resolution=4,
        alpha=1.0,
        data_fingerprint="none",
        licence="CC0",
    )
    save(tmp_path / "c", facts, generator)
    with pytest.raises(SourceError, match=f"progan:{tmp_path / 'c'},seed=0 gave NaN .* first in image 70;"):
        ProGANSource(tmp_path / "c").batch([70])
