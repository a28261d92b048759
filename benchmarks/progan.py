"""Training steps of the reference ProGAN: as they are, without the fast path, in bfloat16, compiled.

    python -m benchmarks.progan --preset small-32 --compiled

The plain step is the same mathematics as a first version would write it: planes in memory, Adam and the
average parameter by parameter, the penalty by torch.autograd.grad, which also computes a gradient of the
images. `progan bench` times one way of training by itself and compares it with products of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from unittest import mock

import click
import torch

from benchmarks.timing import machine, take_turns
from reference_models.progan import losses
from reference_models.progan.config import ProGANConfig, preset
from reference_models.progan.data import TrainingImages
from reference_models.progan.losses import DiscriminatorLoss
from reference_models.progan.schedule import Stage
from reference_models.progan.speed import noise_images, stage_at
from reference_models.progan.trainer import Trainer


class PlainTrainer(Trainer):
    """Trainer without what makes it fast."""

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
        """The steps between two looks at the schedule."""
        with (
            mock.patch("reference_models.progan.networks.in_fast_order", lambda images: images),
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
    """Ways to train the same network, by name."""
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


@click.command()
@click.option("--preset", "name", default="small-32", show_default=True)
@click.option("--turns", default=5, show_default=True)
@click.option("--resolution", "resolutions", multiple=True, type=int, help="All of the preset's by default.")
@click.option("--compiled", is_flag=True, help="The compiled step, too; compiling takes a minute a stage.")
def main(name: str, turns: int, resolutions: tuple[int, ...], compiled: bool) -> None:
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


def _looks(trainer: Trainer, now: Stage) -> Callable[[], object]:
    return lambda: trainer.run(now)


if __name__ == "__main__":
    main()
