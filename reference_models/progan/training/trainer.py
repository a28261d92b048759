"""The training steps of a ProGAN: networks, optimizers, averaged generator, and their state."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pgmetrics.errors import PgmetricsError, StateError
from pgmetrics.runtime import images as byte_images
from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream
from reference_models.progan.data.training_images import TrainingImages
from reference_models.progan.model.checkpoint import VALUE_RANGE
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.losses import DiscriminatorLoss, noise_scale, updated_score_average
from reference_models.progan.model.networks import Discriminator, Generator, measure_batch_norm
from reference_models.progan.model.schedule import Stage
from reference_models.progan.sampling.latents import labels as sample_labels
from reference_models.progan.sampling.latents import latents as sample_latents
from reference_models.progan.training import microbatches
from reference_models.progan.training.distributed import Ranks
from reference_models.progan.training.microbatches import Share
from reference_models.progan.training.progress import TrainingStatus
from reference_models.progan.training.resume_state import TrainingState
from reference_models.progan.training.steps import StepInputs, Steps

# Purposes of the latents of a step; part of the key of their random generator.
_FOR_DISCRIMINATOR, _FOR_GENERATOR, _FOR_STATISTICS = 0, 1, 2
# Number of images on which batch norm statistics are measured.
_STATISTICS_IMAGES = 256
_GRID_BATCH = 16
# There is no loss scale to lower: after a skipped step the next one has the same weights and other images. If
# chance spoils one step in ten, ten consecutive steps fail once in 10**10 steps; a run has 10**6.
MOST_LEFT_OUT = 10
# The terms of a loss, each before those computed from it: the first that is not finite is the cause.
_TERMS = {
    "real": "mean score of reals",
    "fake": "mean score of fakes",
    "norm": "gradient norm",
    "penalty": "gradient penalty",
    "classes": "cross entropy",
    "total": "loss",
}
_ALONE = Ranks()


class Diverged(PgmetricsError):
    """`MOST_LEFT_OUT` consecutive steps of a network were skipped, because gradients were not finite."""


@dataclass
class _LeftOut:
    """The steps of one network that were skipped since its last successful step.

    Attributes:
        count: number of skipped steps.
        images_shown: images shown before the first of them.
        what: description of what was not finite in the first of them.
    """

    count: int = 0
    images_shown: int = 0
    what: str = ""


class Trainer:
    """The networks, optimizers and position of a run, on which every step depends.

    Args:
        config: configuration of the run.
        images: images to train on.
        device: device to train on.
        compiled: translate the steps with torch.compile, see `steps.Steps`.
        micro_batch: the largest number of images processed at a time; None processes whole minibatches.
        ranks: the place of this process among those that train together.

    Attributes:
        images_shown: real images shown to the discriminator so far.
        skipped: number of steps skipped so far because a gradient was not finite.
        average: the exponential moving average of the generator, from which samples are made.
        score_average: moving average of scores that sets the noise of LSGAN, see
            `losses.updated_score_average`.
    """

    def __init__(
        self,
        config: ProGANConfig,
        images: TrainingImages,
        device: torch.device,
        *,
        compiled: bool = False,
        micro_batch: int | None = None,
        ranks: Ranks = _ALONE,
    ) -> None:
        self.config = config
        self.images = images
        self.device = device
        self.images_shown = 0
        self.skipped = 0
        self.generator = Generator(config)
        self.discriminator = Discriminator(config)
        initialize(self.generator, "generator", config.seed)
        initialize(self.discriminator, "discriminator", config.seed)
        self.generator.to(device)
        self.discriminator.to(device)
        self.average = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.score_average = torch.zeros((), device=device)
        self._steps = Steps(self.generator, self.discriminator, compiled=compiled)
        self._micro_batch = micro_batch
        self._ranks = ranks
        self._shares: dict[int, Share] = {}
        self._left_out = {"generator": _LeftOut(), "discriminator": _LeftOut()}
        self.reset_optimizers()

    def reset_optimizers(self) -> None:
        """Reset the state of both Adam optimizers, since the loss changes where a fade begins or ends."""
        self._generator_adam = self._adam(self.generator)
        self._discriminator_adam = self._adam(self.discriminator)

    @property
    def optimizers_are_fresh(self) -> bool:
        """Whether no step was made since the last reset, so that the next step is the first of its phase."""
        return not self._discriminator_adam.state

    @property
    def is_sound(self) -> bool:
        """Whether neither network skipped its last step; otherwise the run may be diverging."""
        return not any(left_out.count for left_out in self._left_out.values())

    def _adam(self, network: nn.Module) -> torch.optim.Adam:
        c = self.config
        return torch.optim.Adam(
            network.parameters(), betas=(c.adam_beta1, c.adam_beta2), eps=c.adam_epsilon, fused=True
        )

    def state(self) -> TrainingState:
        """Return all that the next steps depend on, except configuration and images.

        On a CPU the tensors share memory with the trainer, so the next step changes them.
        """
        tensors = {"score_average": self.score_average}
        for prefix, network in self._networks().items():
            tensors |= {f"{prefix}.{name}": tensor for name, tensor in network.state_dict().items()}
        for prefix, network, adam in self._optimizers():
            for name, parameter in network.named_parameters():
                moments = adam.state.get(parameter, {})
                tensors |= {f"{prefix}.{key}.{name}": tensor for key, tensor in moments.items()}
        return TrainingState(
            images_shown=self.images_shown,
            skipped=self.skipped,
            tensors={name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()},
        )

    def restore(self, state: TrainingState) -> None:
        """Restore a state that `state` returned.

        Raises:
            StateError: the state belongs to other networks.
        """
        left = dict(state.tensors)
        try:
            for prefix, network in self._networks().items():
                network.load_state_dict({name: left.pop(f"{prefix}.{name}") for name in network.state_dict()})
            self.score_average = left.pop("score_average").to(self.device)
            self.reset_optimizers()
            for prefix, network, adam in self._optimizers():
                for name, parameter in network.named_parameters():
                    moments = {
                        key: left.pop(f"{prefix}.{key}.{name}").to(self.device)
                        for key in ("step", "exp_avg", "exp_avg_sq")
                        if f"{prefix}.{key}.{name}" in left
                    }
                    # A parameter that no stage has used yet has no moments; its first step creates them.
                    if moments:
                        adam.state[parameter] = moments
        except (KeyError, RuntimeError) as error:
            raise StateError(f"the state of {state.images_shown:,} images is of other networks") from error
        if left:
            raise StateError(
                f"the state of {state.images_shown:,} images holds {min(left)}, which is of no network"
            )
        self.images_shown = state.images_shown
        self.skipped = state.skipped
        self._left_out = {"generator": _LeftOut(), "discriminator": _LeftOut()}

    def _networks(self) -> dict[str, nn.Module]:
        return {
            "generator": self.generator, "discriminator": self.discriminator, "average": self.average,
        }  # fmt: skip

    def _optimizers(self) -> tuple[tuple[str, nn.Module, torch.optim.Adam], ...]:
        return (
            ("generator_adam", self.generator, self._generator_adam),
            ("discriminator_adam", self.discriminator, self._discriminator_adam),
        )

    def sampled(self, resolution: int, alpha: float) -> Generator:
        """Return the averaged generator, ready for sampling at a stage.

        Averaged weights have no batch norm statistics. They are measured here, on latents reserved for that
        purpose and with labels as frequent as among the training images.
        """
        latents = torch.from_numpy(
            seeding.generator(self.config.seed, Stream.TRAINING_LATENTS, 0, _FOR_STATISTICS).standard_normal(
                (_STATISTICS_IMAGES, self.config.latent_size), dtype="float32"
            )
        ).to(self.device)
        labels = self._sample_labels(range(_STATISTICS_IMAGES))
        measure_batch_norm(self.average, latents, labels, resolution=resolution, alpha=alpha)
        return self.average

    def samples(self, count: int, resolution: int, alpha: float) -> NDArray[np.uint8]:
        """Return samples of the averaged generator, from the same latents and labels at every stage.

        `progan sample` with the seed of the run makes the same samples.

        Returns:
            uint8 [count, 3, r, r].
        """
        generator = self.sampled(resolution, alpha)
        made = []
        with torch.no_grad():
            for start in range(0, count, _GRID_BATCH):
                places = range(start, min(start + _GRID_BATCH, count))
                z = torch.from_numpy(sample_latents(self.config.seed, places, self.config.latent_size))
                images = generator(
                    z.to(self.device), self._sample_labels(places), resolution=resolution, alpha=alpha
                )
                made.append(byte_images.grey_to_rgb(byte_images.to_bytes(images, VALUE_RANGE, "the grid")))
        pixels: NDArray[np.uint8] = torch.cat(made).cpu().numpy()
        return pixels

    def _sample_labels(self, places: Sequence[int]) -> Tensor | None:
        if not self.config.label_size:
            return None
        drawn = sample_labels(self.config.seed, places, self.images.label_distribution)
        return torch.from_numpy(drawn).to(self.device)

    def run(self, now: Stage) -> TrainingStatus:
        """Make the steps between two schedule updates.

        Raises:
            Diverged: too many consecutive steps were skipped.
        """
        for _ in range(self.config.minibatch_repeats):
            if self.config.simultaneous:
                loss = self._step_both(now)
            else:
                for _ in range(self.config.d_repeats):
                    loss = self._step_discriminator(now)
                self._step_generator(now)
        return TrainingStatus(
            images_shown=self.images_shown,
            stage=now,
            skipped=self.skipped,
            real=float(loss.real),
            fake=float(loss.fake),
            penalty=float(loss.penalty),
            norm=float(loss.norm),
            classes=float(loss.classes),
        )

    def _step_discriminator(self, now: Stage) -> DiscriminatorLoss:
        drawn = self._drawn_for_discriminator(now)
        losses = [self._judged(now, piece) for piece in self._pieces(now, drawn)]
        return self._update_discriminator(now, losses)

    def _step_generator(self, now: Stage) -> None:
        labels = self.images.drawn_labels(self.images_shown, now, self.device)
        drawn = StepInputs(
            latents=self._latents(now, _FOR_GENERATOR),
            labels=None if labels is None else self._own(now, labels),
            noise=self._noise(now, _FOR_GENERATOR),
        )
        for piece in self._pieces(now, drawn):
            self._deceived(now, piece)
        self._update(self._generator_adam, self.generator, now)

    def _step_both(self, now: Stage) -> DiscriminatorLoss:
        """Compute both gradients at the same weights and fakes, then make both updates."""
        drawn = self._drawn_for_discriminator(now)
        against = replace(drawn, noise=self._noise(now, _FOR_GENERATOR))
        fakes = [self._deceived(now, piece) for piece in self._pieces(now, against)]
        losses = [
            self._judged(now, piece, fake)
            for piece, fake in zip(self._pieces(now, drawn), fakes, strict=True)
        ]
        loss = self._update_discriminator(now, losses)
        self._update(self._generator_adam, self.generator, now)
        return loss

    def _judged(self, now: Stage, piece: StepInputs, fake: Tensor | None = None) -> DiscriminatorLoss:
        loss = self._steps.discriminator_loss(now, piece, fake)
        torch.autograd.backward(loss.total)
        return DiscriminatorLoss(*(term.detach() for term in loss))

    def _deceived(self, now: Stage, piece: StepInputs) -> Tensor:
        """Accumulate the gradient of the generator, and return the fakes."""
        with _frozen(self.discriminator):
            loss, fakes = self._steps.generator_loss(now, piece)
            torch.autograd.backward(loss)
        return fakes

    def _drawn_for_discriminator(self, now: Stage) -> StepInputs:
        labels = self.images.labels(self.images_shown, now, self.device)
        mixing = seeding.generator(self.config.seed, Stream.GRADIENT_PENALTY, self.images_shown)
        share = self._share(now)
        return StepInputs(
            latents=self._latents(now, _FOR_DISCRIMINATOR),
            labels=None if labels is None else self._own(now, labels),
            real=self.images.minibatch(
                self.images_shown, now, self.device, places=None if share.is_whole else share.places
            ),
            mixing=self._own(now, torch.from_numpy(mixing.random(now.minibatch, dtype="float32"))),
            noise=self._noise(now, _FOR_DISCRIMINATOR, 2),
        )

    def _latents(self, now: Stage, purpose: int) -> Tensor:
        drawn = seeding.generator(
            self.config.seed, Stream.TRAINING_LATENTS, self.images_shown, purpose
        ).standard_normal((now.minibatch, self.config.latent_size), dtype="float32")
        return self._own(now, torch.from_numpy(drawn))

    def _noise(self, now: Stage, purpose: int, *kinds: int) -> Tensor | None:
        """Return the scaled noise of LSGAN for this rank's images, [n, *kinds, noise_size], or None."""
        if not self.config.noise_strength:
            return None
        size = self.discriminator.noise_size(now.resolution)
        drawn = seeding.generator(
            self.config.seed, Stream.TRAINING_NOISE, self.images_shown, purpose
        ).standard_normal((*kinds, now.minibatch, size), dtype="float32")
        by_image = torch.from_numpy(drawn).movedim(len(kinds), 0)
        return noise_scale(self.score_average, self.config) * self._own(now, by_image)

    def _own(self, now: Stage, minibatch: Tensor) -> Tensor:
        """Select the rows of this rank from a tensor with a row for each image, ordered by piece."""
        share = self._share(now)
        return (minibatch if share.is_whole else minibatch[list(share.places)]).to(self.device)

    def _pieces(self, now: Stage, drawn: StepInputs) -> list[StepInputs]:
        share = self._share(now)
        return [drawn] if share.is_whole else [drawn[images] for images in share.slices]

    def _share(self, now: Stage) -> Share:
        if now.resolution not in self._shares:
            self._shares[now.resolution] = microbatches.share(
                self.config,
                now.resolution,
                rank=self._ranks.rank,
                ranks=self._ranks.size,
                micro_batch=self._micro_batch,
            )
        return self._shares[now.resolution]

    def _update_discriminator(self, now: Stage, losses: Sequence[DiscriminatorLoss]) -> DiscriminatorLoss:
        """Update the discriminator, count its images as shown, and update the average of the generator."""
        terms = torch.stack([torch.stack(loss) for loss in losses]).sum(dim=0)
        self._update(self._discriminator_adam, self.discriminator, now, terms)
        loss = DiscriminatorLoss(*terms)
        self.images_shown += now.minibatch
        # A score that is not finite would remain in the moving average forever.
        if self.config.noise_strength and bool(loss.fake.isfinite()):
            self.score_average = updated_score_average(self.score_average, loss.fake)
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.generator.parameters()), 1 - self.config.ema
            )
        return loss

    def _update(
        self, adam: torch.optim.Adam, network: nn.Module, now: Stage, terms: Tensor | None = None
    ) -> None:
        """Average the gradients over all pieces and ranks, and make an optimizer step if they are finite.

        Args:
            adam: optimizer of the network.
            network: network whose gradients are sums over the pieces of this rank.
            now: the stage.
            terms: other sums over the pieces, averaged in place as well.
        """
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        sums = gradients if terms is None else [*gradients, terms]
        self._ranks.all_reduce_sum(sums)
        if not self._share(now).is_whole:
            torch._foreach_div_(sums, self._share(now).total)
        # Gradients are now equal on all ranks, so all ranks decide alike.
        if _finite(gradients):
            for group in adam.param_groups:
                group["lr"] = now.learning_rate
            adam.step()
            self._left_out[_name(network)] = _LeftOut()
        else:
            self.skipped += 1
            self._leave_out(network, now, terms)
        adam.zero_grad()

    def _leave_out(self, network: nn.Module, now: Stage, terms: Tensor | None) -> None:
        """Count a skipped step.

        Raises:
            Diverged: too many consecutive steps were skipped.
        """
        name = _name(network)
        left_out = self._left_out[name]
        if not left_out.count:
            left_out.images_shown = self.images_shown
            left_out.what = _not_finite(network, terms)
        left_out.count += 1
        if left_out.count >= MOST_LEFT_OUT:
            raise Diverged(
                f"training diverged: {left_out.count} steps of the {name} in a row were left out, the first "
                f"after {left_out.images_shown:,} images, where {left_out.what}; what was saved before is "
                "kept. Train in another directory with a learning_rate below "
                f"{self.config.learning_rate_at(now.resolution):g}"
            )


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Freeze the discriminator in a generator step, which saves a third of the step's time."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _name(network: nn.Module) -> str:
    return type(network).__name__.lower()


def _not_finite(network: nn.Module, terms: Tensor | None) -> str:
    """Describe the first term of the loss that is not finite, or else the first such gradient."""
    losses = {} if terms is None else DiscriminatorLoss(*terms.tolist())._asdict()
    for name, text in _TERMS.items():
        if not math.isfinite(losses.get(name, 0.0)):
            return f"the discriminator's {text} was {losses[name]}"
    for name, parameter in network.named_parameters():
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
            return f"the gradient of the {_name(network)}'s {name} was not finite"
    raise AssertionError("every gradient is finite")


def _finite(gradients: list[Tensor]) -> bool:
    # Use the maximum norm: a sum of squares can overflow where the gradients do not.
    largest = torch._foreach_norm(gradients, float("inf"))
    return bool(torch.stack(largest).isfinite().all())
