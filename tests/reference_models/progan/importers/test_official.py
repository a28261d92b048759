"""Snapshots of the original, and of networks converted from Theano: the right function comes out.

Golden numbers: the original TF1 networks.py (commit 2504c3f), in float64 for GOLDEN and in float32
for VECTORS, on weights made by formulas. The pickles are made here, by Python's own pickler from a
class of the original's name and module. The functions they should compute are written down from the
facts of each layout and not with our layers.
"""

from __future__ import annotations

import pickle
from itertools import pairwise
from math import prod, sqrt

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.helpers.foreign_networks import by_name, imported, refuses
from tests.helpers.official_snapshots import SMALL, TINY, changed_variable, network, snapshot, variable_shapes

# lod, mean G, rms G.
GOLDEN = [
    (3.0, -0.7756156822, 1.2313644833),
    (2.5, -0.1682540067, 0.6412839244),
    (2.0, 0.4391076688, 0.9134836773),
    (1.25, -0.0274010565, 0.6316507698),
    (1.0, -0.1829039649, 0.8468005374),
    (0.75, -0.0775431045, 0.6455563846),
    (0.0, 0.2385394768, 0.8302394790),
]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda row: f"lod{row[0]}")
def test_the_original_s_networks_compute_what_they_did(pickled, out, golden):
    # 1e-5: the file's weights are float32.
    lod, mean, rms = golden
    facts, g = imported(pickled(snapshot(SMALL, lod=lod)), out)
    assert facts.resolution == 32 >> int(lod)
    assert facts.alpha == pytest.approx(1 - (lod - int(lod)))
    z = torch.from_numpy(by_name("z", (8, 32))).float()
    images = g(z, resolution=facts.resolution, alpha=facts.alpha)
    assert float(images.mean()) == pytest.approx(mean, abs=1e-5)
    assert float(images.square().mean().sqrt()) == pytest.approx(rms, abs=1e-5)


