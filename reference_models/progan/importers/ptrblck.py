"""State dictionaries of ptrblck's prog_gans_pytorch_inference: one generator at its final resolution.

Two convolutions for each block, `features.0` and on, the first as wide as the 4 x 4 image, and
`output` to colors. Every layer stores the scale its weights are multiplied by, which is the
measured one of the Theano networks and not quite ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pgmetrics.errors import SourceError
from reference_models.progan.importers.imported import Imported, blank, feature_map_options, scales
from reference_models.progan.importers.torch_files import refuse_others, weight
from reference_models.progan.model.config import ProGANConfig

_PARTS = {"conv.weight": 4, "wscale.scale": 1, "wscale.b": 1}


def recognizes(content: Mapping[str, object]) -> bool:
    """Whether a file's names are of this layout."""
    return {"features.0.conv.weight", "features.0.wscale.scale", "output.conv.weight"} <= set(content)


def read(content: Mapping[str, object]) -> Imported:
    """The generator of such a file.

    Raises:
        SourceError: it is incomplete, or of a network that ours cannot be.
    """
    count = 0
    while f"features.{count}.conv.weight" in content:
        count += 1
    if count % 2:
        raise SourceError(f"it has {count} feature layers where blocks have two each")
    layers = [*(f"features.{i}" for i in range(count)), "output"]
    refuse_others(content, {f"{layer}.{part}" for layer in layers for part in _PARTS})
    found = {
        f"{layer}.{part}": weight(content, f"{layer}.{part}", dims)
        for layer in layers
        for part, dims in _PARTS.items()
    }
    channels = [found[f"features.{i}.conv.weight"].shape[0] for i in range(0, count, 2)]
    fmap_base, fmap_max = feature_map_options(channels)
    config = ProGANConfig(
        resolution=4 << (count // 2 - 1),
        channels=found["output.conv.weight"].shape[0],
        latent_size=found["features.0.conv.weight"].shape[1],
        # Whole minibatches, as the networks this layout was made for.
        mbstd_group=16,
        fmap_base=fmap_base,
        fmap_max=fmap_max,
    )
    names = {"output": f"to_rgb{config.resolution}"}
    for i in range(count):
        first = "dense" if i == 0 else "conv"
        names[f"features.{i}"] = f"block{4 << i // 2}." + (first if i < 2 else f"conv{i % 2}")
    # Colors of the smaller resolutions are not in the file, and not used at the final one.
    weights = {name: torch.zeros(p.shape) for name, p in blank(config).named_parameters() if "rgb" in name}
    ours = scales(config)
    for theirs, name in names.items():
        scale = found[f"{theirs}.wscale.scale"]
        if scale.numel() != 1:
            raise SourceError(f"its {theirs}.wscale.scale has {scale.numel()} numbers where one is known")
        kernel = found[f"{theirs}.conv.weight"] * (float(scale) / ours[name])
        weights[f"{name}.weight"] = _as_dense(kernel) if name == "block4.dense" else kernel
        weights[f"{name}.bias"] = found[f"{theirs}.wscale.b"].clone()
    return Imported(config=config, weights=weights, resolution=config.resolution, alpha=1.0)


def _as_dense(kernel: Tensor) -> Tensor:
    """The first layer as ours: theirs is a convolution over one pixel, which meets a kernel turned round."""
    if kernel.shape[2:] != (4, 4):
        raise SourceError(f"its features.0.conv.weight is {list(kernel.shape[2:])} wide where 4 x 4 is known")
    return kernel.flip(2, 3).permute(0, 2, 3, 1).reshape(-1, kernel.shape[1])
