"""Networks of other projects for tests: weights by formulas, and what an import gives or refuses."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from itertools import pairwise
from math import prod, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

from pgmetrics.errors import SourceError
from reference_models.progan.importers import import_network
from reference_models.progan.model.checkpoint import load


def by_name(name, shape):
    """Numbers that look normal, by a formula of a variable's name."""
    start = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 1000
    i = np.arange(prod(shape), dtype=np.float64) + start
    u = 43758.5453 * np.sin(12.9898 * i)
    u2 = 12543.123 * np.sin(78.233 * i + 1)
    u, u2 = u - np.floor(u), u2 - np.floor(u2)
    value = np.sqrt(-2 * np.log(np.maximum(u, 1e-12))) * np.cos(2 * np.pi * u2)
    return value.reshape(shape) * (0.1 if name.endswith("bias") else 1)


def imported(path, out, **options):
    facts, _ = import_network(path, out, **options)
    said, generator = load(out)
    assert facts == said
    return facts, generator


def refuses(path, out, fact, **options):
    with pytest.raises(SourceError, match=fact) as refused:
        import_network(path, out, **options)
    message = str(refused.value)
    assert message.startswith(f"{path} cannot be imported: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 500
    assert not out.exists()


def normal(name, *shape):
    return torch.from_numpy(by_name(name, shape).astype(np.float32))


def unit(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def twice(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def ptrblck_state(channels, latent, colors=3):
    state = OrderedDict()

    def layer(name, *shape):
        state[f"{name}.conv.weight"] = normal(name, *shape)
        # Measured, so not quite the nominal one.
        state[f"{name}.wscale.scale"] = torch.tensor([1.01 * sqrt(2 / prod(shape[1:]))])
        state[f"{name}.wscale.b"] = normal(name + "bias", shape[0])

    layer("features.0", channels[0], latent, 4, 4)
    layer("features.1", channels[0], channels[0], 3, 3)
    for k, (before, after) in enumerate(pairwise(channels), 1):
        layer(f"features.{2 * k}", after, before, 3, 3)
        layer(f"features.{2 * k + 1}", after, after, 3, 3)
    layer("output", colors, channels[-1], 1, 1)
    return state


def gan_zoo_state(channels, latent, colors=3, module=""):
    state = OrderedDict()

    def layer(name, *shape):
        state[f"{name}{module}.weight"] = normal(name, *shape)
        state[f"{name}{module}.bias"] = normal(name + "bias", shape[0])

    layer("formatLayer", 16 * channels[0], latent)
    # As ours can be: one bias for each channel.
    bias = normal("formatbias", channels[0]).repeat_interleave(16)
    state[f"formatLayer{module}.bias"] = bias
    layer("groupScale0.0", channels[0], channels[0], 3, 3)
    for s, (before, after) in enumerate(pairwise(channels)):
        layer(f"scaleLayers.{s}.0", after, before, 3, 3)
        layer(f"scaleLayers.{s}.1", after, after, 3, 3)
    for s, c in enumerate(channels):
        layer(f"toRGBLayers.{s}", colors, c, 1, 1)
    return state


GAN_ZOO_SETTINGS = {
    "perChannelNormalization": True,
    "leakyReluLeak": 0.2,
    "lossCriterion": "WGANGP",
    "categoryVectorDim": 0,
    "equalizedlR": True,
    "alpha": 0,
    "attribKeysOrder": None,
    "depthOtherScales": [512],
}


FILES = Path(__file__).parents[1] / "reference_models" / "progan" / "importers" / "foreign_files"


IMAGES = dict(np.load(FILES / "images.npz"))


def images_of(facts, g, z):
    """What an imported network makes of latents, at its stage."""
    return g.double()(z.double(), resolution=facts.resolution, alpha=facts.alpha)


def chain_state(bias, channels, latent, colors=3):
    """A network of layer1, layer2, ... and output_RxR."""
    state = OrderedDict()

    def layer(name, *shape):
        state[f"{name}.conv.weight"] = normal(name, *shape)
        state[f"{name}.{bias}"] = normal(name + "bias", shape[0])

    layer("layer1", channels[0], latent, 4, 4)
    layer("layer2", channels[0], channels[0], 3, 3)
    for k, (before, after) in enumerate(pairwise(channels), 1):
        layer(f"layer{2 * k + 1}", after, before, 3, 3)
        layer(f"layer{2 * k + 2}", after, after, 3, 3)
    side = 2 << len(channels)
    layer(f"output_{side}x{side}", colors, channels[-1], 1, 1)
    return state


def genforce_state(channels, latent, *, fused, lod=0.0, colors=3):
    state = OrderedDict(lod=torch.tensor(lod))

    def layer(name, *shape, outputs):
        state[f"{name}.weight"] = normal(name, *shape)
        state[f"{name}.bias"] = normal(name + "bias", outputs)

    for i, c in enumerate(channels):
        if i == 0:
            layer("layer0", c, latent, 4, 4, outputs=c)
        else:
            pair = (channels[i - 1], c) if fused else (c, channels[i - 1])
            layer(f"layer{2 * i}", *pair, 3, 3, outputs=c)
        layer(f"layer{2 * i + 1}", c, c, 3, 3, outputs=c)
        layer(f"output{i}", colors, c, 1, 1, outputs=colors)
    return state