# fused, lod, G[0, :, 0, 0], G[7, :, 9, 14]: printed to 1e-5 by the original's float32 run.
VECTORS = [
    (True, 0, (-1.04807, -0.52327, 0.21699), (-1.39658, -1.16008, -0.33661)),
    (True, 0.5, (-1.05182, -0.14408, 0.73249), (-0.52622, -1.06384, -0.93644)),
    (True, 1, (-1.05558, 0.23512, 1.24799), (0.34413, -0.96759, -1.53626)),
    (True, 2, (-0.33470, -1.32050, -1.34030), (-1.30150, -0.19867, 0.87532)),
    (False, 0, (0.92930, 0.63531, 0.06416), (0.41205, -0.13545, -0.52349)),
    (False, 0.5, (-0.18028, -0.55653, -0.53730), (0.17118, -0.66039, -0.99145)),
    (False, 1, (-1.28985, -1.74836, -1.13876), (-0.06970, -1.18532, -1.45942)),
    (False, 2, (-0.33470, -1.32050, -1.34030), (-1.30150, -0.19867, 0.87532)),
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda row: f"{'fused' if row[0] else 'plain'}-lod{row[1]}")
def test_pixels_are_the_original_s_with_fused_and_with_plain_names(pickled, out, vector):
    fused, lod, first, last = vector
    size = TINY | {"fused": fused}
    facts, g = imported(pickled(snapshot(size, lod=lod, numbered=True)), out)
    assert facts.config.fused_scale is fused
    n, i = np.mgrid[:8, :4]
    z = torch.from_numpy(np.cos(0.5 * n + 0.3 * i + 0.1)).float()
    images = g(z, resolution=facts.resolution, alpha=facts.alpha)
    factor = 16 // facts.resolution
    assert images[0, :, 0, 0].tolist() == pytest.approx(first, abs=2e-5)
    assert images[7, :, 9 // factor, 14 // factor].tolist() == pytest.approx(last, abs=2e-5)


def original_images(state, x, *, labels=None):
    """What the original computes at lod 0 from a state of plain names, by its variables alone."""
    arguments = {
        "normalize_latents": True, "use_wscale": True, "use_pixelnorm": True, "use_leakyrelu": True
    } | state["static_kwargs"]  # fmt: skip
    v = {name: torch.tensor(value).double() for name, value in state["variables"]}

    def scaled(name, gain):
        w = v[f"{name}/weight"]
        return w * gain / sqrt(prod(w.shape[:-1])) if arguments["use_wscale"] else w

    def norm(x):
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()

    def act(x, name):
        x = x + v[f"{name}/bias"][:, None, None]
        x = torch.where(x > 0, x, 0.2 * x if arguments["use_leakyrelu"] else 0 * x)
        return norm(x) if arguments["use_pixelnorm"] else x

    def conv(x, name):
        return act(F.conv2d(x, scaled(name, sqrt(2)).permute(3, 2, 0, 1), padding=1), name)

    if labels is not None:
        x = torch.cat([x, labels], 1)
    if arguments["normalize_latents"]:
        x = norm(x)
    x = act((x @ scaled("4x4/Dense", sqrt(2) / 4)).reshape(len(x), -1, 4, 4), "4x4/Dense")
    x = conv(x, "4x4/Conv")
    side = 4
    while f"{2 * side}x{2 * side}/Conv0/weight" in v:
        side *= 2
        x = conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3), f"{side}x{side}/Conv0")
        x = conv(x, f"{side}x{side}/Conv1")
    rgb = scaled("ToRGB_lod0", 1).permute(3, 2, 0, 1)
    return F.conv2d(x, rgb) + v["ToRGB_lod0/bias"][:, None, None]


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        ({}, {}),
        ({"normalize_latents": False}, {"normalise_latents": False}),
        ({"use_wscale": False}, {"equalized": False}),
        ({"use_pixelnorm": False}, {"pixel_norm": False}),
        ({"use_leakyrelu": False}, {"activation": "relu"}),
        ({"fmap_base": 16.0, "fmap_decay": 1, "some_new_option": None}, {}),
        ({"latent_size": None}, {"latent_size": 4}),
    ],
    ids=str,
)
def test_switches_of_the_original_are_ours(pickled, out, arguments, changed):
    size = TINY | {"fused": False, "labels": 3, "channels": 1}
    states = snapshot(size, d_arguments={"mbstd_group_size": 16}, **arguments)
    facts, g = imported(pickled(states), out)
    for name, value in ({"mbstd_group": 16, "label_size": 3, "channels": 1} | changed).items():
        assert getattr(facts.config, name) == value
    z = torch.from_numpy(by_name("z", (5, 4)))
    y = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 1, 0]]
    expected = original_images(states[2], z, labels=y)
    assert torch.allclose(g.double()(z, y, resolution=16), expected, rtol=0, atol=1e-9)
    assert facts.label_names == ("0", "1", "2")
    assert sum(facts.label_distribution) == pytest.approx(1)


@pytest.mark.slow
def test_what_the_file_leaves_out_is_the_original_s_default(pickled, out):
    size = {"resolution": 4, "base": 8192, "most": 512, "latent": 512}
    states = snapshot(TINY)
    for state in states:
        shapes = variable_shapes(state["name"][0], **size)
        state["variables"] = [("lod", np.float32(0)), *((n, np.zeros(s, "f4")) for n, s in shapes.items())]
        state["static_kwargs"]["resolution"] = 4
        for name in ("fmap_base", "fmap_max", "latent_size", "label_size"):
            del state["static_kwargs"][name]
    facts, _ = imported(pickled(states), out)
    config = facts.config
    assert (config.fmap_base, config.fmap_max, config.latent_size) == (8192, 512, 512)
    assert (config.mbstd_group, config.minibatch_statistics) == (4, "stddev")


def test_a_file_that_names_hardly_any_argument_has_all_of_the_original_s_defaults(pickled, out):
    size = {"resolution": 32, "base": 8192, "most": 4, "latent": 4, "channels": 1}
    states = snapshot(size)
    for state in states:
        state["static_kwargs"] = {"fmap_max": 4}
    config = imported(pickled(states), out)[0].config
    assert (config.resolution, config.channels, config.label_size) == (32, 1, 0)
    assert (config.latent_size, config.fmap_base, config.fmap_max) == (4, 8192, 4)


