"""Training a ProGAN, from an image source to checkpoints."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pgmetrics import seeding
from pgmetrics.errors import OptionError, PgmetricsError
from pgmetrics.seeding import Stream
from pgmetrics.sources.base import ImageSource
from reference_models.progan.checkpoint import (
    Checkpoint,
    refusing_unwritable,
    save,
    written_atomically,
)
from reference_models.progan.config import ProGANConfig
from reference_models.progan.data import TrainingImages
from reference_models.progan.layers import initialize
from reference_models.progan.losses import DiscriminatorLoss, discriminator_loss, generator_loss
from reference_models.progan.networks import Discriminator, Generator
from reference_models.progan.schedule import Stage, stage

# What a step's latents are for; part of their key.
_FOR_DISCRIMINATOR, _FOR_GENERATOR = 0, 1
_IMAGES_BETWEEN_STATS = 1000


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        images_shown: so far.
        stage: of the steps just made.
        skipped: steps left out because a gradient was not finite.
        real, fake, penalty, norm: of the last discriminator step, see `DiscriminatorLoss`.
    """

    images_shown: int
    stage: Stage
    skipped: int
    real: float
    fake: float
    penalty: float
    norm: float


def train(
    source: ImageSource,
    run_dir: Path,
    config: ProGANConfig,
    *,
    device: str = "cpu",
    workers: int | None = None,
    licence: str = "unknown",
    snapshot_images: int | None = None,
    decoded: Callable[[int, int], None] | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Path:
    """Grow a ProGAN on the images of a source.

    Writes `config.json`, `stats.jsonl`, the network before training as `untrained.safetensors`, and
    a checkpoint at the end of every fade, of every stabilisation and of the run, and one more where it
    is interrupted. When the run has ended in whatever way, `finished.json` says so.

    Args:
        source: of real images at the final resolution.
        run_dir: new or empty.
        config: of networks and training.
        device: to train on.
        workers: processes that decode the images; None for one per core.
        licence: of the weights, for the checkpoints.
        snapshot_images: write a checkpoint each time so many images were shown, too, as the stage then is.
        decoded: called with (done, total) while the images are decoded.
        report: called after each look at the schedule.

    Returns:
        The last checkpoint.

    Raises:
        OptionError: the run directory is not empty or cannot be written; the configuration has
            labels, which sources do not carry; or `snapshot_images` is below 1.
        SampleError, SourceError: the images do not fit the configuration.
    """
    if config.label_size:
        raise OptionError(
            f"label_size={config.label_size} asks for a conditional network; image sources carry no labels, "
            "so train with label_size=0"
        )
    if snapshot_images is not None and snapshot_images < 1:
        raise OptionError(f"snapshots are taken every so many images, from 1 on, not every {snapshot_images}")
    _claim(run_dir)
    images = TrainingImages(source, config, workers=workers, report=decoded)
    run = _RunDirectory(run_dir, config, source.fingerprint, licence)
    trainer = Trainer(config, images, torch.device(device))
    run.save_untrained(trainer)
    with run.saying_how_it_ends(trainer):
        now = stage(0, config)
        try:
            while trainer.images_shown < config.total_images:
                before, now = now, stage(trainer.images_shown, config)
                if now.reset_key != before.reset_key:
                    run.save(trainer, before.resolution, alpha=1.0)
                    trainer.reset_optimizers()
                shown = trainer.images_shown
                progress = trainer.run(now)
                run.log(progress)
                if report is not None:
                    report(progress)
                if snapshot_images and _is_due(snapshot_images, shown, trainer.images_shown, now, config):
                    run.save(trainer, now.resolution, alpha=now.alpha)
        except KeyboardInterrupt:
            run.save(trainer, now.resolution, alpha=now.alpha)
            raise
        # Steps come in whole repeats and may overshoot the end into a fade that then has hardly begun.
        end = stage(config.total_images, config)
        return run.save(trainer, end.resolution, alpha=end.alpha)


def _is_due(every: int, before: int, shown: int, now: Stage, config: ProGANConfig) -> bool:
    """Whether a snapshot belongs here, where the end of a phase or of the run brings no checkpoint anyway."""
    ends = shown >= config.total_images or stage(shown, config).reset_key != now.reset_key
    return shown // every > before // every and not ends


class Trainer:
    """Networks, optimisers and position of a run; every step is a function of them.

    Attributes:
        images_shown: real images the discriminator has been shown.
        skipped: steps left out because a gradient was not finite.
        average: the exponential average of the generator, the one that is sampled.
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
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.reset_optimizers()

    def reset_optimizers(self) -> None:
        """Let both optimisers forget: at a fade's ends the loss becomes another one."""
        self._generator_adam = self._adam(self.generator)
        self._discriminator_adam = self._adam(self.discriminator)

    def _adam(self, network: nn.Module) -> torch.optim.Adam:
        c = self.config
        return torch.optim.Adam(
            network.parameters(), betas=(c.adam_beta1, c.adam_beta2), eps=c.adam_epsilon, fused=True
        )

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
        )

    def _step_discriminator(self, now: Stage) -> DiscriminatorLoss:
        with torch.no_grad():
            fake = self._fakes(now, _FOR_DISCRIMINATOR)
        loss = self._discriminator_loss(now, fake)
        torch.autograd.backward(loss.total)
        self._update_discriminator(now)
        return loss

    def _step_generator(self, now: Stage) -> None:
        with _frozen(self.discriminator):
            fake = self._fakes(now, _FOR_GENERATOR)
            torch.autograd.backward(generator_loss(self.discriminator, fake, alpha=now.alpha))
        self._update(self._generator_adam, self.generator, now)

    def _step_both(self, now: Stage) -> DiscriminatorLoss:
        """Both gradients at the same weights and fakes, then both updates."""
        fake = self._fakes(now, _FOR_DISCRIMINATOR)
        with _frozen(self.discriminator):
            torch.autograd.backward(generator_loss(self.discriminator, fake, alpha=now.alpha))
        loss = self._discriminator_loss(now, fake.detach())
        torch.autograd.backward(loss.total)
        self._update_discriminator(now)
        self._update(self._generator_adam, self.generator, now)
        return loss

    def _discriminator_loss(self, now: Stage, fake: Tensor) -> DiscriminatorLoss:
        mixing = seeding.generator(self.config.seed, Stream.GRADIENT_PENALTY, self.images_shown)
        return discriminator_loss(
            self.discriminator,
            self.images.minibatch(self.images_shown, now, self.device),
            fake,
            torch.from_numpy(mixing.random(now.minibatch, dtype="float32")).to(self.device),
            alpha=now.alpha,
            enlargement=now.enlargement,
        )

    def _update_discriminator(self, now: Stage) -> None:
        """A discriminator step is what counts images, and averages the generator it was made with."""
        self._update(self._discriminator_adam, self.discriminator, now)
        self.images_shown += now.minibatch
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.generator.parameters()), 1 - self.config.ema
            )

    def _fakes(self, now: Stage, purpose: int) -> Tensor:
        drawn = seeding.generator(
            self.config.seed, Stream.TRAINING_LATENTS, self.images_shown, purpose
        ).standard_normal((now.minibatch, self.config.latent_size), dtype="float32")
        latents = torch.from_numpy(drawn).to(self.device)
        fakes: Tensor = self.generator(latents, resolution=now.resolution, alpha=now.alpha)
        return fakes

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


