"""The layers that make a ProGAN one: run-time scaled weights, pixel norm, minibatch deviation.

Weights are stored as N(0, 1) and scaled when used, so that Adam, whose step does not know a
weight's size, changes all layers at the same relative speed.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgmetrics import seeding
from pgmetrics.errors import OptionError
from pgmetrics.seeding import Stream


def leaky_relu(x: Tensor) -> Tensor:
    """max(x, 0.2 x)."""
    return F.leaky_relu(x, 0.2)


def pixel_norm(x: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Give every pixel's feature vector a root mean square of 1.

    Args:
        x: float [N, C, ...].
        epsilon: added to the mean square, so that a vector of zeros stays one.

    Source: `pixel_norm` in networks.py of Karras et al. 2018.
    """
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + epsilon)


def minibatch_stddev(x: Tensor, group: int) -> Tensor:
    """Append a channel that tells how much the images of a group differ.

    The standard deviation over a group, of each feature at each pixel, averaged to one number.
    Image n belongs to group n mod (N / group): members are strided, not neighbours.

    Args:
        x: float [N, C, H, W].
        group: images in a group; a smaller minibatch is one group.

    Returns:
        [N, C + 1, H, W], the new channel last.

    Raises:
        OptionError: N cannot be cut into such groups.

    Source: `minibatch_stddev_layer` in networks.py of Karras et al. 2018.
    """
    n, c, h, w = x.shape
    group = min(group, n)
    if n % group:
        raise OptionError(
            f"a minibatch of {n} cannot be cut into groups of {group} for its standard deviation; "
            f"{n - n % group} images could"
        )
    # Squares of half-precision activations overflow.
    y = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(group, n // group, c, h, w)
    variance = (y - y.mean(dim=0, keepdim=True)).square().mean(dim=0)
    # The epsilon under the root keeps its gradient finite where a feature is the same everywhere.
    deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))
    channel = deviation.to(x.dtype).repeat(group).reshape(n, 1, 1, 1).expand(n, 1, h, w)
    return torch.cat([x, channel], dim=1)


class EqualizedConv2d(nn.Module):
    """A convolution that keeps the image's size, or halves or doubles it inside the kernel.

    The weight has one layout whatever the scaling, [out, in, kernel, kernel], and means the
    kernel of a plain convolution: with `up`, of one applied after a nearest-neighbour
    enlargement, and with `down`, of one applied before a 2 x 2 mean. Both are then exactly one
    strided convolution, about half the work.

    Attributes:
        scale: gain / sqrt(in * kernel * kernel), multiplied into the weight and not the bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Literal[1, 3],
        *,
        gain: float = sqrt(2),
        scaling: Literal["none", "up", "down"] = "none",
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale = gain / sqrt(in_channels * kernel * kernel)
        self.scaling = scaling

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] to [N, out, H', W'] with H' = H, 2 H or H / 2."""
        weight = self.weight * self.scale
        if self.scaling == "up":
            # A transposed convolution writes its kernel where a convolution reads, hence rotated.
            kernel = _spread(weight.flip(2, 3)).transpose(0, 1)
            return F.conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)
        if self.scaling == "down":
            return F.conv2d(x, _spread(weight) / 4, self.bias, stride=2, padding=1)
        return F.conv2d(x, weight, self.bias, padding=weight.shape[-1] // 2)


def _spread(kernel: Tensor) -> Tensor:
    """A kernel convolved with a 2 x 2 square of ones: [..., 3, 3] becomes [..., 4, 4]."""
    k = F.pad(kernel, (1, 1, 1, 1))
    return k[..., 1:, 1:] + k[..., :-1, 1:] + k[..., 1:, :-1] + k[..., :-1, :-1]


class EqualizedLinear(nn.Module):
    """A dense layer with its weight scaled at run time.

    Attributes:
        scale: gain / sqrt(in_features), multiplied into the weight and not the bias.
        shared: neighbouring outputs that share a bias, such as the pixels of one channel.
    """

    def __init__(
        self, in_features: int, out_features: int, *, gain: float = sqrt(2), shared: int = 1
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features // shared))
        self.scale = gain / sqrt(in_features)
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        """[N, in] to [N, out]."""
        return F.linear(x, self.weight * self.scale, self.bias.repeat_interleave(self.shared))


@torch.no_grad()
def initialize(network: nn.Module, name: str, seed: int) -> None:
    """Draw every weight from N(0, 1) and set every bias to 0.

    A weight depends on (seed, the network's name, its own name) alone, so that it is the same
    for every resolution a network is built for and on every device.

    Args:
        network: of equalized layers; changed in place.
        name: tells networks of one seed apart.
        seed: non-negative.
    """
    for parameter_name, parameter in network.named_parameters():
        if parameter_name.endswith("bias"):
            parameter.zero_()
            continue
        key = seeding.text_key(f"{name}.{parameter_name}")
        drawn = seeding.generator(seed, Stream.INITIALIZATION, *key).standard_normal(
            tuple(parameter.shape), dtype="float32"
        )
        parameter.copy_(torch.from_numpy(drawn))
