"""Import generators of mmgeneration and of mmagic, which took its code over.

Under `state_dict` a file holds `generator.` and `generator_ema.`, and in buffers the stage and the
thousands of images shown. Weights are unscaled; a layer's scale is its gain by the root of all axes of
the stored weight but the first, which for the transposed convolutions that enlarge are not the inputs.
Its pixel norm adds a constant to the root mean square, where the original adds one under the root.

Source: pggan/modules.py and pggan/generator_discriminator.py of open-mmlab/mmgeneration; the constant
1e-5 of features is mmcv's `build_norm_layer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod, sqrt
from typing import Literal

from torch import Tensor

from pgmetrics.errors import SourceError
from reference_models.progan.importers.imported import Imported, Layer, assembled, feature_map_options
from reference_models.progan.importers.torch_files import (
    count,
    refuse_others,
    scalar,
    tensors_of,
    weight,
)
from reference_models.progan.model.config import ProGANConfig

_FIRST = "noise2feat.linear.weight_orig"


def recognizes(content: Mapping[str, object]) -> bool:
    """Whether a file has the names of this layout."""
    return any(f"{prefix}.{_FIRST}" in tensors_of(content) for prefix in ("generator", "generator_ema"))


def read(content: Mapping[str, object], which: Literal["Gs", "G"]) -> Imported:
    """Read one of the generators of such a file.

    Args:
        content: as `read_torch` gives it.
        which: "Gs" is the averaged one, "G" the one in training.

    Raises:
        SourceError: it is incomplete, or of a network that ours cannot be.
    """
    whole = tensors_of(content)
    prefix = "generator." if which == "G" else "generator_ema."
    state = {
        str(name).removeprefix(prefix): tensor
        for name, tensor in whole.items()
        if str(name).startswith(prefix)
    }
    if not state:
        other = "G takes the other" if which == "Gs" else "Gs takes the averaged one"
        raise SourceError(f"it holds no {prefix.rstrip('.')}; --which {other}")
    blocks = count(state, "torgb_layers.{}.conv.weight_orig")
    names = {"conv_blocks.0": "block4.conv"}
    for i in range(1, blocks):
        names |= {f"conv_blocks.{2 * i - 1 + k}": f"block{4 << i}.conv{k}" for k in (0, 1)}
    names |= {f"torgb_layers.{i}": f"to_rgb{4 << i}" for i in range(blocks)}
    parts = {f"{layer}.conv.{part}" for layer in names for part in ("weight_orig", "bias")}
    refuse_others(state, parts | {_FIRST, "noise2feat.bias"})
    dense = weight(state, _FIRST, 2)
    kernels = {layer: weight(state, f"{layer}.conv.weight_orig", 4) for layer in names}
    channels = [kernels[f"torgb_layers.{i}"].shape[1] for i in range(blocks)]
    fused = _is_fused(kernels, channels)
    fmap_base, fmap_max = feature_map_options(channels)
    config = ProGANConfig(
        resolution=4 << (blocks - 1),
        channels=kernels["torgb_layers.0"].shape[0],
        latent_size=dense.shape[1],
        fmap_base=fmap_base,
        fmap_max=fmap_max,
        fused_scale=fused,
        pixel_norm_epsilon="root",
    )
    first_bias = weight(state, "noise2feat.bias", 4).reshape(-1)
    layers = {"block4.dense": Layer(dense, sqrt(2) / 4 / sqrt(dense.shape[1]), first_bias)}
    for theirs, our in names.items():
        kernel = kernels[theirs]
        scale = (1 if "rgb" in our else sqrt(2)) / sqrt(prod(kernel.shape[1:]))
        if fused and our.endswith("conv0"):
            # A transposed convolution writes its kernel where ours reads, hence rotated.
            kernel = kernel.transpose(0, 1).flip(2, 3)
        layers[our] = Layer(kernel, scale, weight(state, f"{theirs}.conv.bias", 1))
    resolution = int(scalar(whole, "_curr_scale_int", config.resolution))
    alpha = scalar(whole, "_curr_transition_weight", 1.0)
    if resolution not in config.resolutions or not 0 <= alpha <= 1:
        raise SourceError(
            f"its buffers say that it stands at {resolution} x {resolution} and alpha {alpha:g}, which is no "
            f"stage of a network that grows to {config.resolution} x {config.resolution}"
        )
    shown = round(1000 * scalar(whole, "shown_nkimg", 0.0))
    imported = assembled(config, layers, resolution=resolution, alpha=alpha if resolution > 4 else 1.0)
    return replace(imported, images_shown=shown if shown > 0 else None)


def _is_fused(kernels: Mapping[str, Tensor], channels: Sequence[int]) -> bool:
    """Whether blocks enlarge inside a transposed convolution, as they do unless the project is told not to.

    The shapes tell where a block halves the channels: such kernels lie [in, out].
    """
    told = [
        kernels[f"conv_blocks.{2 * i - 1}"].shape[0] == before
        for i, (before, after) in enumerate(pairwise(channels), 1)
        if before != after
    ]
    return all(told)
