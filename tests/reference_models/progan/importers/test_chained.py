"""Generators in one chain of ptrblck, InterFaceGAN and gandissect compute what those projects compute."""

from __future__ import annotations

from math import prod, sqrt

import pytest
import torch
import torch.nn.functional as F

from reference_models.progan.importers import import_network
from tests.helpers.foreign_networks import (
    chain_state,
    images_of,
    imported,
    normal,
    ptrblck_state,
    refuses,
    twice,
    unit,
)
from tests.helpers.samplers import sample_images


def ptrblck_images(state, z):
    x = z[:, :, None, None]
    names = [name[: -len(".conv.weight")] for name in state if name.endswith("conv.weight")]
    for i, name in enumerate(names):
        w = state[f"{name}.conv.weight"]
        x = unit(x)
        if i >= 2 and i % 2 == 0 and name != "output":
            x = twice(x)
        x = F.conv2d(x, w, padding={4: 3, 3: 1, 1: 0}[w.shape[-1]])
        x = x * state[f"{name}.wscale.scale"] + state[f"{name}.wscale.b"][:, None, None]
        if name != "output":
            x = F.leaky_relu(x, 0.2)
    return x


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("channels", "colors"), [((8, 8, 4), 3), ((6, 3), 1), ((4,), 3)], ids=str)
def test_ptrblck_s_layout(saved, out, channels, colors, zipped):
    state = ptrblck_state(channels, latent=6, colors=colors)
    path = saved(state, _use_new_zipfile_serialization=zipped)
    assert import_network(path, out)[1] == "ptrblck"
    facts, g = imported(path, out, licence="CC BY-NC 4.0")
    side = 4 << (len(channels) - 1)
    assert (facts.resolution, facts.alpha, facts.config.latent_size) == (side, 1.0, 6)
    assert [facts.config.feature_maps(r) for r in facts.config.resolutions] == list(channels)
    z = normal("z", 5, 6)
    expected = ptrblck_images({name: t.double() for name, t in state.items()}, z.double())
    assert expected.shape == (5, colors, side, side)
    # Weights rounded twice, and pixel norms of few channels that enlarge it.
    assert torch.allclose(g.double()(z.double(), resolution=side), expected, rtol=0, atol=2e-5)
    assert sample_images(out, 2).shape == (2, 3, side, side)


def chain_images(state, bias, z):
    x = z[:, :, None, None]
    names = [name.removesuffix(".conv.weight") for name in state if name.endswith("conv.weight")]
    for i, name in enumerate(names):
        w, b = state[f"{name}.conv.weight"].double(), state[f"{name}.{bias}"].double()
        x = unit(x)
        if i >= 2 and i % 2 == 0 and not name.startswith("output"):
            x = twice(x)
        x = F.conv2d(x, w, padding={4: 3, 3: 1, 1: 0}[w.shape[-1]])
        gain = 1 if name.startswith("output") else sqrt(2)
        x = x * (gain / sqrt(prod(w.shape[1:]))) + b[:, None, None]
        if not name.startswith("output"):
            x = F.leaky_relu(x, 0.2)
    return x


@pytest.mark.parametrize(("layout", "bias"), [("interfacegan", "wscale.bias"), ("gandissect", "wscale.b")])
@pytest.mark.parametrize("nested", [False, True])
def test_chains_with_computed_scales(saved, out, layout, bias, nested):
    # Channels of 256 x 256 of the LSUN networks, an eighth as many.
    channels = (8, 8, 8, 4, 2)
    state = chain_state(bias, channels, latent=8)
    path = saved({"state_dict": state} if nested else state)
    assert import_network(path, out)[1] == layout
    facts, g = imported(path, out)
    assert (facts.resolution, facts.config.resolution, facts.images_shown) == (64, 64, None)
    z = normal("z", 3, 8).double()
    assert torch.allclose(images_of(facts, g, z), chain_images(state, bias, z), rtol=0, atol=1e-4)


def test_chains_that_are_not_whole_are_refused(saved, out):
    state = chain_state("wscale.b", (4, 4), latent=4)
    refuses(saved(state | {"output_16x16.conv.weight": torch.zeros(3, 4, 1, 1)}), out, "has 2 layers output")
    refuses(saved(state | {"layer9.conv.weight": torch.zeros(1)}), out, "has 'layer9.conv.weight'")
    del state["layer3.wscale.b"]
    refuses(saved(state), out, "lacks the tensor layer3.wscale.b")
