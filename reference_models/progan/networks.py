"""Generator and discriminator, built once at the final resolution and evaluated at any stage.

One set of parameters lives through the whole run: growing is an argument of the call, so that
optimisers, averages and checkpoints never have to be rebuilt. Parameters are named by the
resolution they work at. Images are [N, C, r, r] at the stage's own resolution r; their
values are meant to lie in [-1, 1], but nothing squashes them.

Source: networks.py of Karras et al. 2018.
"""

from __future__ import annotations

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference_models.progan.config import ProGANConfig
from reference_models.progan.layers import (
    EqualizedConv2d,
    EqualizedLinear,
    leaky_relu,
    minibatch_stddev,
    pixel_norm,
)


class Generator(nn.Module):
    """Latents to images.

    Weights are zero until `layers.initialize` or a checkpoint fills them.
    """

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__()
        self.config = config
        for resolution in config.resolutions:
            block = _FirstBlock(config) if resolution == 4 else _UpBlock(config, resolution)
            self.add_module(f"block{resolution}", block)
            to_rgb = EqualizedConv2d(config.feature_maps(resolution), config.channels, 1, gain=1)
            self.add_module(f"to_rgb{resolution}", to_rgb)

    def forward(
        self, latents: Tensor, labels: Tensor | None = None, *, resolution: int, alpha: float = 1.0
    ) -> Tensor:
        """Images as the network makes them at one point of its growth.

        Args:
            latents: float [N, latent_size]; their length does not matter, only their direction
                together with the labels'.
            labels: one-hot [N, label_size], or None where label_size is 0.
            resolution: of the stage.
            alpha: how far this resolution is faded in, 0 to 1.

        Returns:
            [N, channels, resolution, resolution].
        """
        x = latents if labels is None else torch.cat([latents, labels], dim=1)
        x = self.get_submodule("block4")(pixel_norm(x))
        before = x
        for r in self.config.resolutions[1:]:
            if r > resolution:
                break
            before, x = x, self.get_submodule(f"block{r}")(x)
        images: Tensor = self.get_submodule(f"to_rgb{resolution}")(x)
        if alpha < 1:
            coarse = self.get_submodule(f"to_rgb{resolution // 2}")(before)
            images = _double(coarse).lerp(images, alpha)
        return images


class _FirstBlock(nn.Module):
    """The 4 x 4 block of the generator."""

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__()
        self.channels = config.feature_maps(4)
        # A quarter of the usual gain, as the published networks have it.
        self.dense = EqualizedLinear(
            config.latent_size + config.label_size, self.channels * 16, gain=sqrt(2) / 4, shared=16
        )
        self.conv = EqualizedConv2d(self.channels, self.channels, 3)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.dense(latents).reshape(-1, self.channels, 4, 4)
        x = pixel_norm(leaky_relu(x))
        return pixel_norm(leaky_relu(self.conv(x)))


class _UpBlock(nn.Module):
    """Double the resolution: two convolutions, the first one behind the enlargement."""

    def __init__(self, config: ProGANConfig, resolution: int) -> None:
        super().__init__()
        channels = config.feature_maps(resolution)
        self.fused = config.fused_scale
        self.conv0 = EqualizedConv2d(
            config.feature_maps(resolution // 2), channels, 3, scaling="up" if self.fused else "none"
        )
        self.conv1 = EqualizedConv2d(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv0(x if self.fused else _double(x))
        x = pixel_norm(leaky_relu(x))
        return pixel_norm(leaky_relu(self.conv1(x)))


class Discriminator(nn.Module):
    """Images to critic scores, higher for images that look real, and class logits.

    Weights are zero until `layers.initialize` or a checkpoint fills them.
    """

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__()
        self.config = config
        for resolution in config.resolutions:
            from_rgb = EqualizedConv2d(config.channels, config.feature_maps(resolution), 1)
            self.add_module(f"from_rgb{resolution}", from_rgb)
            block = _LastBlock(config) if resolution == 4 else _DownBlock(config, resolution)
            self.add_module(f"block{resolution}", block)

    def forward(self, images: Tensor, *, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
        """Judge images of one stage; the stage's resolution is the images' own.

        Images of different kinds (real, generated, mixed) belong in calls of their own: the
        minibatch's deviation is part of the judgement.

        Args:
            images: float [N, channels, r, r].
            alpha: how far resolution r is faded in, 0 to 1.

        Returns:
            scores [N] and class logits [N, label_size].
        """
        resolution = images.shape[-1]
        x = self._features(images, resolution)
        for r in reversed(self.config.resolutions[1:]):
            if r > resolution:
                continue
            x = self.get_submodule(f"block{r}")(x)
            if r == resolution and alpha < 1:
                coarse = self._features(F.avg_pool2d(images, 2), r // 2)
                x = coarse.lerp(x, alpha)
        out = self.get_submodule("block4")(x)
        return out[:, 0], out[:, 1:]

    def _features(self, images: Tensor, resolution: int) -> Tensor:
        return leaky_relu(self.get_submodule(f"from_rgb{resolution}")(images))


class _DownBlock(nn.Module):
    """Halve the resolution: two convolutions, the second one before the mean."""

    def __init__(self, config: ProGANConfig, resolution: int) -> None:
        super().__init__()
        channels = config.feature_maps(resolution)
        self.fused = config.fused_scale
        self.conv0 = EqualizedConv2d(channels, channels, 3)
        self.conv1 = EqualizedConv2d(
            channels, config.feature_maps(resolution // 2), 3, scaling="down" if self.fused else "none"
        )

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_relu(self.conv1(leaky_relu(self.conv0(x))))
        # The fused layer halves before its bias and activation, the plain one after: the two are
        # different functions of the same weights.
        return x if self.fused else F.avg_pool2d(x, 2)


class _LastBlock(nn.Module):
    """The 4 x 4 block of the discriminator."""

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__()
        channels = config.feature_maps(4)
        self.group = config.mbstd_group
        self.conv = EqualizedConv2d(channels + 1, channels, 3)
        self.dense0 = EqualizedLinear(channels * 16, config.feature_maps(2))
        self.dense1 = EqualizedLinear(config.feature_maps(2), 1 + config.label_size, gain=1)

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_relu(self.conv(minibatch_stddev(x, self.group)))
        x = leaky_relu(self.dense0(x.flatten(1)))
        out: Tensor = self.dense1(x)
        return out


def _double(images: Tensor) -> Tensor:
    return F.interpolate(images, scale_factor=2.0, mode="nearest")