@pytest.mark.parametrize(
    ("group", "minibatch", "statistics"),
    [(1, 16, "none"), (0, 1, "none"), (3, 3, "stddev"), (32, 32, "stddev")],
)
def test_groups_of_the_discriminator_make_a_valid_configuration(pickled, out, group, minibatch, statistics):
    facts, _ = imported(pickled(snapshot(TINY, d_arguments={"mbstd_group_size": group})), out)
    assert (facts.config.minibatch_at(4), facts.config.minibatch_statistics) == (minibatch, statistics)
    assert facts.config.mbstd_group == max(group, 1)


def test_the_averaged_generator_is_taken_unless_the_other_is_asked_for(pickled, out):
    path = pickled(snapshot(TINY))
    averaged = imported(path, out)[1].block4.conv.weight
    assert torch.allclose(imported(path, out, which="G")[1].block4.conv.weight, 2 * averaged)


def test_a_generator_alone_and_a_list_are_read(foreign, pickled, out, tmp_path):
    states = snapshot(TINY | {"fused": False})
    averaged = imported(pickled(states), out)[1].block4.conv.weight
    kind, path = foreign("tfutil", "Network"), tmp_path / "alone.pkl"

    def write(make, *chosen):
        networks = []
        for state in chosen:
            networks.append(kind())
            networks[-1].__dict__.update(state)
        path.write_bytes(pickle.dumps(make(networks), protocol=2))

    write(list, *states)
    assert torch.equal(imported(path, out)[1].block4.conv.weight, averaged)
    write(tuple, states[0], states[2])
    assert torch.equal(imported(path, out, which="G")[1].block4.conv.weight, 2 * averaged)
    write(lambda networks: networks[0], states[2])
    facts, g = imported(path, out)
    assert torch.equal(g.block4.conv.weight, averaged)
    # What the file does not say of the discriminator is what networks of its kind had.
    assert facts.config.mbstd_group == 16
    # The converter from Theano calls every generator by the function that builds it.
    write(lambda networks: networks[0], states[2] | {"name": "G_paper"})
    assert torch.equal(imported(path, out)[1].block4.conv.weight, averaged)
    write(lambda networks: networks[0], states[0])
    assert torch.equal(imported(path, out, which="G")[1].block4.conv.weight, 2 * averaged)
    out.unlink()
    refuses(path, out, "no averaged generator Gs; --which G takes the other")
    write(lambda networks: networks[0], states[2])
    refuses(path, out, "holds one generator, the averaged one", which="G")


def theano_parameters(channels, latent, colors=3):
    """What a generator of the Theano version holds: kernels of unit size, their scales, and biases."""
    layers = [("4x4/Dense", (channels[0], latent, 4, 4), latent)]
    layers += [("4x4/Conv", (channels[0], channels[0], 3, 3), 9 * channels[0])]
    for i, (before, after) in enumerate(pairwise(channels)):
        side = 8 << i
        layers += [(f"{side}x{side}/Conv0", (after, before, 3, 3), 9 * before)]
        layers += [(f"{side}x{side}/Conv1", (after, after, 3, 3), 9 * after)]
    for lod, c in enumerate(reversed(channels)):
        layers += [(f"ToRGB_lod{lod}", (c, colors), c)]
    out = {}
    for name, shape, fan_in in layers:
        kernel = by_name(name, shape).astype(np.float32)
        # The scale is what was measured when the weights were drawn, and so not quite the nominal one.
        scale = np.float32((1.03 if "ToRGB" in name else 0.97 * sqrt(2)) / sqrt(fan_in))
        out[name] = kernel, scale, by_name(name + "/bias", (colors if "ToRGB" in name else shape[0],))
    return out