def _claim(run_dir: Path) -> None:
    """Make an empty directory, before time is spent on what would go into it."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        holds_something = any(run_dir.iterdir())
    except OSError as error:
        raise OptionError(f"{run_dir} cannot be written: {error.strerror or error}") from error
    if holds_something:
        raise OptionError(f"{run_dir} is there already and not empty; a run needs a directory of its own")


class _RunDirectory:
    """What a run leaves behind."""

    def __init__(self, path: Path, config: ProGANConfig, data_fingerprint: str, licence: str) -> None:
        self._config = config
        self._data_fingerprint = data_fingerprint
        self._licence = licence
        self._path = path
        self._checkpoints = path / "checkpoints"
        self._stats = path / "stats.jsonl"
        self._logged = 0
        self._time = time.monotonic()
        self._checkpoints.mkdir()
        with written_atomically(path / "config.json") as aside:
            aside.write_text(json.dumps(config.to_json(), indent=2) + "\n")

    def save(self, trainer: Trainer, resolution: int, *, alpha: float) -> Path:
        path = self._checkpoints / f"images{trainer.images_shown:010d}-res{resolution:04d}.safetensors"
        return self._save(path, trainer, resolution, alpha)

    def save_untrained(self, trainer: Trainer) -> None:
        """What training begins with, at the final resolution: whatever is learned is learned from there."""
        self._save(self._path / "untrained.safetensors", trainer, self._config.resolution, 1.0)

    def _save(self, path: Path, trainer: Trainer, resolution: int, alpha: float) -> Path:
        checkpoint = Checkpoint(
            config=self._config,
            images_shown=trainer.images_shown,
            resolution=resolution,
            alpha=alpha,
            data_fingerprint=self._data_fingerprint,
            licence=self._licence,
        )
        save(path, checkpoint, trainer.average)
        return path

    @contextmanager
    def saying_how_it_ends(self, trainer: Trainer) -> Iterator[None]:
        """Writes `finished.json` when the run is over, whoever ended it, for those who wait for that."""
        ended = "failed"
        try:
            yield
            ended = "complete"
        except KeyboardInterrupt:
            ended = "interrupted"
            raise
        finally:
            content = {"ended": ended, "images_shown": trainer.images_shown}
            try:
                with written_atomically(self._path / "finished.json") as aside:
                    aside.write_text(json.dumps(content) + "\n")
            except PgmetricsError:
                # A full disk ended the run as well, and the error under way says so.
                if ended == "complete":
                    raise

    def log(self, progress: Progress) -> None:
        shown = progress.images_shown - self._logged
        if shown < _IMAGES_BETWEEN_STATS:
            return
        now = time.monotonic()
        row = asdict(progress) | {"images_per_second": shown / (now - self._time)}
        with refusing_unwritable(self._stats), self._stats.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._logged, self._time = progress.images_shown, now
