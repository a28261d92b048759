"""What every layout of network file becomes: our configuration, our weights, and the stage."""

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
    """

    config: ProGANConfig
    weights: Mapping[str, Tensor]
    resolution: int
    alpha: float

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
    """A generator whose parameters have shapes and no memory."""
    with torch.device("meta"):
        return Generator(config)


def scales(config: ProGANConfig) -> dict[str, float]:
    """What our layers multiply their weights by, for each `block4.dense` and the like."""
    layers = blank(config).named_modules()
    return {
        name: layer.scale for name, layer in layers if isinstance(layer, EqualizedConv2d | EqualizedLinear)
    }


def feature_map_options(channels: Sequence[int]) -> tuple[int, int]:
    """The fmap_base and fmap_max that give blocks these channels.

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