def theano_images(parameters, z):
    """What Theano computes of them at lod 0: true convolutions, whose kernels lie turned by 180 degrees."""

    def norm(x):
        return x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-8)

    def act(x, scale, bias):
        x = x * scale + bias[:, None, None]
        return norm(np.where(x > 0, x, 0.2 * x))

    def convolved(x, kernel):
        n, _, h, w = x.shape
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        out = np.zeros((n, len(kernel), h, w))
        for i, j in np.ndindex(3, 3):
            part = padded[:, :, i : i + h, j : j + w]
            out += np.einsum("oc,nchw->nohw", kernel[:, :, 2 - i, 2 - j], part)
        return out

    x = norm(z)
    for name, (kernel, scale, bias) in parameters.items():
        kernel = kernel.astype(np.float64)
        if name == "4x4/Dense":
            # Of one pixel, the full convolution is the kernel as it lies.
            x = act(np.einsum("nz,czyx->ncyx", x, kernel), scale, bias)
        elif name.startswith("ToRGB"):
            return np.einsum("nchw,co->nohw", x, kernel) * scale + bias[:, None, None]
        else:
            x = x.repeat(2, 2).repeat(2, 3) if name.endswith("Conv0") else x
            x = act(convolved(x, kernel), scale, bias)
    raise AssertionError


def converted(parameters):
    """The variables that the converter makes of them."""
    for name, (kernel, scale, bias) in parameters.items():
        if name == "4x4/Dense":
            stored = kernel.transpose(1, 0, 2, 3).reshape(kernel.shape[1], -1)
        elif name.startswith("ToRGB"):
            stored = kernel[None, None]
        else:
            stored = kernel.transpose(2, 3, 1, 0)[::-1, ::-1]
        gain = {"4x4/Dense": sqrt(2) / 4}.get(name, 1 if name.startswith("ToRGB") else sqrt(2))
        yield f"{name}/weight", np.float32(stored * scale / (gain / sqrt(prod(stored.shape[:-1]))))
        yield f"{name}/bias", np.float32(bias)
    yield "lod", np.float32(0)


def test_networks_converted_from_theano_compute_what_they_did(pickled, out):
    parameters = theano_parameters((8, 8, 4), latent=8)
    size = {"resolution": 16, "base": 32, "most": 8, "latent": 8, "fused": False}
    states = snapshot(size)
    left = {"num_channels": 3, "resolution": 16, "fmap_base": 32, "fmap_max": 8, "fmap_decay": 1.0}
    left |= {"fused_scale": False, "mbstd_group_size": 16}
    states[1] |= {"name": "D_paper", "static_kwargs": left}
    arguments = left | {"latent_size": 8, "normalize_latents": True, "use_pixelnorm": True}
    for state in (states[0], states[2]):
        state |= {"name": "G_paper", "static_kwargs": arguments, "variables": list(converted(parameters))}
    facts, g = imported(pickled(states), out)
    assert (facts.config.label_size, facts.config.mbstd_group, facts.config.fused_scale) == (0, 16, False)
    z = by_name("z", (4, 8))
    expected = theano_images(parameters, z)
    made = g.double()(torch.from_numpy(z), resolution=16).numpy()
    assert np.abs(made - expected).max() < 1e-4
    assert np.abs(expected).max() > 1


