"""The special layers of a ProGAN: equalized weights, pixel norm, minibatch standard deviation.

Weights are stored as N(0, 1) and scaled when used, so that Adam, whose step size does not depend on a
weight's size, changes all layers at the same relative speed. The alternatives of the paper's ablation are
here too: unscaled weights, batch and layer norm, minibatch discrimination.

Statistics are computed in float32 or float64, regardless of the activations' precision.
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
    """Scale every pixel's feature vector to a root mean square of 1.

    Args:
        x: float [N, C, ...].
        epsilon: added to the mean square, so that zeros stay zeros.

    Source: `pixel_norm` in networks.py of Karras et al. 2018.
    """
    y = at_least_float32(x)
    return (y * torch.rsqrt(y.square().mean(dim=1, keepdim=True) + epsilon)).to(x.dtype)


def pixel_norm_by_root(x: Tensor, epsilon: float) -> Tensor:
    """Divide every pixel's feature vector by its root mean square plus a constant.

    Args:
        x: float [N, C, ...].
        epsilon: added to the root, so that a vector of zeros stays one.

    Source: `pixel_norm` in pggan/modules.py of open-mmlab/mmgeneration.
    """
    y = at_least_float32(x)
    root = torch.linalg.vector_norm(y, dim=1, keepdim=True) / sqrt(y.shape[1])
    out: Tensor = (y / (root + epsilon)).to(x.dtype)
    return out


def minibatch_stddev(x: Tensor, group: int) -> Tensor:
    """Append a channel with the standard deviation over a group of images.

    It is the standard deviation of each feature at each pixel over the group, averaged to one number. Image n
    belongs to group n mod (N / group): members are strided, not neighbors.

    Args:
        x: float [N, C, H, W].
        group: images per group; a smaller minibatch is one group.

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
    # Squares of half-precision activations would overflow.
    y = at_least_float32(x).reshape(group, n // group, c, h, w)
    variance = (y - y.mean(dim=0, keepdim=True)).square().mean(dim=0)
    # The epsilon under the root keeps its gradient finite for a constant feature.
    deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))
    channel = deviation.to(x.dtype).repeat(group).reshape(n, 1, 1, 1).expand(n, 1, h, w)
    return torch.cat([x, channel], dim=1)


def at_least_float32(x: Tensor) -> Tensor:
    """Convert to float32, except for float64 tensors."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Disable autocast on this tensor's device inside the block."""
    kind = like.device.type
    # Meta tensors have no autocast, and torch.compile of PyTorch 2.6 cannot translate the query.
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


def in_fast_order(images: Tensor) -> Tensor:
    """Return images [N, C, H, W] in the memory format with the fastest convolutions.

    On a CPU that is channels last, which later layers preserve. On other devices images stay unchanged.
    """
    if images.device.type != "cpu":
        return images
    return images.contiguous(memory_format=torch.channels_last)


class BatchNorm(nn.Module):
    """Normalize every channel to mean 0 and variance 1 over the minibatch, then apply a gain and a bias.

    Evaluation mode uses the statistics of the latents given to `networks.measure_batch_norm`, so that an
    image does not depend on its neighbors. Training accumulates no statistics, so that a step stays a
    function of its arguments.

    Args:
        channels: C of the inputs [N, C, H, W].

    Source: Ioffe and Szegedy 2015; epsilon and position (between convolution and activation) as in
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
        """Normalize [N, C, H, W]."""
        mean, variance = self.statistics(x) if self.training else (self.mean, self.variance)
        factor = self.gain * torch.rsqrt(variance + 1e-4)
        y = at_least_float32(x) * factor[:, None, None] + (self.bias - mean * factor)[:, None, None]
        return y.to(x.dtype)

    @staticmethod
    def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance [C] over all axes except the channels."""
        y = at_least_float32(x)
        return y.mean(dim=(0, 2, 3)), y.var(dim=(0, 2, 3), correction=0)


