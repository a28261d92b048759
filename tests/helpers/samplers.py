"""Small ProGAN checkpoints of known worth: one whose own samples are the reals, and worse ones."""

import torch

from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream
from reference_models.progan.model.checkpoint import Checkpoint, save
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.networks import Generator
from reference_models.progan.sampling.source import ProGANSource

CONFIG = ProGANConfig(resolution=32, fmap_base=128, fmap_max=16, latent_size=16)


def write_checkpoint(path, damage=0.0, images_shown=0):
    """A generator of 32 px, the same at every call.

    Args:
        damage: standard deviation of noise on the weights of its last block, of order 1.
    """
    generator = Generator(CONFIG)
    initialize(generator, "generator", 1)
    with torch.no_grad():
        for number, (name, tensor) in enumerate(sorted(generator.state_dict().items())):
            if name.startswith("block32") and name.endswith("weight"):
                noise = seeding.generator(0, Stream.INITIALIZATION, 99, number).standard_normal(tensor.shape)
                tensor += damage * torch.from_numpy(noise).to(tensor.dtype)
    facts = Checkpoint(
        config=CONFIG,
        images_shown=images_shown,
        resolution=32,
        alpha=1.0,
        data_fingerprint="none",
        licence="CC0",
    )
    save(path, facts, generator)
    return path


def sample_images(path, num_images, seed=0):
    """The first images of a checkpoint: uint8 [N, 3, H, W] at its own resolution."""
    return ProGANSource(path, seed=seed, n=num_images).batch(range(num_images))