def changed_state(states, position, **changes):
    states[position] = states[position] | changes
    return states


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ({"pixelnorm_epsilon": 1e-4}, "pixelnorm_epsilon is 0.0001; our networks have 1e-08"),
        ({"dtype": "float16"}, "dtype is 'float16'; our networks have float32"),
        ({"tanh_at_end": True}, "built with 'tanh_at_end'"),
        ({"use_wscale": 1}, "use_wscale is 1, which is neither"),
        ({"num_channels": 4}, "images have 1 or 3 channels, not 4"),
        ({"num_channels": None}, "num_channels is None, "),
        ({"num_channels": np.float16(2.5)}, "num_channels is 2.5, "),
        ({"resolution": 24}, "24 cannot be reached"),
        ({"resolution": 2**20}, "resolution is 1048576, "),
        ({"resolution": 10**400}, "resolution is of type int, "),
        ({"label_size": -1}, "label_size is -1"),
        ({"latent_size": 5}, "4x4/Dense/weight has shape .4, 64. where its static_kwargs ask for .5, 64."),
        ({"latent_size": 2**40}, "latent_size is 1099511627776"),
        ({"fmap_max": True}, "fmap_max is True"),
        ({"fmap_base": 2**50}, "fmap_base is 1125899906842624"),
        ({"fmap_base": 16.5}, "fmap_base is 16.5"),
        ({"fmap_decay": float("nan")}, "fmap_decay is nan"),
        ({"fmap_decay": 3.0}, "fmap_base=16 leaves no channel"),
        (
            {"fmap_max": 2},
            "16x16/Conv0_up/weight has shape .3, 3, 2, 4. where its .* for .3, 3, 2, 2.",
        ),
        ({"resolution": 32, "fmap_base": 64}, "lacks the variable '32x32/Conv0_up/bias'"),
        ({"resolution": 8}, "has the variable '16x16/Conv0_up/bias'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_arguments_that_ours_cannot_be_are_named(pickled, out, arguments, fact):
    refuses(pickled(snapshot(TINY, **arguments)), out, fact)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda s: s[:2], "no averaged generator Gs; --which G takes the other"),
        (lambda s: s[1:2], "but 0 generators and 1 discriminators"),
        (lambda s: [s[0], s[2], s[2]], "but 3 generators and 0 discriminators"),
        (lambda s: [*s, s[2]], "but 4 objects"),
        (lambda s: [], "but 0 objects"),
        (lambda s: changed_state(s, 2, version=3), "version 3; 2 can be read"),
        (lambda s: changed_state(s, 2, build_func_name="G_style"), "built by 'G_style' where G_paper"),
        (lambda s: changed_state(s, 2, static_kwargs=None), "no static_kwargs"),
        (lambda s: changed_state(s, 2, variables=s[2]["variables"] * 2), "each once"),
        (lambda s: changed_state(s, 2, variables=[("lod",)]), "each once"),
        (lambda s: changed_state(s, 2, variables=None), "no list of names"),
        (lambda s: changed_state(s, 2, variables=s[2]["variables"][1:]), "no variable lod"),
        (lambda s: changed_state(s, 2, variables=s[2]["variables"][:-1]), "lacks .* 'ToRGB_lod0/bias'"),
        (lambda s: changed_variable(s, "lod", lambda v: np.float32(2.5)), "lod is none"),
        (lambda s: changed_variable(s, "lod", lambda v: np.float32("nan")), "lod is none"),
        (lambda s: changed_variable(s, "lod", lambda v: np.float64(0)), "no array of little-endian float32"),
        (lambda s: changed_variable(s, "lod", lambda v: 0.0), "'lod' is no array of little-endian float32"),
        (lambda s: changed_variable(s, "4x4/Conv/bias", lambda v: v.astype(">f4")), "little-endian float32"),
        (lambda s: changed_variable(s, "4x4/Conv/bias", lambda v: v.astype(object)), "no array of little"),
        (lambda s: changed_variable(s, "4x4/Conv/bias", lambda v: v * np.nan), "not finite"),
        (lambda s: changed_variable(s, "4x4/Conv/bias", lambda v: v[:0]), "another size than its 0 bytes"),
        (lambda s: changed_variable(s, "4x4/Conv/bias", lambda v: v[:2]), "has shape .2. where .* for .4."),
        (lambda s: [s[0], network("D", TINY | {"fused": False}), s[2]], "fused_scale"),
    ],
)  # fmt: skip
def test_snapshots_that_are_not_the_original_s_are_refused(pickled, out, change, fact):
    refuses(pickled(change(snapshot(TINY))), out, fact)


def test_names_of_a_file_stay_on_one_line(pickled, out):
    states = snapshot(TINY, **{"evil\nname" * 1000: 1})
    refuses(pickled(states), out, "built with 'evil.nname")
