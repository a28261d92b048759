"""Import generators of akanimax's pro_gan_pytorch, installed as `pro-gan-pth`.

Since version 3 a file holds `generator` and `shadow_generator`, each with its `conf` and `state_dict`.
Files of version 2 are the state dictionary of one generator, whose latents are not normalized. In both
there is no pixel norm behind the first layer, whose fan in is its inputs alone, layers to colors have the
gain of the others, and the stage is not in the file. Version 1 multiplies by what each layer measured
when it was made, which its files do not hold.

Source: networks.py, modules.py and custom_layers.py of pro-gan-pth 3.4, CustomLayers.py and PRO_GAN.py of
2.1.1 and 1.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod, sqrt
from typing import Literal

from pgmetrics.errors import SourceError
from reference_models.progan.importers.imported import (
    Imported,
    Layer,
    as_dense,
    assembled,
    feature_map_options,
    trained_resolution,
)
from reference_models.progan.importers.torch_files import (
    OTHERWISE,
    count,
    refuse_others,
    refuse_trained,
    weight,
)
from reference_models.progan.model.config import ProGANConfig


def recognizes(content: Mapping[str, object]) -> bool:
    """Whether a file has the names of this layout."""
    inner = [content.get(name) for name in ("shadow_generator", "generator")]
    states = [content, *(held.get("state_dict") for held in inner if isinstance(held, dict))]
    return any(
        "rgb_converters.0" in str(name) for state in states if isinstance(state, dict) for name in state
    )


def read(content: Mapping[str, object], which: Literal["Gs", "G"]) -> Imported:
    """Read one of the generators of such a file.

    Args:
        content: as `read_torch` gives it.
        which: "Gs" is the averaged one, "G" the one in training.

    Raises:
        SourceError: it is incomplete, or of a network that ours cannot be.
    """
    if "generator" in content or "shadow_generator" in content:
        state, equalized = _chosen(content, which)
    else:
        refuse_trained(which)
        state, equalized = _alone(content), True
    # In version 3 the first block is the first of the layers.
    start = 0 if "initial_block.conv_1.weight" in state else 1
    first = "layers.0" if start else "initial_block"
    names = {f"{first}.conv_1": "block4.dense", f"{first}.conv_2": "block4.conv"}
    blocks = count(state, "rgb_converters.{}.weight")
    names |= {f"rgb_converters.{i}": f"to_rgb{4 << i}" for i in range(blocks)}
    for i in range(1, blocks):
        layer = f"layers.{i - 1 + start}"
        names |= {f"{layer}.conv_{k + 1}": f"block{4 << i}.conv{k}" for k in (0, 1)}
    refuse_others(state, {f"{layer}.{part}" for layer in names for part in ("weight", "bias")})
    kernels = {our: weight(state, f"{layer}.weight", 4) for layer, our in names.items()}
    biases = {our: weight(state, f"{layer}.bias", 1) for layer, our in names.items()}
    to_rgb = [f"to_rgb{4 << i}" for i in range(blocks)]
    fmap_base, fmap_max = feature_map_options([kernels[name].shape[1] for name in to_rgb])
    config = ProGANConfig(
        resolution=4 << (blocks - 1),
        channels=kernels["to_rgb4"].shape[0],
        latent_size=kernels["block4.dense"].shape[0],
        fmap_base=fmap_base,
        fmap_max=fmap_max,
        normalise_latents=bool(start),
        equalized=equalized,
        first_pixel_norm=False,
    )
    layers = {}
    for our, kernel in kernels.items():
        fan_in = prod(kernel.shape[1:])
        if our == "block4.dense":
            fan_in = kernel.shape[0]
            kernel = as_dense(kernel, f"{first}.conv_1.weight", transposed=True)
        layers[our] = Layer(kernel, sqrt(2 / fan_in) if equalized else 1.0, biases[our])
    return assembled(config, layers, resolution=trained_resolution([biases[name] for name in to_rgb]))


def _chosen(content: Mapping[str, object], which: Literal["Gs", "G"]) -> tuple[Mapping[str, object], bool]:
    """The state dictionary that is asked for, and whether its weights are scaled at run time."""
    name, other = ("generator", "Gs") if which == "G" else ("shadow_generator", "G")
    held = content.get(name)
    if not isinstance(held, dict):
        raise SourceError(f"it holds no {name}; --which {other} takes the other generator")
    conf, state = held.get("conf"), held.get("state_dict")
    equalized = conf.get("use_eql", True) if isinstance(conf, dict) else None
    if type(equalized) is not bool or not isinstance(state, dict):
        raise SourceError(f"its {name} has no conf with use_eql, or no state_dict")
    return state, equalized


def _alone(content: Mapping[str, object]) -> Mapping[str, object]:
    """The state dictionary of a file without conf, once its weights are known to be scaled at run time."""
    # Networks that were trained on several devices have this before every name.
    state = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    if "initial_block.conv_1.deconv.weight" in state:
        raise SourceError(
            "it is of pro-gan-pth before version 2, which multiplies by what each layer measured when it was "
            f"made, and the file does not hold that; {OTHERWISE}"
        )
    block = "initial_block" if "initial_block.conv_2.weight" in state else "layers.0"
    first = weight(state, f"{block}.conv_2.weight", 4)
    # Weights that are scaled at run time begin at a mean square of 1, plain ones at 1 / (27 inputs).
    if float(first.square().mean()) < 1 / first.shape[1]:
        raise SourceError(
            "its weights are as small as those of use_eql=False, which a file without conf does not say; "
            f"{OTHERWISE}"
        )
    return state
