"""Write randomly initialized weights in the layout of the published files.

    python -m benchmarks.random_weights inception random-inception.pth
    python -m benchmarks.random_weights vgg16 random-vgg16.pth

Neither the speed of a network nor the agreement of two tools depends on the weights, but **scores made with
these files mean nothing.** Every tool that accepts a weights file can load them; pgmetrics needs
`--allow-unverified-weights`, since their digest is not the published one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

from pgmetrics.features.inception import architecture
from pgmetrics.runtime.seeding import Stream, generator, text_key


def write_inception(path: Path, seed: int = 0) -> Path:
    """Write a state dict for torch-fidelity's Inception: 566 tensors, 95.7 MB.

    The batch norm statistics are measured on images, as in training. Otherwise all images would have nearly
    the same features, and scores would be small differences of large numbers.
    """
    network = architecture("logits_unbiased")
    state = _drawn(network.state_dict(), seed)
    nn.Module.load_state_dict(network, state, assign=True)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a cumulative average, here over the single batch below
    # Compute in float64, so that rounding on other machines does not affect the digits written.
    network.feature_extractor_internal_dtype = torch.float64
    with torch.no_grad():
        network.double().train()(_blotches(12, seed))
    return _write({name: _shortened(tensor) for name, tensor in network.state_dict().items()}, path)


def write_vgg16(path: Path, seed: int = 0) -> Path:
    """Write a state dict for torchvision's VGG16: 32 tensors, 553 MB."""
    from torchvision.models import vgg16

    with torch.device("meta"):
        network = vgg16()
    return _write(_drawn(network.state_dict(), seed), path)


def _drawn(layout: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Draw values for every tensor of a layout: weights by He et al. 2015, batch norms near the identity."""
    return {name: _tensor(name, tensor, seed) for name, tensor in layout.items()}


def _tensor(name: str, layout: Tensor, seed: int) -> Tensor:
    random = generator(seed, Stream.INITIALIZATION, *text_key(name))
    shape = tuple(layout.shape)
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if len(shape) > 1:
        low, high = -np.sqrt(6 / np.prod(shape[1:])), np.sqrt(6 / np.prod(shape[1:]))
    elif name.endswith("bias"):
        low, high = -0.2, 0.2
    else:
        low, high = 0.6, 1.4
    values = random.random(shape, np.float32)
    values *= np.float32(high - low)
    values += np.float32(low)
    return torch.from_numpy(values)


def _blotches(count: int, seed: int) -> Tensor:
    """Draw images with structure from 2 to 64 pixels: uint8 [count, 3, 128, 128]."""
    random = generator(seed, Stream.INITIALIZATION)
    images = np.zeros((count, 3, 128, 128))
    for cell in (2, 8, 32, 64):
        noise = random.random((count, 3, 128 // cell, 128 // cell))
        images += noise.repeat(cell, axis=2).repeat(cell, axis=3)
    low, high = images.min((1, 2, 3), keepdims=True), images.max((1, 2, 3), keepdims=True)
    return torch.from_numpy((255 * (images - low) / (high - low)).astype(np.uint8))


def _shortened(tensor: Tensor) -> Tensor:
    """Round to float32, and vectors to eight bits, so that a seed gives the same file on every machine."""
    if not tensor.is_floating_point():
        return tensor
    return tensor.bfloat16().float() if tensor.ndim == 1 else tensor.float()


def _write(state: Mapping[str, Tensor], path: Path) -> Path:
    with path.open("wb") as file:  # given a path, torch would store its name, which changes the digest
        torch.save(dict(state), file)
    return path


@click.command()
@click.argument("network", type=click.Choice(["inception", "vgg16"]))
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def main(network: str, path: Path, seed: int) -> None:
    """Write random weights of NETWORK to PATH."""
    write = {"inception": write_inception, "vgg16": write_vgg16}[network]
    click.echo(write(path, seed))


if __name__ == "__main__":
    sys.exit(main())
