"""Time the training of the reference ProGAN: steps with and without the optimizations, and image loading.

    python -m benchmarks.progan steps --preset small-32 --compiled
    python -m benchmarks.progan loader --resolution 1024

The plain step computes the same result in the most direct way: channels-first tensors, Adam and the average
one parameter at a time, and the penalty by torch.autograd.grad, which also computes a gradient for the
images. `progan bench` times one configuration by itself, and compares it with the speed of matrix products.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest import mock

import click
import torch

from benchmarks.timing import machine, take_turns
from reference_models.progan.data.prepare import prepare
from reference_models.progan.data.prepared import PreparedSource, open_training_source
from reference_models.progan.data.training_images import IndexStream, TrainingImages
from reference_models.progan.model import losses
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.losses import DiscriminatorLoss
from reference_models.progan.model.presets import preset
from reference_models.progan.model.schedule import Stage
from reference_models.progan.training.speed import noise_images, stage_at
from reference_models.progan.training.trainer import Trainer


class PlainTrainer(Trainer):
    """A trainer without the optimizations."""

    def _adam(self, network: torch.nn.Module) -> torch.optim.Adam:
        c = self.config
        return torch.optim.Adam(
            network.parameters(),
            betas=(c.adam_beta1, c.adam_beta2),
            eps=c.adam_epsilon,
            foreach=False,
            fused=False,
        )

    def _update_discriminator(self, now: Stage, made: Sequence[DiscriminatorLoss]) -> DiscriminatorLoss:
        with mock.patch("torch._foreach_lerp_", _one_by_one):
            return super()._update_discriminator(now, made)

    def run(self, now: Stage) -> object:  # type: ignore[override]
        """Make the steps between two schedule updates."""
        with (
            mock.patch("reference_models.progan.model.networks.in_fast_order", lambda images: images),
            mock.patch.object(losses, "gradient_norm", _gradient_norm),
        ):
            return super().run(now)


def _one_by_one(averages: Sequence[torch.Tensor], values: Sequence[torch.Tensor], weight: float) -> None:
    for average, value in zip(averages, values, strict=True):
        average.copy_(average + weight * (value - average))


def _gradient_norm(
    discriminator: Callable[..., tuple[torch.Tensor, torch.Tensor]], images: torch.Tensor, *, alpha: float
) -> torch.Tensor:
    images = images.detach().requires_grad_()
    scores, _ = discriminator(images, alpha=alpha)
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.flatten(1).norm(dim=1)


def contestants(config: ProGANConfig, images: TrainingImages, compiled: bool) -> dict[str, Trainer]:
    """Return trainers of the same network, by name."""
    device = torch.device("cpu")
    half = replace(config, precision="bfloat16")
    made: dict[str, Trainer] = {
        "plain": PlainTrainer(config, images, device),
        "as it is": Trainer(config, images, device),
        "bfloat16": Trainer(half, images, device),
    }
    if compiled:
        made["compiled"] = Trainer(config, images, device, compiled=True)
    return made


@click.group()
def main() -> None:
    """Time the training of the reference ProGAN."""


@main.command()
@click.option("--preset", "name", default="small-32", show_default=True)
@click.option("--turns", default=5, show_default=True)
@click.option("--resolution", "resolutions", multiple=True, type=int, help="All of the preset's by default.")
@click.option("--compiled", is_flag=True, help="The compiled step, too; compiling takes its time.")
def steps(name: str, turns: int, resolutions: tuple[int, ...], compiled: bool) -> None:
    """Print a table of images a second, by resolution."""
    config = preset(name)
    click.echo(f"{name}, minibatch {config.minibatch_at(4)}. {machine()}\n")
    click.echo("| side | step | images/s, median (slowest to fastest) | of plain |")
    click.echo("|--:|:--|--:|--:|")
    with closing(TrainingImages(noise_images(config), config, workers=0)) as images:
        made = contestants(config, images, compiled)
        for side in resolutions or config.resolutions:
            now = stage_at(config, side)
            timings = take_turns({who: _looks(one, now) for who, one in made.items()}, turns)
            shown = now.minibatch * config.minibatch_repeats * config.d_repeats
            for who, timing in timings.items():
                speed = f"{shown / timing.median:,.1f}"
                spread = f"({shown / timing.slowest:,.1f} to {shown / timing.fastest:,.1f})"
                ratio = timing.times_faster_than(timings["plain"])
                click.echo(f"| {side} | {who} | {speed} {spread} | {ratio:.2f} |")


@main.command()
@click.option("--resolution", default=1024, show_default=True)
@click.option("--num-images", default=256, show_default=True, help="In the prepared directory.")
@click.option("--minibatch", default=32, show_default=True)
@click.option("--turns", default=5, show_default=True)
def loader(resolution: int, num_images: int, minibatch: int, turns: int) -> None:
    """Print how fast minibatches come out of a prepared directory, read and made ready."""
    config = ProGANConfig(resolution=resolution, minibatch={4: minibatch}, fmap_base=8192, mirror=True)
    now = stage_at(config, resolution)
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "levels"
        drawn = noise_images(replace(config, minibatch={4: num_images}))
        prepare(drawn, out, channels=3)
        source = open_training_source(str(out), resolution)
        assert isinstance(source, PreparedSource)
        order = IndexStream(len(source), 0)
        cpu = torch.device("cpu")
        with closing(TrainingImages(source, config)) as images:
            looks = 8
            contestants = {
                "read": lambda: [
                    source.level(order.take(i * minibatch, minibatch), resolution) for i in range(looks)
                ],
                "read ahead and made ready on the CPU": lambda: [
                    images.minibatch(i * minibatch, now, cpu) for i in range(looks)
                ],
            }
            timings = take_turns(contestants, turns)
    click.echo(f"{num_images} images of {resolution} x {resolution}, minibatch {minibatch}. {machine()}\n")
    click.echo("| minibatches | images/s, median (slowest to fastest) |")
    click.echo("|:--|--:|")
    shown = looks * minibatch
    for who, timing in timings.items():
        spread = f"({shown / timing.slowest:,.0f} to {shown / timing.fastest:,.0f})"
        click.echo(f"| {who} | {shown / timing.median:,.0f} {spread} |")


def _looks(trainer: Trainer, now: Stage) -> Callable[[], object]:
    return lambda: trainer.run(now)


if __name__ == "__main__":
    main()
