"""The layers that make a ProGAN one: run-time scaled weights, pixel norm, minibatch deviation.

Weights are stored as N(0, 1) and scaled when used, so that Adam, whose step does not know a
weight's size, changes all layers at the same relative speed. What the paper's ablation has in
their place is here too: weights of their own size, batch and layer norm, minibatch discrimination.

Statistics are taken in float32 at least, whatever the activations are.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from math import sqrt
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgmetrics.errors import OptionError
from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream


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
    y = at_least_float32(x)
    return (y * torch.rsqrt(y.square().mean(dim=1, keepdim=True) + epsilon)).to(x.dtype)


def minibatch_stddev(x: Tensor, group: int) -> Tensor:
    """Append a channel that tells how much the images of a group differ.

    The standard deviation over a group, of each feature at each pixel, averaged to one number.
    Image n belongs to group n mod (N / group): members are strided, not neighbors.

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
    y = at_least_float32(x).reshape(group, n // group, c, h, w)
    variance = (y - y.mean(dim=0, keepdim=True)).square().mean(dim=0)
    # The epsilon under the root keeps its gradient finite where a feature is the same everywhere.
    deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))
    channel = deviation.to(x.dtype).repeat(group).reshape(n, 1, 1, 1).expand(n, 1, h, w)
    return torch.cat([x, channel], dim=1)


def at_least_float32(x: Tensor) -> Tensor:
    """The same in float32, or in float64 where it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Within, no autocast rounds what is computed on this tensor's device."""
    kind = like.device.type
    # Tensors without data know no autocast; torch.compile of PyTorch 2.6 cannot translate asking for it.
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


def in_fast_order(images: Tensor) -> Tensor:
    """The same images [N, C, H, W] in the order of memory in which convolutions are fastest.

    On a CPU that is channels last; what follows keeps it. On other devices they stay as they are.
    """
    if images.device.type != "cpu":
        return images
    return images.contiguous(memory_format=torch.channels_last)


class BatchNorm(nn.Module):
    """Give every channel mean 0 and variance 1 over the minibatch, then a gain and a bias of its own.

    In evaluation mode over the latents that `networks.measure_batch_norm` was given, so that an
    image does not depend on its neighbors. Nothing is remembered while training: a step stays a
    function of its arguments.

    Args:
        channels: C of its inputs [N, C, H, W].

    Source: Ioffe and Szegedy 2015; epsilon and place (between convolution and activation) as
    lasagne.layers.batch_norm, which the paper's ablation uses.
    """

    starts: ClassVar[Mapping[str, float]] = {"gain": 1.0}
    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same."""
        mean, variance = self.statistics(x) if self.training else (self.mean, self.variance)
        factor = self.gain * torch.rsqrt(variance + 1e-4)
        y = at_least_float32(x) * factor[:, None, None] + (self.bias - mean * factor)[:, None, None]
        return y.to(x.dtype)

    @staticmethod
    def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance [C] over everything but the channels."""
        y = at_least_float32(x)
        return y.mean(dim=(0, 2, 3)), y.var(dim=(0, 2, 3), correction=0)


class LayerNorm(nn.Module):
    """Give every image's features mean 0 and variance 1, then one gain, and a bias for each channel.

    Args:
        channels: C of its inputs [N, C, ...].

    Source: Ba et al. 2016; `LayerNormLayer` in network.py of the paper's Theano code.
    """

    starts: ClassVar[Mapping[str, float]] = {"gain": 1.0}

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, ...] to the same."""
        y = at_least_float32(x)
        axes = tuple(range(1, x.ndim))
        y = y - y.mean(dim=axes, keepdim=True)
        y = y * torch.rsqrt(y.square().mean(dim=axes, keepdim=True) + 1e-4)
        return (y * self.gain + self.bias.reshape(-1, *[1] * (x.ndim - 2))).to(x.dtype)


class MinibatchDiscrimination(nn.Module):
    """Append how near each image is to the others of its minibatch, in `kernels` projections.

    For each kernel the sum over the other images of exp(-L1 distance) in 5 dimensions, plus a bias.

    Args:
        features: D of its inputs [N, D].
        kernels: numbers to append.

    Source: Salimans et al. 2016; its directions are normalized as in the authors' own code.
    """

    dimensions = 5
    starts: ClassVar[Mapping[str, float]] = {"bias": -1.0, "log_scale": 0.0}
    initial_std = 0.05

    def __init__(self, features: int, kernels: int = 100) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features, kernels, self.dimensions))
        self.log_scale = nn.Parameter(torch.zeros(kernels, self.dimensions))
        self.bias = nn.Parameter(torch.zeros(kernels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] to [N, D + kernels]."""
        y = at_least_float32(x)
        # A direction of zeros, before a checkpoint fills it, has no length to be divided by.
        length = torch.linalg.vector_norm(self.weight, dim=0).clamp(min=1e-30)
        projected = torch.einsum("nd,dkj->nkj", y, self.weight * (self.log_scale.exp() / length))
        distances = (projected[:, None] - projected).abs().sum(dim=3)
        near = torch.exp(-distances).sum(dim=1) - 1  # an image is at distance 0 from itself
        return torch.cat([x, (near + self.bias).to(x.dtype)], dim=1)


