"""Import generators of genforce and SeFa, who converted the original's networks.

A file holds `generator`, `generator_smooth` and `discriminator`, or one generator alone: for each block
two layers and one to colors, with unscaled weights as ours. Blocks that enlarge may do so inside a
transposed convolution, whose weights lie [in, out]; shapes tell, since such blocks halve the channels.

Source: models/pggan_generator.py of genforce/genforce and genforce/sefa.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, prod, sqrt
from typing import Literal

from torch import Tensor

from pgmetrics.errors import SourceError
from reference_models.progan.importers.imported import (
    Imported,
    Layer,
    as_dense,
    assembled,
    feature_map_options,
)
from reference_models.progan.importers.torch_files import count, refuse_others, refuse_trained, scalar, weight
from reference_models.progan.model.config import ProGANConfig


def recognizes(content: Mapping[str, object]) -> bool:
    """Whether a file has the names of this layout."""
    states = [content, content.get("generator"), content.get("generator_smooth")]
    return any(
        isinstance(state, dict) and {"layer0.weight", "layer1.weight", "output0.weight"} <= set(state)
        for state in states
    )


def read(content: Mapping[str, object], which: Literal["Gs", "G"]) -> Imported:
    """Read one of the generators of such a file.

    Args:
        content: as `read_torch` gives it.
        which: "Gs" is the averaged one, "G" the one in training.

    Raises:
        SourceError: it is incomplete, or of a network that ours cannot be.
    """
    state = _chosen(content, which)
    blocks = count(state, "output{}.weight")
    names = {"layer0": "block4.dense", "layer1": "block4.conv"}
    for i in range(1, blocks):
        names |= {f"layer{2 * i + k}": f"block{4 << i}.conv{k}" for k in (0, 1)}
    names |= {f"output{i}": f"to_rgb{4 << i}" for i in range(blocks)}
    refuse_others(state, {f"{layer}.{part}" for layer in names for part in ("weight", "bias")} | {"lod"})
    kernels = {layer: weight(state, f"{layer}.weight", 4) for layer in names}
    channels = [kernels[f"output{i}"].shape[1] for i in range(blocks)]
    fused = any(kernels[f"layer{2 * i}"].shape[0] != channels[i] for i in range(1, blocks))
    fmap_base, fmap_max = feature_map_options(channels)
    config = ProGANConfig(
        resolution=4 << (blocks - 1),
        channels=kernels["output0"].shape[0],
        latent_size=kernels["layer0"].shape[1],
        fmap_base=fmap_base,
        fmap_max=fmap_max,
        fused_scale=fused,
    )
    layers = {}
    for theirs, our in names.items():
        kernel = kernels[theirs]
        if fused and our.endswith("conv0"):
            # A transposed convolution writes its kernel where ours reads, hence rotated.
            kernel = kernel.transpose(0, 1).flip(2, 3)
        scale = (1 if "rgb" in our else sqrt(2)) / sqrt(prod(kernel.shape[1:]))
        if our == "block4.dense":
            kernel = as_dense(kernel, f"{theirs}.weight", transposed=False)
        layers[our] = Layer(kernel, scale, _bias(state, theirs))
    lod = scalar(state, "lod", 0.0)
    if not 0 <= lod <= blocks - 1:
        raise SourceError(f"its lod is none of a network of {blocks} resolutions")
    return assembled(config, layers, resolution=config.resolution >> floor(lod), alpha=1 - (lod - floor(lod)))


def _chosen(content: Mapping[str, object], which: Literal["Gs", "G"]) -> Mapping[str, object]:
    if "layer0.weight" in content:
        refuse_trained(which)
        return content
    state = content.get("generator" if which == "G" else "generator_smooth")
    if not isinstance(state, dict):
        raise SourceError(
            "it holds no generator; --which Gs takes the averaged one"
            if which == "G"
            else "it holds no averaged generator generator_smooth; --which G takes the other"
        )
    return state


def _bias(state: Mapping[str, object], layer: str) -> Tensor:
    return weight(state, f"{layer}.bias", 1)
