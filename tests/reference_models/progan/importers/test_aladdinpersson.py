"""Generators of aladdinpersson compute what that project computes, written down from its source."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from math import prod, sqrt

import pytest
import torch
import torch.nn.functional as F

from reference_models.progan.importers import import_network
from tests.helpers.foreign_networks import images_of, imported, normal, twice, unit


def aladdin_state(channels, latent, *, trained, colors=3):
    """Layers beyond the trained ones have the biases they began with."""
    state = OrderedDict()
    state["initial.1.weight"] = normal("initial.1", latent, channels[0], 4, 4) / 8
    state["initial.1.bias"] = normal("initial.1.bias", channels[0])

    def layer(name, *shape, moved=True):
        state[f"{name}.conv.weight"] = normal(name, *shape)
        state[f"{name}.bias"] = normal(name + "bias", shape[0]) * moved

    layer("initial.3", channels[0], channels[0], 3, 3)
    layer("initial_rgb", colors, channels[0], 1, 1)
    for i, (before, after) in enumerate(pairwise(channels)):
        layer(f"prog_blocks.{i}.conv1", after, before, 3, 3, moved=8 << i <= trained)
        layer(f"prog_blocks.{i}.conv2", after, after, 3, 3, moved=8 << i <= trained)
    for i, c in enumerate(channels):
        layer(f"rgb_layers.{i}", colors, c, 1, 1, moved=4 << i <= trained)
    for part in ("conv.weight", "bias"):
        state[f"rgb_layers.0.{part}"] = state[f"initial_rgb.{part}"]
    return state


def aladdin_images(state, z, steps):
    def run(x, name):
        w, b = state[f"{name}.conv.weight"].double(), state[f"{name}.bias"].double()
        return F.conv2d(x * sqrt(2 / prod(w.shape[1:])), w, padding=w.shape[-1] // 2) + b[:, None, None]

    x = unit(z)[:, :, None, None]
    x = F.conv_transpose2d(x, state["initial.1.weight"].double(), state["initial.1.bias"].double())
    x = unit(F.leaky_relu(run(F.leaky_relu(x, 0.2), "initial.3"), 0.2))
    if steps == 0:
        return run(x, "initial_rgb")
    for step in range(steps):
        x = unit(F.leaky_relu(run(twice(x), f"prog_blocks.{step}.conv1"), 0.2))
        x = unit(F.leaky_relu(run(x, f"prog_blocks.{step}.conv2"), 0.2))
    return torch.tanh(run(x, f"rgb_layers.{steps}"))


@pytest.mark.parametrize(("steps", "trained"), [(0, 4), (2, 16), (4, 64)])
def test_aladdinpersson_s_layout(saved, out, steps, trained):
    state = aladdin_state((8, 8, 8, 8, 4), latent=6, trained=trained)
    path = saved({"state_dict": state, "optimizer": {"state": {}, "param_groups": []}})
    assert import_network(path, out)[1] == "aladdinpersson"
    facts, g = imported(path, out)
    assert (facts.resolution, facts.config.resolution, facts.config.latent_size) == (trained, 64, 6)
    z = normal("z", 3, 6).double()
    expected = aladdin_images(state, z, steps)
    assert torch.allclose(images_of(facts, g, z), expected, rtol=0, atol=1e-4)
    facts, g = imported(path, out, resolution=8)
    assert torch.allclose(images_of(facts, g, z), aladdin_images(state, z, 1), rtol=0, atol=1e-4)