class EqualizedConv2d(nn.Module):
    """A convolution that keeps the image's size, or halves or doubles it inside the kernel.

    The weight has one layout whatever the scaling, [out, in, kernel, kernel], and means the
    kernel of a plain convolution: with `up`, of one applied after a nearest-neighbor
    enlargement, and with `down`, of one applied before a 2 x 2 mean. Both are then exactly one
    strided convolution, about half the work.

    Args:
        in_channels, out_channels, kernel: of the weight.
        gain: what it makes of inputs with a root mean square of 1.
        scaling: of the image.
        equalized: scale the weight at run time; otherwise when it is drawn.
        bias: add one; a norm that follows brings its own.

    Attributes:
        scale: gain / sqrt(in * kernel * kernel), multiplied into the weight and not the bias; 1 if
            not equalized.
        initial_std: of the weight; the two multiply to the same.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Literal[1, 3],
        *,
        gain: float = sqrt(2),
        scaling: Literal["none", "up", "down"] = "none",
        equalized: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        scale = gain / sqrt(in_channels * kernel * kernel)
        self.scale, self.initial_std = (scale, 1.0) if equalized else (1.0, scale)
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

    Args:
        in_features, out_features: of the weight.
        gain, equalized, bias: as of `EqualizedConv2d`.
        shared: neighboring outputs that share a bias, such as the pixels of one channel.

    Attributes:
        scale: gain / sqrt(in_features), multiplied into the weight and not the bias; 1 if not
            equalized.
        initial_std: of the weight; the two multiply to the same.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        gain: float = sqrt(2),
        shared: int = 1,
        equalized: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features // shared)) if bias else None
        scale = gain / sqrt(in_features)
        self.scale, self.initial_std = (scale, 1.0) if equalized else (1.0, scale)
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        """[N, in] to [N, out]."""
        bias = None if self.bias is None else self.bias.repeat_interleave(self.shared)
        return F.linear(x, self.weight * self.scale, bias)


@torch.no_grad()
def initialize(network: nn.Module, name: str, seed: int) -> None:
    """Draw every weight from N(0, 1), or of the size its layer asks for, and set every bias to 0.

    A weight depends on (seed, the network's name, its own name) alone, so that it is the same
    for every resolution a network is built for and on every device.

    Args:
        network: of the layers of this module; changed in place. A layer's `starts` says of its other
            parameters what they begin with.
        name: tells networks of one seed apart.
        seed: non-negative.
    """
    for parameter_name, parameter in network.named_parameters():
        owner, _, own_name = parameter_name.rpartition(".")
        layer = network.get_submodule(owner)
        start = getattr(layer, "starts", {}).get(own_name, 0.0 if own_name == "bias" else None)
        if start is not None:
            parameter.fill_(start)
            continue
        key = seeding.text_key(f"{name}.{parameter_name}")
        drawn = seeding.generator(seed, Stream.INITIALIZATION, *key).standard_normal(
            tuple(parameter.shape), dtype="float32"
        )
        parameter.copy_(torch.from_numpy(drawn))
        parameter.mul_(getattr(layer, "initial_std", 1.0))