class LayerNorm(nn.Module):
    """Normalize every image's features to mean 0 and variance 1, then apply one gain and a bias per channel.

    Args:
        channels: C of the inputs [N, C, ...].

    Source: Ba et al. 2016; `LayerNormLayer` in network.py of the paper's Theano code.
    """

    starts: ClassVar[Mapping[str, float]] = {"gain": 1.0}

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize [N, C, ...]."""
        y = at_least_float32(x)
        axes = tuple(range(1, x.ndim))
        y = y - y.mean(dim=axes, keepdim=True)
        y = y * torch.rsqrt(y.square().mean(dim=axes, keepdim=True) + 1e-4)
        return (y * self.gain + self.bias.reshape(-1, *[1] * (x.ndim - 2))).to(x.dtype)


class MinibatchDiscrimination(nn.Module):
    """Append the closeness of each image to the others of its minibatch, in `kernels` projections.

    For each kernel it is the sum over the other images of exp(-L1 distance) in 5 dimensions, plus a bias.

    Args:
        features: D of the inputs [N, D].
        kernels: number of values to append.

    Source: Salimans et al. 2016; directions are normalized as in the authors' own code.
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
        """Map [N, D] to [N, D + kernels]."""
        y = at_least_float32(x)
        # Before a checkpoint fills it, a direction is zero and cannot be divided by its length.
        length = torch.linalg.vector_norm(self.weight, dim=0).clamp(min=1e-30)
        projected = torch.einsum("nd,dkj->nkj", y, self.weight * (self.log_scale.exp() / length))
        distances = (projected[:, None] - projected).abs().sum(dim=3)
        near = torch.exp(-distances).sum(dim=1) - 1  # excludes the image itself, at distance 0
        return torch.cat([x, (near + self.bias).to(x.dtype)], dim=1)


class EqualizedConv2d(nn.Module):
    """A convolution that keeps the image's size, or halves or doubles it in the same operation.

    The weight is always the kernel of a plain convolution, [out, in, kernel, kernel]: with `up` it is applied
    after nearest-neighbor enlargement, and with `down` before a 2 x 2 mean. Each pair is exactly one strided
    convolution with about half the work.

    Args:
        in_channels, out_channels, kernel: sizes of the weight.
        gain: root mean square of the outputs for inputs with a root mean square of 1.
        scaling: of the image.
        equalized: scale the weight at run time; otherwise when it is drawn.
        bias: whether to add a bias; a following norm has its own.

    Attributes:
        scale: gain / sqrt(in * kernel * kernel), applied to the weight but not the bias; 1 if not equalized.
        initial_std: standard deviation of the initial weight; its product with `scale` is the same for both.
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
        """Map [N, in, H, W] to [N, out, H', W'] with H' = H, 2 H or H / 2."""
        weight = self.weight * self.scale
        if self.scaling == "up":
            # A transposed convolution writes with its kernel where a convolution reads, hence the rotation.
            kernel = _spread(weight.flip(2, 3)).transpose(0, 1)
            return F.conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)
        if self.scaling == "down":
            return F.conv2d(x, _spread(weight) / 4, self.bias, stride=2, padding=1)
        return F.conv2d(x, weight, self.bias, padding=weight.shape[-1] // 2)


def _spread(kernel: Tensor) -> Tensor:
    """Convolve a kernel with a 2 x 2 square of ones: [..., 3, 3] becomes [..., 4, 4]."""
    k = F.pad(kernel, (1, 1, 1, 1))
    return k[..., 1:, 1:] + k[..., :-1, 1:] + k[..., 1:, :-1] + k[..., :-1, :-1]


class EqualizedLinear(nn.Module):
    """A dense layer whose weight is scaled at run time.

    Args:
        in_features, out_features: sizes of the weight.
        gain, equalized, bias: as for `EqualizedConv2d`.
        shared: number of neighboring outputs that share a bias, such as the pixels of one channel.

    Attributes:
        scale: gain / sqrt(in_features), applied to the weight but not the bias; 1 if not equalized.
        initial_std: standard deviation of the initial weight; its product with `scale` is the same for both.
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
        """Map [N, in] to [N, out]."""
        bias = None if self.bias is None else self.bias.repeat_interleave(self.shared)
        return F.linear(x, self.weight * self.scale, bias)


@torch.no_grad()
def initialize(network: nn.Module, name: str, seed: int) -> None:
    """Draw every weight from N(0, 1), or with its layer's initial deviation, and set every bias to 0.

    A weight depends only on the seed, the network's name and its own name, so that it is the same for every
    resolution of the network and on every device.

    Args:
        network: a network of this module's layers; changed in place. A layer's `starts` gives the initial
            values of other parameters.
        name: distinguishes networks of one seed.
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
