"""Generators of genforce compute what that project computes, written down from its source."""

from __future__ import annotations

from collections import OrderedDict
from math import prod, sqrt

import pytest
import torch
import torch.nn.functional as F

from reference_models.progan.importers import import_network
from tests.helpers.foreign_networks import genforce_state, images_of, imported, normal, refuses, twice, unit


def genforce_images(state, z, *, fused):
    """Of the stage that lod says, at its own resolution."""
    lod, blocks = float(state["lod"]), sum(name.startswith("output") for name in state) // 2

    def run(x, name, gain, up=False):
        w, b = state[f"{name}.weight"].double(), state[f"{name}.bias"].double()
        x = unit(x)
        if up and fused:
            # The fan in is that of the convolution, whose inputs are the first axis here.
            w = w * gain / sqrt(9 * w.shape[0])
            padded = F.pad(w, (1, 1, 1, 1))
            w = sum(padded[:, :, i : i + 4, j : j + 4] for i in (0, 1) for j in (0, 1))
            return F.conv_transpose2d(x, w, b, stride=2, padding=1)
        w = w * gain / sqrt(prod(w.shape[1:]))
        return F.conv2d(twice(x) if up else x, w, b, padding={4: 3, 3: 1, 1: 0}[w.shape[-1]])

    # Normalized here and once more by the first layer.
    x = unit(z)[:, :, None, None]
    stages = []
    for i in range(blocks):
        if lod >= blocks - i:
            break
        x = F.leaky_relu(run(x, f"layer{2 * i}", sqrt(2), up=i > 0), 0.2)
        x = F.leaky_relu(run(x, f"layer{2 * i + 1}", sqrt(2)), 0.2)
        stages.append(run(x, f"output{i}", 1))
    # The last stage is faded in.
    alpha = min(blocks - len(stages) + 1 - lod, 1)
    return stages[-1] if alpha == 1 else (1 - alpha) * twice(stages[-2]) + alpha * stages[-1]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("lod", "side", "alpha"), [(0.0, 32, 1), (0.75, 32, 0.25), (1.0, 16, 1), (2.5, 8, 0.5)]
)
def test_genforce_s_layout(saved, out, fused, lod, side, alpha):
    state = genforce_state((8, 8, 4, 2), latent=8, fused=fused, lod=lod)
    trained = OrderedDict((name, 2 * t if "layer1.w" in name else t) for name, t in state.items())
    path = saved({"generator": trained, "generator_smooth": state, "discriminator": {}})
    assert import_network(path, out)[1] == "genforce"
    facts, g = imported(path, out)
    assert (facts.resolution, facts.alpha, facts.config.fused_scale) == (side, alpha, fused)
    z = normal("z", 3, 8).double()
    expected = genforce_images(state, z, fused=fused)
    assert expected.shape == (3, 3, side, side)
    assert torch.allclose(images_of(facts, g, z), expected, rtol=0, atol=1e-4)
    other = imported(path, out, which="G")[1]
    assert torch.allclose(other.block4.conv.weight.double(), 2 * g.block4.conv.weight)


def test_one_generator_of_genforce_alone_is_the_averaged_one(saved, out):
    state = genforce_state((4, 4), latent=4, fused=False)
    assert imported(saved(state), out)[0].resolution == 8
    out.unlink()
    refuses(saved(state), out, "holds one generator, the averaged one", which="G")
    refuses(saved({"generator": state}), out, "no averaged generator generator_smooth; --which G takes")
    refuses(saved(state | {"lod": torch.tensor(2.0)}), out, "lod is none of a network of 2 resolutions")
    refuses(saved(state | {"lod": [0.0]}), out, "'lod' is not a number")
