"""Import generators of aladdinpersson's ProGAN, a tutorial whose code many have trained.

Under `state_dict` a file holds one generator of all resolutions to 1024 x 1024, however far it was
trained; the stage is not in the file. The first layer is a plain transposed convolution with no pixel
norm behind it, layers to colors have the gain of the others, and above 4 x 4 a tanh ends the network.

Source: ML/Pytorch/GANs/ProGAN/model.py and utils.py of aladdinpersson/Machine-Learning-Collection.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod, sqrt
from typing import Literal

from reference_models.progan.importers.imported import (
    Imported,
    Layer,
    as_dense,
    assembled,
    feature_map_options,
    trained_resolution,
)
from reference_models.progan.importers.torch_files import (
    count,
    refuse_others,
    refuse_trained,
    tensors_of,
    weight,
)
from reference_models.progan.model.config import ProGANConfig


def recognizes(content: Mapping[str, object]) -> bool:
    """Whether a file has the names of this layout."""
    return {"initial.1.weight", "initial.3.conv.weight"} <= set(tensors_of(content))


def read(content: Mapping[str, object], which: Literal["Gs", "G"], resolution: int | None = None) -> Imported:
    """Read the generator of such a file.

    Args:
        content: as `read_torch` gives it.
        which: "Gs" is the only one, which is not averaged.
        resolution: of the stage, which decides how the network ends; if None, the last that was trained.

    Raises:
        SourceError: it is incomplete, or of a network that ours cannot be, or a second generator is asked
            for.
    """
    refuse_trained(which)
    state = tensors_of(content)
    # The names of kernel and bias.
    names = {
        "block4.dense": ("initial.1.weight", "initial.1.bias"),
        "block4.conv": ("initial.3.conv.weight", "initial.3.bias"),
    }
    blocks = count(state, "rgb_layers.{}.conv.weight")
    for i in range(blocks):
        names[f"to_rgb{4 << i}"] = f"rgb_layers.{i}.conv.weight", f"rgb_layers.{i}.bias"
        for k in (0, 1) if i else ():
            layer = f"prog_blocks.{i - 1}.conv{k + 1}"
            names[f"block{4 << i}.conv{k}"] = f"{layer}.conv.weight", f"{layer}.bias"
    # The first layer to colors is one layer under two names.
    twice = {"initial_rgb.conv.weight", "initial_rgb.bias"}
    refuse_others(state, {part for parts in names.values() for part in parts} | twice)
    kernels = {our: weight(state, kernel, 4) for our, (kernel, _) in names.items()}
    biases = {our: weight(state, bias, 1) for our, (_, bias) in names.items()}
    to_rgb = [f"to_rgb{4 << i}" for i in range(blocks)]
    fmap_base, fmap_max = feature_map_options([kernels[name].shape[1] for name in to_rgb])
    resolution = resolution or trained_resolution([biases[name] for name in to_rgb])
    config = ProGANConfig(
        resolution=4 << (blocks - 1),
        channels=kernels["to_rgb4"].shape[0],
        latent_size=kernels["block4.dense"].shape[0],
        fmap_base=fmap_base,
        fmap_max=fmap_max,
        first_pixel_norm=False,
        output="linear" if resolution == 4 else "tanh",
    )
    layers = {}
    for our, kernel in kernels.items():
        scale = sqrt(2 / prod(kernel.shape[1:]))
        if our == "block4.dense":
            kernel, scale = as_dense(kernel, names[our][0], transposed=True), 1.0
        layers[our] = Layer(kernel, scale, biases[our])
    return assembled(config, layers, resolution=resolution)
