"""Networks of other ProGANs: the right function comes out, and nothing of the file is run.

Golden numbers: the original TF1 networks.py (commit 2504c3f), in float64 for GOLDEN and in float32
for VECTORS, on weights made by formulas. The pickles are made here, by Python's own pickler from a
class of the original's name and module; torch files likewise by torch.save. The functions they
should compute are written down from the facts of each layout and not with our layers.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import hashlib
import json
import pickle
import struct
import sys
from collections import OrderedDict
from itertools import pairwise
from math import prod, sqrt
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

import pgmetrics
from pgmetrics.errors import OptionError, PgmetricsError, SourceError
from pgmetrics.growth.checkpoints import Finder, open_snapshot
from pgmetrics.report.run_curves import read_growth
from pgmetrics.sources.resolve import open_source
from reference_models.progan.cli import main
from reference_models.progan.cli.import_ import import_command
from reference_models.progan.importers import import_network
from reference_models.progan.importers.imported import feature_map_options
from reference_models.progan.importers.unpickling import MAX_OPCODES, loads
from reference_models.progan.model.checkpoint import inspect, load
from reference_models.progan.model.model_card import model_card
from tests.helpers.foreign_networks import by_name, imported, normal, refuses, twice, unit
from tests.helpers.samplers import sample_images

# --------------------------------------------------------------------------- pickles of the original


@pytest.fixture
def foreign(monkeypatch):
    """A function that gives the class of this module and name, importable as long as the test runs."""

    def make(module, name):
        kind = type(name, (), {"__module__": module})
        parent = ""
        for part in module.split("."):
            parent = f"{parent}.{part}".lstrip(".")
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
        setattr(sys.modules[module], name, kind)
        return kind

    return make


def variable_shapes(kind, *, resolution, base, most, latent, labels=0, channels=3, fused=True):
    """Names and stored shapes of the original's variables, in its order, without lod."""

    def nf(s):
        return min(base >> s, most)

    levels = resolution.bit_length() - 1
    out = {}

    def layer(name, shape, bias):
        out[f"{name}/weight"], out[f"{name}/bias"] = shape, (bias,)

    if kind == "D":
        layer("FromRGB_lod0", (1, 1, channels, nf(levels - 1)), nf(levels - 1))
        for r in range(levels, 2, -1):
            side = f"{2**r}x{2**r}"
            layer(f"{side}/Conv0", (3, 3, nf(r - 1), nf(r - 1)), nf(r - 1))
            layer(f"{side}/Conv1{'_down' * fused}", (3, 3, nf(r - 1), nf(r - 2)), nf(r - 2))
            layer(f"FromRGB_lod{levels - r + 1}", (1, 1, channels, nf(r - 2)), nf(r - 2))
        layer("4x4/Conv", (3, 3, nf(1) + 1, nf(1)), nf(1))
        layer("4x4/Dense0", (nf(1) * 16, nf(0)), nf(0))
        layer("4x4/Dense1", (nf(0), 1 + labels), 1 + labels)
        return out
    layer("4x4/Dense", (latent + labels, nf(1) * 16), nf(1))
    layer("4x4/Conv", (3, 3, nf(1), nf(1)), nf(1))
    layer(f"ToRGB_lod{levels - 2}", (1, 1, nf(1), channels), channels)
    for r in range(3, levels + 1):
        side = f"{2**r}x{2**r}"
        if fused:
            layer(f"{side}/Conv0_up", (3, 3, nf(r - 1), nf(r - 2)), nf(r - 1))
        else:
            layer(f"{side}/Conv0", (3, 3, nf(r - 2), nf(r - 1)), nf(r - 1))
        layer(f"{side}/Conv1", (3, 3, nf(r - 1), nf(r - 1)), nf(r - 1))
        layer(f"ToRGB_lod{levels - r}", (1, 1, nf(r - 1), channels), channels)
    return out


