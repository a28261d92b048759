"""Import models of facebookresearch's pytorch_GAN_zoo, as its trainer and its hub save them.

The file holds the settings and two generators, `netG` and its average `avgG`. Every layer, the one to
colors as well, multiplies its whole output by sqrt(2 / fan in), which includes the bias. The first
layer has a bias for each pixel. Its alpha is the weight of the old resolution.

Source: progressive_conv_net.py and custom_layers.py of that project.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod, sqrt
from typing import Literal

from torch import Tensor

from pgmetrics.errors import SourceError
from reference_models.progan.importers.imported import Imported, feature_map_options, scales
from reference_models.progan.importers.torch_files import GanZooConfig, count, refuse_others, weight
from reference_models.progan.model.config import ProGANConfig

# Settings whose other values make a network that ours is not; the first is that project's default,
# with which it fills in what a file lacks.
_AS_OURS: Mapping[str, tuple[object, ...]] = {
    "perChannelNormalization": (True,),
    "leakyReluLeak": (0.2,),
    "lossCriterion": ("WGANGP", "WGANGP2", "Logistic", "MSE", "DCGAN"),
    "categoryVectorDim": (0,),
    "equalizedlR": (True, False),
}


def recognizes(content: Mapping[str, object]) -> bool:
    """Whether a file has the names of this layout."""
    state = content.get("netG")
    return "config" in content and isinstance(state, dict) and any("formatLayer" in str(n) for n in state)


def read(content: Mapping[str, object], which: Literal["Gs", "G"] = "Gs") -> Imported:
    """Read one of the generators of such a file.

    Args:
        content: as `read_torch` gives it.
        which: "Gs" is the averaged one, "G" the one in training.

    Raises:
        SourceError: it is incomplete, or of a network that ours cannot be.
    """
    settings = _settings(content["config"])
    held = content.get("netG" if which == "G" else "avgG")
    if not isinstance(held, dict):
        raise SourceError("it holds no averaged generator avgG; --which G takes the other")
    # Newer versions of that project name the module inside a layer, too.
    state = {str(name).replace(".module.", "."): tensor for name, tensor in held.items()}
    blocks = count(state, "toRGBLayers.{}.weight")
    names = {"formatLayer": "block4.dense", "groupScale0.0": "block4.conv"}
    for i in range(blocks):
        names[f"toRGBLayers.{i}"] = f"to_rgb{4 << i}"
        if i:
            names |= {f"scaleLayers.{i - 1}.{k}": f"block{4 << i}.conv{k}" for k in (0, 1)}
    refuse_others(state, {f"{layer}.{part}" for layer in names for part in ("weight", "bias")})
    found = {
        theirs: (
            weight(state, f"{theirs}.weight", 2 if theirs == "formatLayer" else 4),
            weight(state, f"{theirs}.bias", 1),
        )
        for theirs in names
    }
    first = ("groupScale0.0", *(f"scaleLayers.{i}.0" for i in range(blocks - 1)))
    fmap_base, fmap_max = feature_map_options([found[layer][0].shape[0] for layer in first])
    by_pixel = _by_pixel(found["formatLayer"][1])
    # Before the first step of training all pixels of a channel have the same.
    shared = bool((by_pixel == by_pixel[:, :1]).all())
    config = ProGANConfig(
        resolution=4 << (blocks - 1),
        channels=found["toRGBLayers.0"][0].shape[0],
        latent_size=found["formatLayer"][0].shape[1],
        fmap_base=fmap_base,
        fmap_max=fmap_max,
        equalized=settings["equalizedlR"] is True,
        # In that project the loss decides how the generator ends.
        output="tanh" if settings["lossCriterion"] in ("MSE", "DCGAN") else "linear",
        first_bias="channel" if shared else "pixel",
    )
    ours = scales(config)
    weights = {}
    for theirs, name in names.items():
        kernel, bias = found[theirs]
        scale = sqrt(2 / prod(kernel.shape[1:])) if settings["equalizedlR"] else 1.0
        weights[f"{name}.weight"] = kernel * (scale / ours[name])
        weights[f"{name}.bias"] = bias * scale
    if shared:
        weights["block4.dense.bias"] = _by_pixel(weights["block4.dense.bias"])[:, 0].clone()
    return Imported(
        config=config,
        weights=weights,
        resolution=config.resolution,
        alpha=_alpha(settings) if blocks > 1 else 1.0,
    )


def _settings(held: object) -> Mapping[str, object]:
    if not isinstance(held, GanZooConfig):
        raise SourceError("its config is not GAN-zoo's")
    settings = {name: known[0] for name, known in _AS_OURS.items()} | {"alpha": 0} | vars(held)
    for name, known in _AS_OURS.items():
        value = settings[name]
        if type(value) not in (bool, int, float, str):
            raise SourceError(f"its {name} is of type {type(value).__name__}, which is no setting")
        if value not in known:
            wanted = " or ".join(map(str, known))
            raise SourceError(f"its {name} is {str(value)[:60]!r}; our networks have {wanted}")
    return settings


def _alpha(settings: Mapping[str, object]) -> float:
    old = settings.get("alpha")
    if isinstance(old, bool) or not isinstance(old, int | float) or not 0 <= old <= 1:
        raise SourceError("its alpha is not a number from 0 to 1, so its stage is unknown")
    return 1.0 - old


def _by_pixel(bias: Tensor) -> Tensor:
    """The bias of the first layer as [channels, 16].

    Raises:
        SourceError: its numbers are not those of 4 x 4 pixels.
    """
    if bias.numel() % 16:
        raise SourceError(f"its formatLayer.bias has {bias.numel()} numbers, which are no 4 x 4 images")
    return bias.reshape(-1, 16)
