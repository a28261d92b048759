"""PyTorch files of other ProGANs make the images that those projects make of them.

Files in `foreign_files` were written by the projects' own code, which also made the images beside them.
Where a project cannot be installed, its arithmetic is written down here from its source, in float64.
"""

from collections import OrderedDict
from itertools import pairwise
from math import prod, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from pgmetrics.errors import OptionError
from reference_models.progan.cli import main
from reference_models.progan.importers import import_network
from tests.helpers.foreign_networks import imported, normal, refuses, twice, unit
from tests.helpers.samplers import sample_images

FILES = Path(__file__).parent / "foreign_files"
IMAGES = dict(np.load(FILES / "images.npz"))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.safetensors"


@pytest.fixture
def saved(tmp_path):
    def write(content):
        path = tmp_path / "network.pth"
        torch.save(content, path)
        return path

    return write


def images_of(facts, g, z):
    """What an imported network makes of latents, at its stage."""
    return g.double()(z.double(), resolution=facts.resolution, alpha=facts.alpha)


@pytest.mark.parametrize("name", [name for name in IMAGES if name != "z"])
def test_files_of_the_projects_own_code_make_their_images(out, name):
    file, _, which = name.partition(" ")
    facts, g = imported(FILES / file, out, which=which or "Gs")
    made = images_of(facts, g, torch.from_numpy(IMAGES["z"])).numpy()
    assert made.shape == IMAGES[name].shape
    assert np.abs(made - IMAGES[name]).max() < 1e-4
    assert np.abs(IMAGES[name]).max() > 0.5
    side = facts.resolution
    assert sample_images(out, 2).shape == (2, 3, side, side)


def test_mmgeneration_s_buffers_say_the_stage_and_the_images_shown(out, saved):
    facts, _ = imported(FILES / "mmagic-1.2.0-fused.pth", out)
    assert (facts.resolution, facts.alpha, facts.images_shown) == (16, 0.25, 1_234_500)
    content = torch.load(FILES / "mmagic-1.2.0-fused.pth", weights_only=True)
    state = content["state_dict"]
    state["_curr_scale_int"] = torch.tensor(8, dtype=torch.int32)
    state["shown_nkimg"] = torch.tensor(0.0)
    facts, _ = imported(saved(content), out)
    assert (facts.resolution, facts.config.resolution, facts.images_shown) == (8, 16, None)
    out.unlink()
    state["_curr_scale_int"] = torch.tensor(12, dtype=torch.int32)
    refuses(
        saved(content), out, "stands at 12 x 12 and alpha 0.25, which is no stage of a network that grows"
    )
    state["_curr_scale_int"] = torch.tensor(float("nan"))
    refuses(saved(content), out, "'_curr_scale_int' is no finite number")
    only = {name: tensor for name, tensor in state.items() if not name.startswith("generator_ema")}
    refuses(saved({"state_dict": only}), out, "holds no generator_ema; --which G takes the other")


@pytest.mark.parametrize("file", ["mmagic-1.2.0-plain.pth", "pro-gan-pth-3.4.bin"])
def test_a_state_dictionary_alone_is_read_as_the_whole_file(saved, out, file):
    content = torch.load(FILES / file, weights_only=True)
    alone = content.get("shadow_generator", content)["state_dict"]
    facts, g = imported(saved(alone), out)
    made = images_of(facts, g, torch.from_numpy(IMAGES["z"])).numpy()
    assert np.abs(made - IMAGES[file]).max() < 1e-4


def test_the_stage_of_a_growing_network_is_the_last_that_was_trained_or_what_is_asked_for(out):
    path = FILES / "pro-gan-pth-3.4.bin"
    facts, _ = imported(path, out)
    assert (facts.resolution, facts.config.resolution) == (8, 16)
    assert imported(path, out, resolution=16)[0].resolution == 16
    with pytest.raises(OptionError, match="no layers for 64 x 64; it grows to 16 x 16"):
        import_network(path, out, resolution=64)
    arguments = ["import", str(path), "--out", str(out), "--resolution", "4", "--which", "G"]
    result = CliRunner().invoke(main, arguments)
    assert result.stderr == "akanimax layout, G: 4 x 4, alpha 1.00\n"