def by_number(number, name, shape):
    i = np.arange(prod(shape), dtype=np.float64)
    value = 1.4 * np.sin(1 + number + 0.7 * i + 0.013 * i**2)
    return value.reshape(shape) * (0.1 if name.endswith("bias") else 1)


def network(kind, size, *, lod=0.0, numbered=False, **arguments):
    """The state of one network of a snapshot."""
    variables = [("lod", np.float32(lod))]
    for number, (name, shape) in enumerate(variable_shapes(kind[0], **size).items()):
        value = by_number(number, name, shape) if numbered else by_name(name, shape)
        # Gs must not be G, or taking the wrong one would pass.
        variables.append((name, value.astype(np.float32) * (2 if kind == "G" else 1)))
    return {
        "version": 2,
        "name": kind,
        "static_kwargs": {
            "num_channels": size.get("channels", 3),
            "resolution": size["resolution"],
            "label_size": size.get("labels", 0),
            "fmap_base": size["base"],
            "fmap_max": size["most"],
            "latent_size": size["latent"],
        }
        | arguments,
        "build_module_src": "raise SystemExit('executed')",
        "build_func_name": f"{kind[0]}_paper",
        "variables": variables,
    }


SMALL = {"resolution": 32, "base": 128, "most": 32, "latent": 32}
TINY = {"resolution": 16, "base": 16, "most": 4, "latent": 4}


def snapshot(size, d_arguments=None, **options):
    d_options = {name: options[name] for name in ("lod", "numbered") if name in options}
    return [
        network("G", size, **options),
        network("D", size, **d_options, **(d_arguments or {})),
        network("Gs", size, **options),
    ]


@pytest.fixture
def pickled(foreign, tmp_path):
    """A function that writes the states of (G, D, Gs) as the original would, and gives the path."""
    kind = foreign("tfutil", "Network")

    def write(states, name="network.pkl", protocol=4):
        networks = []
        for state in states:
            each = kind()
            each.__dict__.update(state)
            networks.append(each)
        path = tmp_path / name
        path.write_bytes(pickle.dumps(tuple(networks), protocol=protocol))
        return path

    return write


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.safetensors"


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


def test_pickles_of_older_numpy_and_older_protocols_are_read(pickled, out):
    path = pickled(snapshot(TINY))
    g = imported(path, out)[1]
    # NumPy called its module numpy.core until version 2; frames have no length for us.
    new, old = (name.encode() for name in ("numpy._core.multiarray", "numpy.core.multiarray"))
    data = path.read_bytes().replace(bytes([0x8C, len(new)]) + new, bytes([0x8C, len(old)]) + old)
    assert old in data
    assert new not in data
    path.write_bytes(data)
    assert torch.equal(imported(path, out)[1].block8.conv0.weight, g.block8.conv0.weight)
    path = pickled(snapshot(TINY), protocol=3)
    assert torch.equal(imported(path, out)[1].block8.conv0.weight, g.block8.conv0.weight)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_and_numpy_s_integers_as_arguments_are_read(pickled, out, protocol):
    g = imported(pickled(snapshot(TINY)), out)[1]
    states = snapshot(
        TINY,
        d_arguments={"mbstd_group_size": np.int64(8)},
        resolution=np.int64(16),
        num_channels=np.int32(3),
        label_size=np.uint8(0),
        fmap_decay=np.float32(1),
        use_wscale=np.True_,
    )
    # Protocol 5 has another form for arrays whose numbers lie in a row, in either order.
    states[2]["variables"] = [
        (name, np.asfortranarray(v) if "Conv1" in name else v) for name, v in states[2]["variables"]
    ]
    path = pickled(states, protocol=protocol)
    assert (b"_frombuffer" in path.read_bytes()) == (protocol == 5)
    facts, again = imported(path, out)
    assert facts.config.mbstd_group == 8
    assert facts.config.resolution == 16
    for name, weight in g.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)


