"""Turn what a network file of any layout holds into our configuration, our weights, and the stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pgmetrics.errors import SourceError
from pgmetrics.functional.finite import not_finite
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import EqualizedConv2d, EqualizedLinear
from reference_models.progan.model.networks import Generator

# No network has ever had a tenth of this; beyond it, a number is damage or malice.
MAX_SIDE = 65_536


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A generator read from somebody else's file.

    Attributes:
        config: what the file says about the network; of its training nothing is known.
        weights: by our parameters' names, float32 and unscaled as ours.
        resolution, alpha: the stage.
        images_shown: real images shown in training; None where the file does not say.
    """

    config: ProGANConfig
    weights: Mapping[str, Tensor]
    resolution: int
    alpha: float
    images_shown: int | None = None

    def generator(self) -> Generator:
        """The network with these weights.

        Raises:
            SourceError: a weight is of another shape or not finite.
        """
        network = blank(self.config)
        parameters = dict(network.named_parameters())
        assert set(parameters) == set(self.weights)
        for name, parameter in parameters.items():
            if self.weights[name].shape != parameter.shape:
                raise SourceError(
                    f"its {name} has shape {list(self.weights[name].shape)} where its other layers ask for "
                    f"{list(parameter.shape)}"
                )
        if bad := not_finite(self.weights.items()):
            raise SourceError(f"{bad}; that network makes no images")
        network.load_state_dict(dict(self.weights), strict=True, assign=True)
        return network


def blank(config: ProGANConfig) -> Generator:
    """Make a generator whose parameters have shapes and no memory."""
    with torch.device("meta"):
        return Generator(config)


def scales(config: ProGANConfig) -> dict[str, float]:
    """Return what our layers multiply their weights by, by names such as `block4.dense`."""
    layers = blank(config).named_modules()
    return {
        name: layer.scale for name, layer in layers if isinstance(layer, EqualizedConv2d | EqualizedLinear)
    }


def feature_map_options(channels: Sequence[int]) -> tuple[int, int]:
    """Find the fmap_base and fmap_max that give blocks these channels.

    Args:
        channels: of the blocks from 4 x 4 on.

    Raises:
        SourceError: no two numbers do.
    """
    fmap_base, fmap_max = channels[-1] << len(channels), channels[0]
    given = [min(fmap_base >> (i + 1), fmap_max) for i in range(len(channels))]
    if list(channels) != given:
        raise SourceError(
            f"its blocks have {', '.join(map(str, channels))} channels, which no fmap_base and fmap_max give"
        )
    return fmap_base, fmap_max


@dataclass(frozen=True)
class Layer:
    """A layer of somebody else's generator.

    Attributes:
        kernel: as ours lies, see `as_dense` for the first layer.
        scale: that the layer multiplies its kernel by.
        bias: as it is added.
    """

    kernel: Tensor
    scale: float
    bias: Tensor


def assembled(
    config: ProGANConfig, layers: Mapping[str, Layer], *, resolution: int | None = None, alpha: float = 1.0
) -> Imported:
    """Make a generator of layers, with their scales folded into our weights.

    Args:
        config: of the network.
        layers: by our names, such as `block4.dense`; layers to colors that are missing become zero.
        resolution, alpha: the stage, by default the final one.
    """
    ours = scales(config)
    # Colors of resolutions that are not asked for need not be in a file.
    weights = {name: torch.zeros(p.shape) for name, p in blank(config).named_parameters() if "rgb" in name}
    for name, layer in layers.items():
        weights[f"{name}.weight"] = layer.kernel * (layer.scale / ours[name])
        weights[f"{name}.bias"] = layer.bias.clone()
    return Imported(config=config, weights=weights, resolution=resolution or config.resolution, alpha=alpha)


def as_dense(kernel: Tensor, name: str, *, transposed: bool) -> Tensor:
    """A first layer that makes 4 x 4 pixels of one, as the weight [16 * out, in] of a dense layer.

    Args:
        kernel: of a convolution [out, in, 4, 4] over one pixel, padded by 3, which meets the kernel
            rotated; or of a transposed convolution [in, out, 4, 4].
        name: of the kernel, for the message.
        transposed: whether it is the latter.

    Raises:
        SourceError: it is not 4 x 4 wide.
    """
    if kernel.shape[2:] != (4, 4):
        raise SourceError(f"its {name} is {list(kernel.shape[2:])} wide where 4 x 4 is known")
    if transposed:
        return kernel.permute(1, 2, 3, 0).reshape(-1, kernel.shape[0])
    return kernel.flip(2, 3).permute(0, 2, 3, 1).reshape(-1, kernel.shape[1])


def trained_resolution(biases: Sequence[Tensor]) -> int:
    """The stage of a growing network whose file does not say it.

    Biases begin at zero and move with the first step of training, so that the stage is the largest
    resolution whose layer to colors has another bias.

    Args:
        biases: of the layers to colors, from 4 x 4 on.
    """
    trained = [i for i, bias in enumerate(biases) if bias.count_nonzero()]
    return 4 << (trained[-1] if trained else len(biases) - 1)
