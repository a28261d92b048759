"""The cost of a network and a run: parameters, floating-point operations, and hours by a model.

Operations are those of convolutions and dense layers, with a multiply and an add counted as two; everything
else costs memory traffic rather than arithmetic. They are counted in closed form and equal PyTorch's count
of a running step. Hours are computed, not measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.presets import PRESETS

# Kernels and dimensions of minibatch discrimination.
_KERNELS, _KERNEL_SIZE = 100, 5


@dataclass(frozen=True)
class StepCost:
    """Operations for each image of a minibatch, at one stage.

    Attributes:
        generator: one generator forward.
        discriminator: one discriminator forward.
        discriminator_step: fakes, scores of reals and fakes, and the penalty, forward and backward.
        generator_step: fakes and their scores, forward and backward.
        shown: both steps per real image shown to the discriminator, in the configuration's proportion.
    """

    generator: float
    discriminator: float
    discriminator_step: float
    generator_step: float
    shown: float


def step_cost(config: ProGANConfig, resolution: int, *, fading: bool = False) -> StepCost:
    """Return the cost of a step at a stage.

    Args:
        config: configuration of networks and losses.
        resolution: resolution of the stage.
        fading: whether the previous resolution is still mixed in.
    """
    g = list(_generator_layers(config, resolution, fading))
    d = list(_discriminator_layers(config, resolution, fading))
    from_rgb = sum(d[: 1 + fading])
    generator, discriminator = float(sum(g)), float(sum(d))
    # One pass each for the forward pass, the weights' gradient and the inputs' gradient; images need none.
    judged = 3 * discriminator - from_rgb
    # The forward pass, the scores' gradient, twice that for the gradient of the gradient, and the backward
    # pass of the forward pass, but not to the images. The last layer's part of the scores' gradient depends
    # only on its weight.
    penalty = 6 * discriminator - from_rgb - 3 * d[-1] if config.loss == "wgan-gp" else 0
    d_step = generator + 2 * judged + penalty
    # Latents need no gradient, and neither do the discriminator's weights here.
    g_step = 3 * generator - g[0] + 2 * discriminator
    shown = d_step + g_step / config.d_repeats
    # Simultaneous steps share their fakes.
    return StepCost(
        generator, discriminator, d_step, g_step, shown - generator if config.simultaneous else shown
    )


def _generator_layers(config: ProGANConfig, resolution: int, fading: bool) -> Iterator[int]:
    channels = config.feature_maps
    yield 2 * (config.latent_size + config.label_size) * channels(4) * 16
    yield _convolution(channels(4), channels(4), 4)
    for r in config.resolutions[1:]:
        if r <= resolution:
            # 4 x 4 weights at a quarter of the positions.
            yield _convolution(channels(r // 2), channels(r), r, kernel=2 if config.fused_scale else 3)
            yield _convolution(channels(r), channels(r), r)
    for r in (resolution, resolution // 2) if fading else (resolution,):
        yield _convolution(channels(r), config.channels, r, kernel=1)


def _discriminator_layers(config: ProGANConfig, resolution: int, fading: bool) -> Iterator[int]:
    channels = config.feature_maps
    for r in (resolution, resolution // 2) if fading else (resolution,):
        yield _convolution(config.channels, channels(r), r, kernel=1)
    for r in config.resolutions[1:]:
        if r <= resolution:
            yield _convolution(channels(r), channels(r), r)
            yield _convolution(channels(r), channels(r // 2), r, kernel=2 if config.fused_scale else 3)
    compared = config.minibatch_statistics
    yield _convolution(channels(4) + (compared == "stddev"), channels(4), 4)
    yield 2 * channels(4) * 16 * channels(2)
    if compared == "discrimination":
        yield 2 * channels(2) * _KERNELS * _KERNEL_SIZE
    yield 2 * (channels(2) + _KERNELS * (compared == "discrimination")) * (1 + config.label_size)


def _convolution(inputs: int, outputs: int, resolution: int, *, kernel: int = 3) -> int:
    return 2 * kernel**2 * inputs * outputs * resolution**2


def parameters(config: ProGANConfig) -> tuple[int, int]:
    """Return the numbers of trained parameters of the generator and of the discriminator."""
    from torch import device

    from reference_models.progan.model.networks import Discriminator, Generator

    with device("meta"):
        networks = Generator(config), Discriminator(config)
    g, d = (sum(prod(p.shape) for p in network.parameters()) for network in networks)
    return g, d


@dataclass(frozen=True)
class Phase:
    """A part of a run in which only alpha changes.

    Attributes:
        resolution: resolution of the stage.
        fading: whether it is being faded in.
        images: number of reals shown.
    """

    resolution: int
    fading: bool
    images: int


def phases(config: ProGANConfig) -> list[Phase]:
    """Return the phases of a run in order, up to its last image."""
    if not config.growing:
        return [Phase(config.resolution, fading=False, images=config.total_images)]
    out, left = [], config.total_images
    for r in config.resolutions:
        last = r == config.resolution
        for fading, length in (
            (True, config.fade_images),
            (False, left if last else config.stabilise_images),
        ):
            images = 0 if fading and r == 4 else min(length, left)
            if images:
                out.append(Phase(r, fading, images))
                left -= images
    return out


def run_flops(config: ProGANConfig) -> float:
    """Return the number of operations of a whole run."""
    return sum(p.images * step_cost(config, p.resolution, fading=p.fading).shown for p in phases(config))


@dataclass(frozen=True)
class Device:
    """The properties of a machine for the model of hours.

    Attributes:
        flops: peak operations per second in matrix products.
        bandwidth: peak bytes per second to and from memory.
        launch: seconds to start one operation.
        element_bytes: bytes of an activation.
        reached: assumed utilization of `flops` and of `bandwidth`.
    """

    flops: float
    bandwidth: float
    launch: float
    element_bytes: int
    reached: tuple[float, float] = (0.45, 0.75)


DEVICES: Mapping[str, Device] = {
    "H200": Device(flops=790e12, bandwidth=4.8e12, launch=7e-6, element_bytes=2),
    "V100": Device(flops=15.7e12, bandwidth=0.9e12, launch=7e-6, element_bytes=4),
    # Fitted to measured times of the small presets.
    "2 CPU cores": Device(flops=280e9, bandwidth=60e9, launch=7e-6, element_bytes=4, reached=(0.7, 0.75)),
}

# Fitted to PyTorch's eager steps: how often an activation of a block's largest layer is read or written,
# bytes moved per parameter, and number of operations at 4 x 4 and per doubling.
_TOUCHES, _PARAMETER_BYTES, _OPERATIONS, _OPERATIONS_PER_BLOCK = 320, 47, 380, 145


def run_hours(config: ProGANConfig, device: Device) -> float:
    """Return the hours of a run by a model that adds the times of arithmetic and memory traffic.

    Steps too small to keep the device busy take as long as starting their operations. For the runs whose
    times on one V100 the original's authors published, the model is at most a quarter too low.
    """
    seconds = 0.0
    for phase in phases(config):
        images = config.minibatch_at(phase.resolution)
        blocks = [r for r in config.resolutions if r <= phase.resolution]
        arithmetic = images * step_cost(config, phase.resolution, fading=phase.fading).shown
        activations = images * sum(config.feature_maps(r) * r**2 for r in blocks)
        weights = sum(18 * config.feature_maps(r) ** 2 * 2 for r in blocks)
        traffic = device.element_bytes * _TOUCHES * activations + _PARAMETER_BYTES * weights
        busy = arithmetic / (device.reached[0] * device.flops) + traffic / (
            device.reached[1] * device.bandwidth
        )
        started = device.launch * (_OPERATIONS + _OPERATIONS_PER_BLOCK * (len(blocks) - 1))
        seconds += phase.images / images * max(busy, started)
    return seconds / 3600


def presets_table() -> str:
    """Return a text table of the presets and their costs.

    Parameters are those of both networks, and operations those of both steps per real image shown at the
    final resolution. Hours are those of the model.
    """
    columns = ("preset", "side", "channels", "latent", "k images", "params", "GFLOP/image", "FLOP", *DEVICES)
    rows = [columns]
    for name, config in PRESETS.items():
        rows.append(
            (
                name,
                str(config.resolution),
                f"{config.feature_maps(4)}-{config.feature_maps(config.resolution)}",
                str(config.latent_size),
                f"{config.total_images / 1000:,.0f}",
                f"{sum(parameters(config)) / 1e6:.2f}M",
                f"{step_cost(config, config.resolution).shown / 1e9:,.1f}",
                f"{run_flops(config):.2e}",
                *(_readable_hours(run_hours(config, device)) for device in DEVICES.values()),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "Times are computed by a model, not measured."])


def _readable_hours(hours: float) -> str:
    for unit, length in (("y", 8766), ("d", 24), ("h", 1)):
        if hours >= 2 * length:
            return f"{hours / length:,.3g} {unit}"
    minutes = hours * 60
    return f"{minutes:.0f} min" if minutes >= 10 else f"{minutes:.1f} min"