def test_a_number_that_is_not_its_data_s_stays_refused(pickled, out):
    class Odd:
        """Pickles as an int64 of four bytes."""

        def __reduce__(self):
            function, (dtype, data) = np.int64(16).__reduce__()
            return function, (dtype, data[:4])

    refuses(pickled(snapshot(TINY, resolution=Odd())), out, "resolution is of type Made")


@pytest.mark.parametrize("module", [b"numpy.core.numeric", b"numpy._core.numeric"])
def test_frombuffer_has_the_name_of_either_numpy(pickled, out, module):
    path = pickled(snapshot(TINY), protocol=5)
    g = imported(path, out)[1]
    data = path.read_bytes()
    written = next(n for n in (b"numpy.core.numeric", b"numpy._core.numeric") if n in data)
    path.write_bytes(data.replace(bytes([0x8C, len(written)]) + written, bytes([0x8C, len(module)]) + module))
    assert torch.equal(imported(path, out)[1].block8.conv0.weight, g.block8.conv0.weight)


def test_a_compressed_pickle_is_read_and_one_that_grows_without_end_is_not(pickled, out, tmp_path):
    path = pickled(snapshot(TINY))
    g = imported(path, out)[1]
    packed = tmp_path / "network-snapshot-000012.pkl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert import_network(packed, out)[1] == "original"
    facts, again = imported(packed, out)
    assert facts.images_shown == 12_000
    assert hashlib.sha256(packed.read_bytes()).hexdigest() in facts.data_fingerprint
    assert torch.equal(again.block4.dense.weight, g.block4.dense.weight)
    out.unlink()
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-20])
    refuses(packed, out, "gzip data are cut short")
    packed.write_bytes(whole[:50] + b"\xff" * 50 + whole[100:])
    refuses(packed, out, "gzip data are damaged")
    packed.write_bytes(gzip.compress(bytes(10**8)))
    refuses(packed, out, "grow to more than 20 times")


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


# --------------------------------------------------------------------------- converted from Theano


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


def test_columns_first_arrays_keep_their_places(pickled, out):
    states = snapshot(TINY)
    g = imported(pickled(states), out)[1]
    states[2]["variables"] = [
        (name, np.asfortranarray(v) if v.ndim else v) for name, v in states[2]["variables"]
    ]
    turned = imported(pickled(states), out)[1]
    assert torch.equal(turned.block8.conv0.weight, g.block8.conv0.weight)


def test_the_checkpoint_says_where_it_comes_from(pickled, out):
    path = pickled(snapshot(TINY, lod=0.25), name="network-snapshot-012345.pkl")
    facts, _ = imported(path, out, licence="CC BY-NC 4.0")
    assert (facts.images_shown, facts.licence) == (12_345_000, "CC BY-NC 4.0")
    assert hashlib.sha256(path.read_bytes()).hexdigest() in facts.data_fingerprint
    assert facts.data_fingerprint.startswith("unknown")
    assert imported(path, out, images_shown=7)[0].images_shown == 7
    assert imported(pickled(snapshot(TINY)), out)[0].images_shown is None
    assert imported(pickled(snapshot(TINY)), out, images_shown=0)[0].images_shown == 0


def test_inspect_shows_nothing_of_a_training_that_nobody_knows(pickled, out):
    imported(pickled(snapshot(TINY)), out)
    result = CliRunner().invoke(main, ["inspect", str(out)])
    shown = dict(line.split(None, 1) for line in result.stdout.splitlines())
    assert shown["images_shown"] == "unknown"
    assert shown["config.resolution"] == "16"
    assert shown["config.normalise_latents"] == "True"
    for name in (
        "loss",
        "total_images",
        "minibatch",
        "learning_rate",
        "seed",
        "ema",
        "growing",
        "mbstd_group",
    ):
        assert f"config.{name}" not in shown
    as_json = json.loads(CliRunner().invoke(main, ["inspect", str(out), "--format", "json"]).stdout)
    assert as_json["images_shown"] is None
    assert set(as_json["config"]) == {name.removeprefix("config.") for name in shown if "config." in name}
    assert "unknown" in model_card(inspect(out), out.name)


