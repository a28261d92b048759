"""PyTorch files of other projects: tensors and plain values are read, and all else ends in a line."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch

from tests.helpers.foreign_networks import (
    chain_state,
    gan_zoo_state,
    genforce_state,
    imported,
    ptrblck_state,
    refuses,
)


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
    before = set(torch.serialization.get_safe_globals())
    imported(hub(gan_zoo_state((4, 4), latent=4)), out)
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_cut_short_are_refused(saved, out, keep, zipped):
    path = saved(ptrblck_state((8, 4), latent=6), _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    refuses(path, out, "torch reads no plain tensors")


def test_one_generator_has_no_other(saved, out):
    refuses(saved(ptrblck_state((8, 4), latent=6)), out, "--which G asks for the other", which="G")


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
    many = {f"output{i}.weight": torch.zeros(1) for i in range(2_000)}
    many |= {"layer0.weight": torch.zeros(1), "layer1.weight": torch.zeros(1)}
    refuses(saved(many), out, "more than 10 tensors 'outputN.weight'")
    state = chain_state("wscale.b", (1,), latent=1)
    tensor = state["layer2.conv.weight"]
    state |= {f"layer{i}.conv.weight": tensor for i in range(3, 2_000)}
    refuses(saved(state), out, "has 'layer100.conv.weight'")
    state = genforce_state((4, 4), latent=4, fused=False)
    refuses(saved({"generator_smooth": state | {7: 1}}), out, "has '7', which this layout does not have")