def test_files_of_pro_gan_pth_that_lack_what_their_layers_multiply_by_are_refused(out, saved):
    refuses(FILES / "pro-gan-pth-1.3.pth", out, "before version 2, .* --loader MODULE:NAME")
    state = torch.load(FILES / "pro-gan-pth-2.1.1.pth", weights_only=True)
    refuses(saved({name: 0.05 * tensor for name, tensor in state.items()}), out, "those of use_eql=False")


def test_plain_layers_of_pro_gan_pth_are_not_scaled(out, saved):
    content = torch.load(FILES / "pro-gan-pth-3.4.bin", weights_only=True)
    plain = content["shadow_generator"]
    plain["conf"]["use_eql"] = False
    for name, tensor in plain["state_dict"].items():
        if name.endswith("weight"):
            fan_in = tensor.shape[0] if name == "layers.0.conv_1.weight" else prod(tensor.shape[1:])
            tensor.mul_(sqrt(2 / fan_in))
    facts, g = imported(saved(content), out)
    assert not facts.config.equalized
    made = images_of(facts, g, torch.from_numpy(IMAGES["z"])).numpy()
    assert np.abs(made - IMAGES["pro-gan-pth-3.4.bin"]).max() < 1e-4
    out.unlink()
    del content["shadow_generator"]
    refuses(saved(content), out, "holds no shadow_generator; --which G takes the other generator")


# --------------------------------------------------------------------------- InterFaceGAN and gandissect


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


# --------------------------------------------------------------------------- genforce and SeFa


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
    refuses(saved(state | {"lod": [0.0]}), out, "'lod' is no number")


# --------------------------------------------------------------------------- aladdinpersson


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


MARKS = {
    "genforce": {"layer0.weight": 0, "layer1.weight": 0, "output0.weight": 0},
    "mmgen": {"state_dict": {"generator_ema.noise2feat.linear.weight_orig": torch.zeros(64, 4)}},
    "akanimax": {"rgb_converters.0.bias": 0, "initial_block.conv_2.weight": torch.ones(4, 4, 3, 3)},
    "aladdinpersson": {"state_dict": {"initial.1.weight": 0, "initial.3.conv.weight": 0}},
    "interfacegan": {"layer1.conv.weight": 0, "layer1.wscale.bias": 0, "layer2.conv.weight": 0},
}


@pytest.mark.parametrize("layout", MARKS)
def test_names_of_a_layout_without_its_tensors_end_in_a_line(saved, out, layout):
    refuses(saved(MARKS[layout]), out, "lacks the tensor|is no float32 tensor|layers output|has 'layer1")


@pytest.mark.slow
def test_a_network_without_end_is_refused_before_it_is_made(saved, out):
    many = {f"output{i}.weight": torch.zeros(1) for i in range(20_000)}
    many |= {"layer0.weight": torch.zeros(1), "layer1.weight": torch.zeros(1)}
    refuses(saved(many), out, "more than 13 tensors 'outputN.weight'")
    state = chain_state("wscale.b", (1,), latent=1)
    tensor = state["layer2.conv.weight"]
    state |= {f"layer{i}.conv.weight": tensor for i in range(3, 20_000)}
    refuses(saved(state), out, "has 'layer100.conv.weight'")
    state = genforce_state((4, 4), latent=4, fused=False)
    refuses(saved({"generator_smooth": state | {7: 1}}), out, "has '7', which this layout does not have")


def test_a_refusal_lists_what_was_looked_for(saved, out):
    refuses(
        saved({"model": {"progression_4.conv.weight": torch.zeros(1)}}),
        out,
        r"looked for features.0.conv.weight \(ptrblck\), .*noise2feat \(mmgen\).* --loader MODULE:NAME",
    )
    refuses(saved(torch.nn.Linear(1, 1)), out, "holds code, which was not run; .*--loader MODULE:NAME")