def test_commands_that_meet_a_foreign_network_name_the_one_that_imports_it(pickled, hub, saved, tmp_path):
    path = pickled(snapshot(TINY), name="celebahq.pkl")
    packed = tmp_path / "celebahq.pkl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    zoo = hub(gan_zoo_state((4, 4), latent=4)).rename(tmp_path / "zoo.pth")
    old = saved(ptrblck_state((4,), latent=4), _use_new_zipfile_serialization=False)
    for file in (path, packed, zoo, old):
        fix = f"`progan import {file} --out NAME.safetensors`"
        for arguments in (["sample", file, "--out", tmp_path / "grid.png"], ["inspect", file]):
            result = CliRunner().invoke(main, list(map(str, arguments)))
            assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
            assert fix in result.stderr
        with pytest.raises(SourceError) as refused:
            open_source(str(file))
        assert fix in str(refused.value)
    with pytest.raises(SourceError, match="network pickle of the original ProGAN"):
        open_source(path)
    run = tmp_path / "run"
    run.mkdir()
    path.rename(run / path.name)
    with pytest.raises(SourceError, match=r"run holds no checkpoints; .*celebahq\.pkl .*`progan import "):
        pgmetrics.score_run(run, "synthetic:leaves,resolution=16,n=8")


def test_a_directory_of_imported_networks_is_a_run_whose_moments_are_unknown(saved, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name, channels in (("late", (4, 4, 4, 4)), ("early", (4, 4, 4))):
        import_network(saved(ptrblck_state(channels, latent=4)), run / f"{name}.safetensors")
    asked = {
        "real": "synthetic:leaves,resolution=32,n=8",
        "metrics": ["ms-ssim"],
        "num_images": 8,
        "workers": 0,
        "floor": False,
    }
    results, skipped = pgmetrics.score_run(run, **asked)
    assert [row["run"] for row in results.rows] == ["of-late-32x32"]
    assert [path.name for path, _ in skipped] == ["early.safetensors"]
    assert "--final-resolution 32 says so" in skipped[0][1]
    results, skipped = pgmetrics.score_run(run, **asked, final_resolution=32)
    assert not skipped
    assert [row["run"] for row in results.rows] == ["of-early-16x16", "of-late-32x32"]
    assert np.isfinite([row["value"] for row in results.rows]).all()
    table = results.to_pandas(stages=True)
    assert table["images_shown"].isna().all()
    assert list(table["resolution"]) == [16, 32]
    # The pixels of the stage, repeated.
    early = Finder(run, final_resolution=32).find()[0][0]
    made = open_snapshot(early, "at-final", final=32).batch(range(3))
    assert (made == sample_images(run / "early.safetensors", 3).repeat(2, 2).repeat(2, 3)).all()
    with pytest.raises(PgmetricsError, match="of-early-16x16 does not say how many images it was shown"):
        read_growth(run)


def test_imported_networks_sample_and_score_like_our_own(pickled, out):
    imported(pickled(snapshot(SMALL, lod=0.75)), out)
    source = open_source(str(out))
    assert source.resolution == (32, 32)
    made = sample_images(out, 4, seed=3)
    assert (open_source(f"progan:{out},seed=3").batch(range(4)) == made).all()
    # Saturated at both ends, and not all grey: the range of values is the original's.
    assert made.min() == 0
    assert made.max() == 255
    scores = pgmetrics.evaluate(
        "synthetic:leaves,resolution=32", str(out), metrics=["swd", "ms-ssim"], num_images=16, workers=0
    )
    assert np.isfinite([row["value"] for row in scores.rows]).all()


# --------------------------------------------------------------------------- refusals of the original's


def changed_state(states, position, **changes):
    states[position] = states[position] | changes
    return states


def changed_variable(states, name, change):
    for state in (states[0], states[2]):
        state["variables"] = [(n, change(v) if n == name else v) for n, v in state["variables"]]
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


# --------------------------------------------------------------------------- pickles that would do more


class Runs:
    """Unpickles by calling a function, as a malicious file would."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_pickle_that_would_run_a_command_is_refused_and_does_not(tmp_path, out, monkeypatch):
    import os

    mark = tmp_path / "executed"
    path = tmp_path / "evil.pkl"
    for run in (Runs(os.system, f"touch '{mark}'"), Runs(exec, f"open({str(mark)!r}, 'w')")):
        for content in (run, (run, run, run), {"netG": run}):
            path.write_bytes(pickle.dumps(content, protocol=4))
            refuses(path, out, "asks for '(posix.system|builtins.exec)', .* nothing of it was run")
        torch.save({"config": run, "netG": {}}, path)
        refuses(path, out, "holds code, which was not run")
        torch.save({"config": run, "netG": {}}, path, _use_new_zipfile_serialization=False)
        refuses(path, out, "holds code, which was not run")
    assert not mark.exists()
    # The files do what they are feared for.
    path.write_bytes(pickle.dumps(Runs(os.system, f"touch '{mark}'"), protocol=4))
    pickle.loads(path.read_bytes())
    assert mark.exists()


def test_source_code_inside_a_network_stays_text(pickled, out, monkeypatch):
    states = snapshot(TINY)
    assert "SystemExit" in states[2]["build_module_src"]
    imported(pickled(states), out)


def op(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


def stack_global(module, name):
    return op(module) + op(name) + b"\x93"


RECONSTRUCT = stack_global("numpy.core.multiarray", "_reconstruct")
DTYPE = stack_global("numpy", "dtype")
NETWORK = stack_global("tfutil", "Network")
OBJECT = stack_global("builtins", "object")


@pytest.mark.parametrize(
    ("program", "fact"),
    [
        # What the five globals can be made to do elsewhere.
        (RECONSTRUCT + NETWORK + b"K\x00\x85C\x01b\x87R", "no networks of the original"),
        (NETWORK + b")R", "makes a call that no"),
        (DTYPE + b")\x81", "makes a call that no"),
        (stack_global("_codecs", "encode") + op("00") + op("hex") + b"\x86R", "makes a call that no"),
        (stack_global("_codecs", "encode") + op("x") + op("latin1") * 2 + b"\x87R", "makes a call that no"),
        (stack_global("_codecs", "encode") + b"\x8c\x02\xc4\x80" + op("latin1") + b"\x86R", "damaged"),
        (stack_global("copyreg", "_reconstructor") + DTYPE + OBJECT + b"N\x87R", "makes a call that no"),
        (stack_global("copyreg", "_reconstructor") + NETWORK + NETWORK + b"N\x87R", "makes a call that no"),
        (stack_global("builtins", "bytes") + b"K\x7f\x85R", "makes a call that no"),
        (OBJECT + b")R", "makes a call that no"),
        (stack_global("builtins", "eval"), "asks for 'builtins.eval'"),
        (stack_global("numpy", "ndarray") + b"J\xff\xff\xff\x7f\x85R", "makes a call that no"),
        (b"K\x01)R", "makes a call that no"),
        (NETWORK + b"}b", "gives a state to an object that takes none"),
        (NETWORK + b")\x81}b}b", "gives a state to an object that takes none"),
        (DTYPE + b"}b", "gives a state to an object that takes none"),
        # Other ways to a global or to a call.
        (b"cos\nsystem\n", "asks for 'os.system'"),
        (stack_global("builtins", "getattr"), "asks for 'builtins.getattr'"),
        (stack_global("tfutil", "Network.__init__"), "asks for 'tfutil.Network.__init__'"),
        (stack_global("numpy.core.multiarray", "fromfile"), "asks for 'numpy.core.multiarray.fromfile'"),
        (b"K\x01K\x02\x93", "by something that is not text"),
        (b"(S'touch x'\nios\nsystem\n", "uses STRING"),
        (b"(ios\nsystem\n", "uses INST"),
        (b"(cos\nsystem\no", "asks for 'os.system'"),
        (b"(" + NETWORK + b"o", "uses OBJ"),
        (NETWORK + b")}\x92", "uses NEWOBJ_EX"),
        (b"\x82\x01", "uses EXT1"),
        (b"Pabc\n", "uses PERSID"),
        (b"K\x01Q", "uses BINPERSID"),
        (b"\x97", "uses NEXT_BUFFER"),
        (b"K\x012", "uses DUP"),
        # The Theano version's networks.
        (b"cnetwork\nNetwork\n)\x81}b", "network of the Theano version"),
        # Structures that do not fit, and programs that take what is not there.
        (b"}K\x01K\x02s", "keys are not text"),
        (b"](K\x01K\x02u", "keys are not text"),
        (b"}(K\x01u", "keys are not text"),
        (b"K\x01K\x02a", "appends to something that is not"),
        (b"", "damaged"),
        (b"a", "damaged"),
        (b"e", "damaged"),
        (b"h\x07", "damaged"),
        (b"\x8d" + struct.pack("<Q", 2**62), "damaged"),
        (b"C\xffabc", "damaged"),
        (b"\xff", "damaged"),
        (b"\x8c\x01\xff", "damaged"),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_programs_other_than_a_network_s_are_refused(tmp_path, out, program, fact):
    path = tmp_path / "file.pkl"
    path.write_bytes(b"\x80\x04" + program + b".")
    refuses(path, out, fact)


def test_what_a_class_does_when_it_is_made_is_not_done(foreign, tmp_path, out):
    # A stub found by name is still a class whose methods a pickle reaches.
    kind = foreign("tfutil", "Network")
    called = []
    kind.__setstate__ = lambda self, state: called.append(state)
    path = tmp_path / "file.pkl"
    each = kind()
    each.__dict__["x"] = 1
    path.write_bytes(pickle.dumps((each, each, each), protocol=4))
    refuses(path, out, "version None")
    assert called == []


def test_sizes_have_limits(tmp_path, out, monkeypatch):
    path = tmp_path / "file.pkl"
    path.write_bytes(b"\x80\x04" + b"K\x01" * (MAX_OPCODES + 1) + b".")
    refuses(path, out, "more than 200,000 steps")
    monkeypatch.setattr("reference_models.progan.importers.unpickling.MAX_BYTES", 100)
    refuses(path, out, "more than 100 bytes")
    with pytest.raises(SourceError, match="has 101 bytes"):
        loads(bytes(101))


@pytest.mark.parametrize(
    "shape", [(3,), (16,), (2**40,), (2**31, 2**31), (-4,), ("4",), (1,) * 4 + (4,), (0, 4)], ids=str
)
def test_shapes_that_are_not_the_data_s_are_refused(pickled, out, shape):
    class Huge:
        """Pickles as an array of 16 bytes that claims this shape."""

        def __reduce__(self):
            array = np.zeros(4, np.float32)
            function, arguments, state = array.__reduce__()
            return function, arguments, (state[0], shape, *state[2:])

    states = changed_variable(snapshot(TINY), "4x4/Conv/bias", lambda v: Huge())
    refuses(pickled(states), out, "another size than its 16 bytes")


@pytest.mark.slow
def test_deep_and_circular_pickles_end_in_a_line(tmp_path, out):
    path = tmp_path / "file.pkl"
    for program in (b")" + b"\x85" * 150_000, b"]" * 50_000 + b"a" * 49_999, b"]\x94h\x00a"):
        path.write_bytes(b"\x80\x04" + program + b".")
        refuses(path, out, "no networks of the original|0 objects")
    # Nested so deep, a key's hash would end the process.
    path.write_bytes(b"\x80\x04})" + b"\x85" * 150_000 + b"K\x01s.")
    refuses(path, out, "keys are not text")


@pytest.mark.slow
def test_no_truncation_and_no_flipped_byte_ends_in_a_traceback(pickled, out, tmp_path):
    size = {"resolution": 4, "base": 2, "most": 1, "latent": 1}
    whole = pickled(snapshot(size)).read_bytes()
    path = tmp_path / "damaged.pkl"
    for length in range(len(whole)):
        with pytest.raises(SourceError, match="damaged or was cut short"):
            loads(whole[:length])
    for position in range(1, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        with contextlib.suppress(SourceError):
            import_network(path, out)


# --------------------------------------------------------------------------- torch files


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


@pytest.fixture
def saved(tmp_path):
    def write(content, **options):
        path = tmp_path / "network.pth"
        torch.save(content, path, **options)
        return path

    return write


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


SETTINGS = {
    "perChannelNormalization": True,
    "leakyReluLeak": 0.2,
    "lossCriterion": "WGANGP",
    "categoryVectorDim": 0,
    "equalizedlR": True,
    "alpha": 0,
    "attribKeysOrder": None,
    "depthOtherScales": [512],
}


@pytest.fixture
def hub(foreign, saved):
    """A function that writes a GAN-zoo model; its configuration's class is that project's."""
    kind = foreign("models.utils.config", "BaseConfig")

    def write(state, **settings):
        config = kind()
        config.__dict__.update(SETTINGS | settings)
        content = {"config": config, "netG": {n: 3 * t for n, t in state.items()}, "netD": {}, "avgG": state}
        return saved(content)

    write.kind = kind
    return write


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
    expected = gan_zoo_images(doubled, z.double(), SETTINGS | changes, module)
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
        ({"alpha": None}, "alpha is no number"),
        ({"alpha": 2.0}, "alpha is no number"),
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
    expected = gan_zoo_images({name: t.double() for name, t in state.items()}, z, SETTINGS | changes)
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


def without(state, name):
    return OrderedDict((n, t) for n, t in state.items() if n != name)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda s: without(s, "features.3.conv.weight"), "3 feature layers"),
        (lambda s: without(s, "features.3.wscale.b"), "lacks the tensor features.3.wscale.b"),
        (lambda s: s | {"features.9.conv.weight": torch.zeros(1)}, "has 'features.9.conv.weight'"),
        (lambda s: s | {"output.wscale.b": torch.zeros(3).half()}, "'output.wscale.b' is no float32"),
        (lambda s: s | {"output.wscale.b": [0.0, 0.0, 0.0]}, "'output.wscale.b' is no float32"),
        (lambda s: s | {"output.wscale.b": torch.zeros(3).to_sparse()}, "'output.wscale.b' is no float32"),
        (lambda s: s | {"output.wscale.b": torch.zeros(3, device="meta")}, "'output.wscale.b' is no float32"),
        (lambda s: s | {"output.wscale.b": torch.zeros(2)}, "to_rgb8.bias has shape .2. where .* .3."),
        (lambda s: s | {"output.wscale.b": torch.zeros(1).expand(2**40)}, "has shape .1099511627776."),
        (lambda s: s | {"output.wscale.scale": torch.ones(2)}, "scale has 2 numbers where one"),
        (lambda s: s | {"output.wscale.b": torch.full((3,), torch.inf)}, "to_rgb8.bias .* not finite"),
        (lambda s: s | {"features.0.conv.weight": torch.zeros(8, 6, 3, 3)}, r"is \[3, 3\] wide where 4 x 4"),
        (lambda s: s | {"features.2.conv.weight": torch.zeros(9, 8, 3, 3)}, "8, 9 channels, which no"),
        (lambda s: s | {"features.1.conv.weight": torch.zeros(8, 7, 3, 3)}, "block4.conv.weight has shape"),
        (lambda s: {"state": s}, "of no layout that is known; looked for features.0.conv.weight"),
        (lambda s: list(s.values()), "holds a list"),
        (lambda s: {"netG": {"formatLayer": 1}, "config": {}}, "config is not GAN-zoo's"),
    ],
)  # fmt: skip
def test_torch_files_of_other_layouts_are_refused(saved, out, change, fact):
    state = ptrblck_state((8, 4), latent=6)
    refuses(saved(change(state)), out, fact)


def test_other_classes_in_torch_files_are_refused(foreign, saved, out):
    kind = foreign("models.utils.config", "OtherConfig")
    refuses(
        saved({"config": kind(), "netG": {"formatLayer.weight": 1}}), out, "holds code, which was not run"
    )


def test_torch_s_own_list_of_safe_classes_stays_as_it_was(hub, out):
    before = torch.serialization.get_safe_globals()
    imported(hub(gan_zoo_state((4, 4), latent=4)), out)
    assert torch.serialization.get_safe_globals() == before


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_cut_short_are_refused(saved, out, keep, zipped):
    path = saved(ptrblck_state((8, 4), latent=6), _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    refuses(path, out, "torch reads no plain tensors")


def test_one_generator_has_no_other(saved, out):
    refuses(saved(ptrblck_state((8, 4), latent=6)), out, "--which G asks for the other", which="G")


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        ((512, 512, 512, 512, 256, 128, 64, 32, 16), (8192, 512)),
        ((512, 512, 512, 512, 256, 128, 64), (8192, 512)),
        ((512, 512, 512, 512), (8192, 512)),
        ((128, 64, 32), (256, 128)),
        ((5,), (10, 5)),
    ],
)
def test_channels_tell_their_options(channels, options):
    assert feature_map_options(channels) == options


# --------------------------------------------------------------------------- the command


@pytest.fixture
def progan(monkeypatch):
    monkeypatch.setitem(main.commands, "import", import_command)
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


def test_the_command_imports(progan, pickled, out):
    path = pickled(snapshot(TINY, lod=0.5), name="network-snapshot-000100.pkl")
    done = progan("import", path, "--out", out, "--which", "G", "--licence", "CC0")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{out}\n"
    assert done.stderr == "original layout, G: 16 x 16, alpha 0.50\n"
    facts = inspect(out)
    assert (facts.licence, facts.images_shown) == ("CC0", 100_000)
    trained = load(out)[1].block4.conv.weight
    other = out.with_name("other.safetensors")
    assert torch.equal(imported(path, other, which="G")[1].block4.conv.weight, trained)
    assert not torch.equal(imported(path, other)[1].block4.conv.weight, trained)
    assert progan("import", path, "--out", out, "--images-shown", 5).exit_code == 0
    assert (inspect(out).licence, inspect(out).images_shown) == ("unknown", 5)
    grid = progan("sample", out, "--num", 4, "--out", out.with_suffix(".png"))
    assert grid.exit_code == 0, grid.stderr


def test_the_command_refuses_in_one_line(progan, tmp_path, out):
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG")
    cases = [
        ((path, "--out", out), 1, "it is neither a pickle nor a PyTorch file"),
        ((tmp_path / "missing", "--out", out), 1, "missing cannot be imported: No such file or directory"),
        ((tmp_path, "--out", out), 1, "it is a directory, and only regular files are opened"),
        ((path, "--out", path), 1, "it is one of the inputs"),
        ((path,), 2, "Missing option '--out'"),
        ((path, "--out", out, "--which", "D"), 2, "'D' is not one of"),
    ]
    for arguments, code, fact in cases:
        refused = progan("import", *arguments)
        assert refused.exit_code == code
        assert fact in refused.stderr.splitlines()[-1]
        assert refused.stderr.splitlines()[-1].startswith("Error: ")
        assert refused.stdout == ""
    assert path.read_bytes() == b"\x89PNG"


def test_what_cannot_be_written_is_refused(pickled, tmp_path):
    with pytest.raises(PgmetricsError, match="cannot be written"):
        import_network(pickled(snapshot(TINY)), tmp_path / "nowhere" / "x.safetensors")
    path = pickled(snapshot(TINY))
    before = path.read_bytes()
    with pytest.raises(OptionError, match="is the file to import"):
        import_network(path, path)
    assert path.read_bytes() == before
