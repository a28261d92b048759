"""Generator and discriminator, built once at the final resolution and evaluated at any stage.

One set of parameters serves the whole run: the stage is an argument of the call, so that optimizers, averages
and checkpoints are never rebuilt. Parameters are named by their resolution. Images are [N, C, r, r] at the
stage's own resolution r; their nominal range is [-1, 1], but the output is bounded only with output="tanh".

Source: networks.py of Karras et al. 2018; for the ablation, network.py of their Theano code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import (
    BatchNorm,
    EqualizedConv2d,
    EqualizedLinear,
    LayerNorm,
    MinibatchDiscrimination,
    at_least_float32,
    full_precision,
    in_fast_order,
    leaky_relu,
    minibatch_stddev,
    pixel_norm,
    pixel_norm_by_root,
)


class Generator(nn.Module):
    """The generator, from latents to images.

    Weights are zero until `layers.initialize` or a checkpoint sets them.
    """

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__()
        self.config = config
        for resolution in config.resolutions:
            block = _FirstBlock(config) if resolution == 4 else _UpBlock(config, resolution)
            self.add_module(f"block{resolution}", block)
            to_rgb = EqualizedConv2d(
                config.feature_maps(resolution), config.channels, 1, gain=1, equalized=config.equalized
            )
            self.add_module(f"to_rgb{resolution}", to_rgb)

    def forward(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        resolution: int,
        alpha: float | Tensor = 1.0,
    ) -> Tensor:
        """Make images at one stage of growth.

        Args:
            latents: float [N, latent_size]; if they are normalized, only their direction matters, together
                with the labels or alone.
            labels: one-hot [N, label_size], or None if label_size is 0.
            resolution: resolution of the stage.
            alpha: how far this resolution is faded in, 0 to 1. A scalar tensor always fades, so that a
                compiled step need not be compiled again for each alpha.

        Returns:
            [N, channels, resolution, resolution], float32 or float64.
        """
        x = self.get_submodule("block4")(self._input(latents, labels))
        before = x
        for r in self.config.resolutions[1:]:
            if r > resolution:
                break
            before, x = x, self.get_submodule(f"block{r}")(x)
        images = at_least_float32(self.get_submodule(f"to_rgb{resolution}")(x))
        if _fading(alpha):
            coarse = at_least_float32(self.get_submodule(f"to_rgb{resolution // 2}")(before))
            images = _faded(_double(coarse), images, alpha)
        return torch.tanh(images) if self.config.output == "tanh" else images

    def _input(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        x = latents if labels is None else torch.cat([latents, labels], dim=1)
        if not self.config.normalise_latents:
            return x
        normalize = _pixel_norm_of(self.config, 1e-6)
        if labels is None or self.config.normalise_labels:
            return normalize(x)
        return torch.cat([normalize(latents), labels], dim=1)


class _GeneratorBlock(nn.Module):
    """A block with the norms and activation that follow every convolution of the generator."""

    def __init__(self, config: ProGANConfig, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.biased = config.generator_norm == "none"
        self.norm0 = nn.Identity() if self.biased else BatchNorm(channels)
        self.norm1 = nn.Identity() if self.biased else BatchNorm(channels)
        self.activation: Callable[[Tensor], Tensor] = leaky_relu if config.activation == "leaky" else F.relu
        self.pixel_norm = config.pixel_norm
        self.normalize = _pixel_norm_of(config, 1e-5)

    def activated(self, x: Tensor) -> Tensor:
        x = self.activation(x)
        return self.normalize(x) if self.pixel_norm else x


class _FirstBlock(_GeneratorBlock):
    """The 4 x 4 block of the generator."""

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__(config, config.feature_maps(4))
        self.normalizes_first = config.first_pixel_norm
        # A quarter of the usual gain, as in the published networks.
        self.dense = EqualizedLinear(
            config.latent_size + config.label_size,
            self.channels * 16,
            gain=sqrt(2) / 4,
            shared=16 if config.first_bias == "channel" else 1,
            equalized=config.equalized,
            bias=self.biased,
        )
        self.conv = EqualizedConv2d(
            self.channels, self.channels, 3, equalized=config.equalized, bias=self.biased
        )

    def forward(self, latents: Tensor) -> Tensor:
        x = in_fast_order(self.dense(latents).reshape(-1, self.channels, 4, 4))
        x = self.norm0(x)
        x = self.activated(x) if self.normalizes_first else self.activation(x)
        return self.activated(self.norm1(self.conv(x)))


class _UpBlock(_GeneratorBlock):
    """A generator block that doubles the resolution: two convolutions, the first after the enlargement."""

    def __init__(self, config: ProGANConfig, resolution: int) -> None:
        super().__init__(config, config.feature_maps(resolution))
        self.fused = config.fused_scale
        self.conv0 = EqualizedConv2d(
            config.feature_maps(resolution // 2),
            self.channels,
            3,
            scaling="up" if self.fused else "none",
            equalized=config.equalized,
            bias=self.biased,
        )
        self.conv1 = EqualizedConv2d(
            self.channels, self.channels, 3, equalized=config.equalized, bias=self.biased
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv0(x if self.fused else _double(x))
        x = self.activated(self.norm0(x))
        return self.activated(self.norm1(self.conv1(x)))


class Discriminator(nn.Module):
    """The discriminator, from images to scores and class logits; WGAN-GP's scores are higher for reals.

    Weights are zero until `layers.initialize` or a checkpoint sets them.
    """

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__()
        self.config = config
        for resolution in config.resolutions:
            from_rgb = EqualizedConv2d(
                config.channels, config.feature_maps(resolution), 1, equalized=config.equalized
            )
            self.add_module(f"from_rgb{resolution}", from_rgb)
            block = _LastBlock(config) if resolution == 4 else _DownBlock(config, resolution)
            self.add_module(f"block{resolution}", block)

    def forward(
        self, images: Tensor, *, alpha: float | Tensor = 1.0, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Score images of one stage, whose resolution is that of the images.

        Images of different kinds (real, generated, mixed) need separate calls, since scores depend on the
        minibatch's standard deviation.

        Args:
            images: float [N, channels, r, r].
            alpha: how far resolution r is faded in, 0 to 1, as for `Generator.forward`.
            noise: [N, noise_size(r)], standard normal times a strength: every channel is multiplied by
                1 + sqrt(channels) * noise before every convolution and before the first dense layer. None
                means no noise.

        Returns:
            scores [N] and class logits [N, label_size], float32 or float64.
        """
        resolution = images.shape[-1]
        factors: list[Tensor | None] = [None] * len(self._sizes(resolution))
        if noise is not None:
            factors = list(torch.split(noise, self._sizes(resolution), dim=1))
        x = self._features(images, resolution)
        for r in reversed(self.config.resolutions[1:]):
            if r > resolution:
                continue
            x = self.get_submodule(f"block{r}")(x, factors.pop(0), factors.pop(0))
            if r == resolution and _fading(alpha):
                x = _faded(self._features(F.avg_pool2d(images, 2), r // 2), x, alpha)
        out = self.get_submodule("block4")(x, factors.pop(0), factors.pop(0))
        return out[:, 0], out[:, 1:]

    def noise_size(self, resolution: int) -> int:
        """Return the number of channels with noise, over all layers used at this resolution."""
        return sum(self._sizes(resolution))

    def _sizes(self, resolution: int) -> list[int]:
        channels = self.config.feature_maps
        sizes = [
            channels(r) for r in reversed(self.config.resolutions[1:]) if r <= resolution for _ in (0, 1)
        ]
        return [*sizes, channels(4) + (self.config.minibatch_statistics == "stddev"), channels(4)]

    def _features(self, images: Tensor, resolution: int) -> Tensor:
        return leaky_relu(self.get_submodule(f"from_rgb{resolution}")(in_fast_order(images)))


class _DownBlock(nn.Module):
    """A discriminator block that halves the resolution: two convolutions, the second before the mean."""

    def __init__(self, config: ProGANConfig, resolution: int) -> None:
        super().__init__()
        channels, coarser = config.feature_maps(resolution), config.feature_maps(resolution // 2)
        biased = config.discriminator_norm == "none"
        self.fused = config.fused_scale
        self.conv0 = EqualizedConv2d(channels, channels, 3, equalized=config.equalized, bias=biased)
        self.conv1 = EqualizedConv2d(
            channels,
            coarser,
            3,
            scaling="down" if self.fused else "none",
            equalized=config.equalized,
            bias=biased,
        )
        self.norm0 = nn.Identity() if biased else LayerNorm(channels)
        self.norm1 = nn.Identity() if biased else LayerNorm(coarser)

    def forward(self, x: Tensor, noise0: Tensor | None, noise1: Tensor | None) -> Tensor:
        x = leaky_relu(self.norm0(self.conv0(_disturbed(x, noise0))))
        x = leaky_relu(self.norm1(self.conv1(_disturbed(x, noise1))))
        # The fused layer halves before its bias and activation, the plain layer after: they are different
        # functions of the same weights.
        return x if self.fused else F.avg_pool2d(x, 2)


class _LastBlock(nn.Module):
    """The 4 x 4 block of the discriminator."""

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__()
        channels, width = config.feature_maps(4), config.feature_maps(2)
        biased = config.discriminator_norm == "none"
        self.group = config.mbstd_group
        self.compares = config.minibatch_statistics == "stddev"
        self.conv = EqualizedConv2d(
            channels + self.compares, channels, 3, equalized=config.equalized, bias=biased
        )
        self.dense0 = EqualizedLinear(channels * 16, width, equalized=config.equalized, bias=biased)
        self.norm0 = nn.Identity() if biased else LayerNorm(channels)
        self.norm1 = nn.Identity() if biased else LayerNorm(width)
        self.discrimination: nn.Module = nn.Identity()
        if config.minibatch_statistics == "discrimination":
            self.discrimination = MinibatchDiscrimination(width)
            width += len(self.discrimination.bias)
        self.dense1 = EqualizedLinear(width, 1 + config.label_size, gain=1, equalized=config.equalized)

    def forward(self, x: Tensor, noise0: Tensor | None, noise1: Tensor | None) -> Tensor:
        if self.compares:
            x = minibatch_stddev(x, self.group)
        x = leaky_relu(self.norm0(self.conv(_disturbed(x, noise0))))
        x = leaky_relu(self.norm1(self.dense0(_disturbed(x, noise1).flatten(1))))
        # The losses take means and squares of the outputs, so autocast must not round them.
        with full_precision(x):
            out: Tensor = self.dense1(self.discrimination(at_least_float32(x)))
        return out


@torch.no_grad()
def measure_batch_norm(
    generator: Generator,
    latents: Tensor,
    labels: Tensor | None = None,
    *,
    resolution: int,
    alpha: float = 1.0,
) -> None:
    """Store the batch-norm statistics of these latents for evaluation mode.

    In evaluation mode the same latents then make the same images as in training mode. A generator without
    batch norm stays unchanged. An averaged generator needs this before it is sampled, since no statistics
    were accumulated with its weights.

    Args:
        generator: its buffers are changed in place; its mode is not.
        latents, labels, resolution, alpha: as for `Generator.forward`; some hundreds of latents.
    """

    def keep(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, BatchNorm)
        mean, variance = norm.statistics(inputs[0])
        norm.mean.copy_(mean)
        norm.variance.copy_(variance)

    norms = [module for module in generator.modules() if isinstance(module, BatchNorm)]
    if not norms:
        return
    hooks = [norm.register_forward_pre_hook(keep) for norm in norms]
    training = generator.training
    try:
        generator.train()(latents, labels, resolution=resolution, alpha=alpha)
    finally:
        generator.train(training)
        for hook in hooks:
            hook.remove()


def _pixel_norm_of(config: ProGANConfig, root_epsilon: float) -> Callable[[Tensor], Tensor]:
    if config.pixel_norm_epsilon == "root":
        return partial(pixel_norm_by_root, epsilon=root_epsilon)
    return pixel_norm


def _disturbed(x: Tensor, noise: Tensor | None) -> Tensor:
    if noise is None:
        return x
    return x * (1 + sqrt(x.shape[1]) * noise[:, :, None, None]).to(x.dtype)


def _fading(alpha: float | Tensor) -> bool:
    return isinstance(alpha, Tensor) or alpha < 1


def _faded(coarse: Tensor, fine: Tensor, alpha: float | Tensor) -> Tensor:
    if isinstance(alpha, Tensor):
        return coarse.lerp(fine, alpha.to(coarse.dtype))
    return coarse.lerp(fine, alpha)


def _double(images: Tensor) -> Tensor:
    return F.interpolate(images, scale_factor=2.0, mode="nearest")
