"""GAN-zoo's models compute what that project computes, with each of its settings."""

from __future__ import annotations

import copy
from math import prod, sqrt

import pytest
import torch
import torch.nn.functional as F

from reference_models.progan.importers import import_network
from tests.helpers.foreign_networks import (
    GAN_ZOO_SETTINGS,
    gan_zoo_state,
    imported,
    normal,
    refuses,
    twice,
    unit,
)
from tests.helpers.samplers import sample_images


def gan_zoo_images(state, z, settings, module=""):
    def run(x, name, pad=0):
        w, b = state[f"{name}{module}.weight"], state[f"{name}{module}.bias"]
        x = F.conv2d(x, w, b, padding=pad) if w.ndim == 4 else F.linear(x, w, b)
        return x * sqrt(2 / prod(w.shape[1:])) if settings["equalizedlR"] else x

    def features(x):
        return unit(F.leaky_relu(x, 0.2))

    x = F.leaky_relu(run(unit(z), "formatLayer"), 0.2).reshape(len(z), -1, 4, 4)
    x = features(run(unit(x), "groupScale0.0", 1))
    count = 0
    before = x
    while f"scaleLayers.{count}.0{module}.weight" in state:
        before = x
        x = features(run(twice(x), f"scaleLayers.{count}.0", 1))
        x = features(run(x, f"scaleLayers.{count}.1", 1))
        count += 1
    images = run(x, f"toRGBLayers.{count}")
    if count and settings["alpha"] > 0:
        old = twice(run(before, f"toRGBLayers.{count - 1}"))
        images = settings["alpha"] * old + (1 - settings["alpha"]) * images
    return torch.tanh(images) if settings["lossCriterion"] == "DCGAN" else images


@pytest.mark.parametrize(
    ("channels", "module", "changes"),
    [
        ((8, 8, 4), ".module", {}),
        ((8, 8, 4), "", {"alpha": 0.25, "lossCriterion": "Logistic"}),
        ((8, 4), ".module", {"alpha": 0.5, "lossCriterion": "DCGAN"}),
        ((8,), ".module", {"alpha": 0.5, "equalizedlR": False}),
    ],
    ids=str,
)
def test_gan_zoo_s_layout(hub, out, channels, module, changes):
    state = gan_zoo_state(channels, latent=6, module=module)
    path = hub(state, **changes)
    assert import_network(path, out)[1] == "gan-zoo"
    facts, g = imported(path, out)
    side = 4 << (len(channels) - 1)
    # Theirs is the weight of the old resolution.
    alpha = 1 - changes.get("alpha", 0) if side > 4 else 1
    assert (facts.resolution, facts.alpha, facts.config.latent_size) == (side, alpha, 6)
    z = normal("z", 5, 6)
    doubled = {name: t.double() for name, t in state.items()}
    expected = gan_zoo_images(doubled, z.double(), GAN_ZOO_SETTINGS | changes, module)
    made = copy.deepcopy(g).double()(z.double(), resolution=side, alpha=facts.alpha)
    assert torch.allclose(made, expected, rtol=0, atol=2e-5)
    trained = imported(path, out, which="G")[1]
    assert torch.allclose(trained.block4.conv.weight, 3 * g.block4.conv.weight)


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"lossCriterion": "GDPP"}, "lossCriterion is 'GDPP'; our networks have WGANGP or"),
        ({"leakyReluLeak": 0.1}, "leakyReluLeak is '0.1'; our networks have 0.2"),
        ({"perChannelNormalization": False}, "perChannelNormalization is 'False'"),
        ({"categoryVectorDim": 4}, "categoryVectorDim is '4'"),
        ({"categoryVectorDim": torch.zeros(2)}, "categoryVectorDim is of type Tensor"),
        ({"alpha": None}, "alpha is not a number"),
        ({"alpha": 2.0}, "alpha is not a number"),
    ],
)
def test_gan_zoo_s_settings_that_ours_cannot_be_are_named(hub, out, changes, fact):
    refuses(hub(gan_zoo_state((4, 4), latent=4), **changes), out, fact)


@pytest.mark.parametrize("equalized", [True, False])
def test_gan_zoo_s_bias_for_each_pixel_is_kept(hub, out, equalized):
    state = gan_zoo_state((4, 4), latent=4)
    # One step of training tells the pixels of a channel apart.
    state["formatLayer.bias"] += normal("step", 64)
    changes = {"equalizedlR": equalized, "alpha": 0.25}
    facts, g = imported(hub(state, **changes), out)
    assert facts.config.first_bias == "pixel"
    z = normal("z", 5, 4).double()
    expected = gan_zoo_images({name: t.double() for name, t in state.items()}, z, GAN_ZOO_SETTINGS | changes)
    assert torch.allclose(g.double()(z, resolution=8, alpha=facts.alpha), expected, rtol=0, atol=2e-5)
    assert sample_images(out, 2).shape == (2, 3, 8, 8)


def test_gan_zoo_s_first_layer_must_be_of_4_x_4_pixels(hub, out):
    state = gan_zoo_state((4, 4), latent=4)
    state["formatLayer.bias"] = state["formatLayer.bias"][:-1]
    refuses(hub(state), out, "formatLayer.bias has 63 numbers")


def test_gan_zoo_s_settings_have_that_project_s_defaults(hub, out):
    state = gan_zoo_state((4, 4), latent=4)
    path = hub(state)
    g = imported(path, out)[1].state_dict()
    config = hub.kind()
    config.attribKeysOrder = None
    torch.save({"config": config, "netG": state, "avgG": state}, path)
    facts, again = imported(path, out)
    assert facts.config.output == "linear"
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, g[name])
