"""Training a ProGAN, from an image source to checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pgmetrics import images as byte_images
from pgmetrics import seeding
from pgmetrics.errors import OptionError, PgmetricsError, StateError
from pgmetrics.seeding import Stream
from pgmetrics.sources.base import ImageSource
from reference_models.progan import run_directory
from reference_models.progan.checkpoint import VALUE_RANGE, Checkpoint
from reference_models.progan.config import ProGANConfig
from reference_models.progan.data import TrainingImages
from reference_models.progan.interruption import Interrupted, stop_requests
from reference_models.progan.layers import initialize
from reference_models.progan.losses import (
    DiscriminatorLoss,
    discriminator_loss,
    generator_loss,
    noise_scale,
    updated_score_average,
)
from reference_models.progan.networks import Discriminator, Generator, measure_batch_norm
from reference_models.progan.progress import Alarms, Progress
from reference_models.progan.run_directory import RunDirectory, Settings
from reference_models.progan.sample import labels as sample_labels
from reference_models.progan.sample import latents as sample_latents
from reference_models.progan.sample import save_grid
from reference_models.progan.schedule import Stage, stage
from reference_models.progan.state import TrainingState

# What a step's latents are for; part of their key.
_FOR_DISCRIMINATOR, _FOR_GENERATOR, _FOR_STATISTICS = 0, 1, 2
# As many as statistics of a batch norm are taken of.
_STATISTICS_IMAGES = 256
_GRID_BATCH = 16


def train(
    source: ImageSource,
    run_dir: Path,
    config: ProGANConfig,
    *,
    device: str = "cpu",
    workers: int | None = None,
    licence: str = "unknown",
    crop: bool = False,
    snapshot_images: int | None = None,
    state_images: int | None = None,
    keep_states: int = 2,
    tensorboard: bool = False,
    decoded: Callable[[int, int], None] | None = None,
    report: Callable[[Progress], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Path:
    """Grow a ProGAN on the images of a source, or go on where the run in the directory stopped.

    A run that was interrupted in whatever way and is entered again with the same arguments ends with the
    same weights as one that was not: bit for bit on a CPU, with equally many threads.

    Writes what `run_directory` lists: a checkpoint at the end of every fade, of every stabilisation and of
    the run, and one more where it is asked to stop. Ctrl-C and SIGTERM ask for that: the run ends after
    the steps under way, with its state saved.

    Args:
        source: of real images at the final resolution.
        run_dir: new, empty, or of the same run; `config.total_images` may have grown.
        config: of networks and training.
        device: to train on.
        workers: processes that decode the images; None for one per core.
        licence: of the weights, for the checkpoints.
        crop: take the centre of images that are not square.
        snapshot_images: write a checkpoint each time so many images were shown, too, as the stage then is.
        state_images: save the state each time so many images were shown; None for every five minutes.
        keep_states: how many of the last states are kept.
        tensorboard: write TensorBoard's events, too.
        decoded: called with (done, total) while the images are decoded.
        report: called after each look at the schedule; its KeyboardInterrupt counts as Ctrl-C.
        warn: called with what a person should know at once, each time one line.

    Returns:
        The last checkpoint.

    Raises:
        OptionError: the run directory cannot be written or is of something else, or an option is out of
            range.
        SampleError, SourceError: the images do not fit the configuration.
        StateError: the run has states, and none can be read.
        PgmetricsError: the disk is too small.
        Interrupted: the run was asked to stop; a KeyboardInterrupt.
    """
    if snapshot_images is not None and snapshot_images < 1:
        raise OptionError(f"snapshots are taken every so many images, from 1 on, not every {snapshot_images}")
    settings = Settings(config, source.fingerprint, crop, licence)
    with run_directory.claimed(
        run_dir,
        settings,
        keep_states=keep_states,
        state_images=state_images,
        tensorboard=tensorboard,
        warn=warn,
    ) as run:
        state = run.newest_state()
        if state is not None and state.images_shown >= config.total_images:
            last = run.checkpoint_path(state.images_shown, stage(config.total_images, config).resolution)
            if last.exists():
                if not run.has_ended:
                    run.say_how_it_ended("complete", state.images_shown)
                return last
        run.check_space(snapshot_images)
        images = TrainingImages(source, config, crop=crop, workers=workers, report=decoded)
        try:
            trainer = Trainer(config, images, torch.device(device))
            if state is not None:
                trainer.restore(state)
            run.begin(trainer.images_shown)
            session = _Session(run, trainer, licence, snapshot_images, report)
            with stop_requests() as requested, session.saying_how_it_ends():
                return session.train(requested)
        finally:
            images.close()


class _Session:
    """A run in one process, from the moment its images are at hand."""

    def __init__(
        self,
        run: RunDirectory,
        trainer: Trainer,
        licence: str,
        snapshot_images: int | None,
        report: Callable[[Progress], None] | None,
    ) -> None:
        self._run = run
        self._trainer = trainer
        self._config = trainer.config
        self._licence = licence
        self._snapshot_images = snapshot_images
        self._report = report
        self._alarms = Alarms(trainer.config)

    def train(self, requested: Callable[[], int | None]) -> Path:
        """Train to the end, or until a stop is requested."""
        trainer, config = self._trainer, self._config
        if not trainer.images_shown:
            self._save_untrained()
        while trainer.images_shown < config.total_images:
            before, first = trainer.images_shown, trainer.has_forgotten
            now = stage(before, config)
            progress = trainer.run(now)
            self._run.log(progress)
            for alarm in self._alarms.raised_by(progress):
                self._run.warn(alarm)
            if first:
                self._save_grid(now.resolution, now.alpha)
            self._close_look(before, now)
            stop = self._told(progress, requested)
            if stop is not None and trainer.images_shown < config.total_images:
                self._save(now.resolution, now.alpha)
                self._run.save_state(trainer.state())
                raise Interrupted(trainer.images_shown, stop)
            if self._run.state_is_due(before, trainer.images_shown):
                self._run.save_state(trainer.state())
        # Steps come in whole repeats and may overshoot the end into a fade that then has hardly begun.
        end = stage(config.total_images, config)
        last = self._save(end.resolution, end.alpha)
        self._run.save_state(trainer.state())
        return last

    def _close_look(self, before: int, now: Stage) -> None:
        """What the schedule asks for between the steps just made and the next ones."""
        trainer, config = self._trainer, self._config
        shown = trainer.images_shown
        ends = shown >= config.total_images
        changes = stage(shown, config).reset_key != now.reset_key
        every = self._snapshot_images
        # The end of a phase or of the run brings a checkpoint anyway.
        if changes and not ends:
            self._save(now.resolution, 1.0)
        elif every and shown // every > before // every and not ends:
            self._save(now.resolution, now.alpha)
        if changes:
            # Here rather than before the next steps, so that a state never stands between the two.
            trainer.reset_optimizers()

    def _told(self, progress: Progress, requested: Callable[[], int | None]) -> int | None:
        """Report; the exit code of the stop that was requested, if one was."""
        try:
            if self._report is not None:
                self._report(progress)
        except Interrupted as request:
            return request.exit_code
        except KeyboardInterrupt:
            return Interrupted(0).exit_code
        return requested()

    def _save(self, resolution: int, alpha: float) -> Path:
        generator = self._trainer.sampled(resolution, alpha)
        last = self._run.save_checkpoint(self._facts(resolution, alpha), generator)
        self._save_grid(resolution, alpha)
        return last

    def _save_untrained(self) -> None:
        """At the final resolution: whatever is learned is learned from there."""
        side = self._config.resolution
        self._run.save_untrained(self._facts(side, 1.0), self._trainer.sampled(side, 1.0))

    def _facts(self, resolution: int, alpha: float) -> Checkpoint:
        images = self._trainer.images
        return Checkpoint(
            config=self._config,
            images_shown=self._trainer.images_shown,
            resolution=resolution,
            alpha=alpha,
            data_fingerprint=images.fingerprint,
            licence=self._licence,
            label_names=images.label_names,
            label_distribution=images.label_distribution,
        )

    def _save_grid(self, resolution: int, alpha: float) -> None:
        count, columns = run_directory.grid_size(resolution)
        path = self._run.grid_path(self._trainer.images_shown, resolution, alpha)
        save_grid(path, self._trainer.samples(count, resolution, alpha), columns)

    @contextmanager
    def saying_how_it_ends(self) -> Iterator[None]:
        """Tell those who wait when the run is over, whoever ended it."""
        ended = "failed"
        try:
            yield
            ended = "complete"
        except KeyboardInterrupt:
            ended = "interrupted"
            raise
        finally:
            try:
                self._run.say_how_it_ended(ended, self._trainer.images_shown)
            except PgmetricsError:
                # A full disk ended the run as well, and the error under way says so.
                if ended == "complete":
                    raise


class Trainer:
    """Networks, optimisers and position of a run; every step is a function of them.

    Attributes:
        images_shown: real images the discriminator has been shown.
        skipped: steps left out because a gradient was not finite.
        average: the exponential average of the generator, the one that is sampled.
        score_average: what LSGAN's noise follows, see `losses.updated_score_average`.
    """

    def __init__(self, config: ProGANConfig, images: TrainingImages, device: torch.device) -> None:
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
        self.reset_optimizers()

    def reset_optimizers(self) -> None:
        """Let both optimisers forget: at a fade's ends the loss becomes another one."""
        self._generator_adam = self._adam(self.generator)
        self._discriminator_adam = self._adam(self.discriminator)

    @property
    def has_forgotten(self) -> bool:
        """Whether no step was made since the optimisers forgot: the next look is the first of its phase."""
        return not self._discriminator_adam.state

    def _adam(self, network: nn.Module) -> torch.optim.Adam:
        c = self.config
        return torch.optim.Adam(
            network.parameters(), betas=(c.adam_beta1, c.adam_beta2), eps=c.adam_epsilon, fused=True
        )

    def state(self) -> TrainingState:
        """All that the next steps depend on, besides configuration and images.

        On a CPU the tensors are the trainer's own, which the next step changes.
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
        """Become the trainer that gave this state.

        Raises:
            StateError: it is of other networks.
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
                    # A parameter that has not been part of a stage has none, and gets its first step later.
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
        """The averaged generator, ready to be sampled at a stage.

        An average of weights has no batch statistics of its own, so they are measured here, on latents of
        their own and labels as frequent as in the images.
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
        """Images of the averaged generator, of the same latents and labels at every stage.

        They are those of `progan sample` with the run's seed.

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

    def run(self, now: Stage) -> Progress:
        """The steps between two looks at the schedule."""
        for _ in range(self.config.minibatch_repeats):
            if self.config.simultaneous:
                loss = self._step_both(now)
            else:
                for _ in range(self.config.d_repeats):
                    loss = self._step_discriminator(now)
                self._step_generator(now)
        return Progress(
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
        labels = self._real_labels(now)
        with torch.no_grad():
            fake = self._fakes(now, labels, _FOR_DISCRIMINATOR)
        loss = self._discriminator_loss(now, fake, labels)
        torch.autograd.backward(loss.total)
        self._update_discriminator(now, loss)
        return loss

    def _step_generator(self, now: Stage) -> None:
        labels = self.images.drawn_labels(self.images_shown, now, self.device)
        with _frozen(self.discriminator):
            fake = self._fakes(now, labels, _FOR_GENERATOR)
            torch.autograd.backward(self._generator_loss(now, fake, labels))
        self._update(self._generator_adam, self.generator, now)

    def _step_both(self, now: Stage) -> DiscriminatorLoss:
        """Both gradients at the same weights and fakes, then both updates."""
        labels = self._real_labels(now)
        fake = self._fakes(now, labels, _FOR_DISCRIMINATOR)
        with _frozen(self.discriminator):
            torch.autograd.backward(self._generator_loss(now, fake, labels))
        loss = self._discriminator_loss(now, fake.detach(), labels)
        torch.autograd.backward(loss.total)
        self._update_discriminator(now, loss)
        self._update(self._generator_adam, self.generator, now)
        return loss

    def _discriminator_loss(self, now: Stage, fake: Tensor, labels: Tensor | None) -> DiscriminatorLoss:
        mixing = seeding.generator(self.config.seed, Stream.GRADIENT_PENALTY, self.images_shown)
        return discriminator_loss(
            self.discriminator,
            self.images.minibatch(self.images_shown, now, self.device),
            fake,
            torch.from_numpy(mixing.random(now.minibatch, dtype="float32")).to(self.device),
            alpha=now.alpha,
            enlargement=now.enlargement,
            labels=labels,
            noise=self._noise(now, _FOR_DISCRIMINATOR, 2, now.minibatch),
        )

    def _generator_loss(self, now: Stage, fake: Tensor, labels: Tensor | None) -> Tensor:
        noise = self._noise(now, _FOR_GENERATOR, now.minibatch)
        return generator_loss(self.discriminator, fake, alpha=now.alpha, labels=labels, noise=noise)

    def _update_discriminator(self, now: Stage, loss: DiscriminatorLoss) -> None:
        """A discriminator step is what counts images, and averages the generator it was made with."""
        self._update(self._discriminator_adam, self.discriminator, now)
        self.images_shown += now.minibatch
        # A score that is not finite would stay in the average for ever.
        if self.config.noise_strength and bool(loss.fake.isfinite()):
            self.score_average = updated_score_average(self.score_average, loss.fake)
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.generator.parameters()), 1 - self.config.ema
            )

    def _fakes(self, now: Stage, labels: Tensor | None, purpose: int) -> Tensor:
        drawn = seeding.generator(
            self.config.seed, Stream.TRAINING_LATENTS, self.images_shown, purpose
        ).standard_normal((now.minibatch, self.config.latent_size), dtype="float32")
        latents = torch.from_numpy(drawn).to(self.device)
        fakes: Tensor = self.generator(latents, labels, resolution=now.resolution, alpha=now.alpha)
        return fakes

    def _real_labels(self, now: Stage) -> Tensor | None:
        return self.images.labels(self.images_shown, now, self.device)

    def _noise(self, now: Stage, purpose: int, *shape: int) -> Tensor | None:
        """LSGAN's noise for every image of this shape, at its strength of the moment."""
        if not self.config.noise_strength:
            return None
        size = self.discriminator.noise_size(now.resolution)
        drawn = seeding.generator(
            self.config.seed, Stream.TRAINING_NOISE, self.images_shown, purpose
        ).standard_normal((*shape, size), dtype="float32")
        return noise_scale(self.score_average, self.config) * torch.from_numpy(drawn).to(self.device)

    def _update(self, adam: torch.optim.Adam, network: nn.Module, now: Stage) -> None:
        if _finite(p.grad for p in network.parameters() if p.grad is not None):
            for group in adam.param_groups:
                group["lr"] = now.learning_rate
            adam.step()
        else:
            self.skipped += 1
        adam.zero_grad()


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for these weights: the generator's step needs none, which saves a third of it."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _finite(gradients: Iterable[Tensor]) -> bool:
    # The largest element, not the sum of squares, which overflows where the gradients do not.
    largest = torch._foreach_norm(list(gradients), float("inf"))
    return bool(torch.stack(largest).isfinite().all())
