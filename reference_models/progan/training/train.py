"""Training a ProGAN, from an image source to checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from pgmetrics.errors import PgmetricsError, check_number
from pgmetrics.runtime.progress import Progress
from pgmetrics.sources.base import ImageSource
from reference_models.progan.data.training_images import TrainingImages
from reference_models.progan.model.checkpoint import Checkpoint
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.schedule import Stage, stage
from reference_models.progan.sampling.export import save_grid
from reference_models.progan.training import microbatches, run_directory
from reference_models.progan.training.distributed import Ranks, process_group
from reference_models.progan.training.progress import Alarms, TrainingStatus
from reference_models.progan.training.run_directory import RunDirectory, RunSettings
from reference_models.progan.training.signals import Interrupted, stop_requests
from reference_models.progan.training.trainer import Diverged, Trainer


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
    compiled: bool = False,
    micro_batch: int | None = None,
    decoded: Progress | None = None,
    report: Callable[[TrainingStatus], None] | None = None,
    warn: Callable[[str], None] | None = None,
    same_images: bool = False,
) -> Path:
    """Grow a ProGAN on the images of a source, or go on where the run in the directory stopped.

    A run that was interrupted in whatever way and is entered again with the same arguments ends with the
    same weights as one that was not: bit for bit on a CPU, with equally many threads.

    Writes what `run_directory` lists: a checkpoint at the end of every fade, of every stabilization and of
    the run. Ctrl-C and SIGTERM ask for a stop: the run ends after the steps under way, with its state
    saved and a checkpoint of where it stands, which is removed when training goes on.

    Started by torchrun, the processes share each minibatch, and one of them writes. Then, and where a
    minibatch is taken in pieces, a step is the same to rounding.

    Args:
        source: of real images at the final resolution.
        run_dir: new, empty, or of the same run; `config.total_images` may have grown.
        config: of networks and training.
        device: to train on.
        workers: processes that decode the images; None for one per core.
        licence: of the weights, for the checkpoints.
        crop: take the center of images that are not square.
        snapshot_images: write a checkpoint each time so many images were shown, too, as the stage then is.
        state_images: save the state each time so many images were shown; None for every five minutes.
        keep_states: how many of the last states are kept.
        tensorboard: write TensorBoard's events, too.
        compiled: translate the steps with torch.compile; a run may be entered again without, and goes on
            to rounding.
        micro_batch: images that a device takes at a time, at most, for devices that hold no whole
            minibatch; None for all.
        decoded: called with (what, done, total) while the images are decoded.
        report: called after each look at the schedule; its KeyboardInterrupt counts as Ctrl-C.
        warn: called with what a person should know at once, each time one line.
        same_images: take the images for those of a run that an older version began, which did not
            identify them by their content.

    Returns:
        The last checkpoint.

    Raises:
        OptionError: the run directory cannot be written or is of something else, or an option is out of
            range.
        SampleError, SourceError: the images do not fit the configuration.
        StateError: the run has states, and none can be read.
        PgmetricsError: the disk is too small.
        Diverged: gradients were not finite in too many steps in a row; states and checkpoints from before
            are kept.
        Interrupted: the run was asked to stop; a KeyboardInterrupt.
    """
    if snapshot_images is not None:
        check_number("snapshot_images", snapshot_images, 1, 10**12, whole=True)
    with process_group() as ranks:
        microbatches.check(config, ranks=ranks.size, micro_batch=micro_batch)

        def training_images() -> TrainingImages:
            return TrainingImages(source, config, crop=crop, workers=workers, report=decoded)

        def trainer_on(images: TrainingImages) -> Trainer:
            return Trainer(
                config,
                images,
                torch.device(device),
                compiled=compiled,
                micro_batch=micro_batch,
                ranks=ranks,
            )

        if not ranks.is_first:
            return _follow(run_dir, config, ranks, training_images, trainer_on)
        with run_directory.claimed(
            run_dir,
            RunSettings(config, source.fingerprint, crop, licence),
            keep_states=keep_states,
            state_images=state_images,
            tensorboard=tensorboard,
            warn=warn,
            same_images=same_images,
        ) as run:
            state = run.newest_state()
            ranks.broadcast_from_first(state.images_shown if state is not None else 0)
            if state is not None and state.images_shown >= config.total_images:
                last = run.checkpoint_path(state.images_shown, stage(config.total_images, config).resolution)
                if last.exists():
                    run.complete(state.images_shown)
                    return last
            run.check_space(snapshot_images)
            with closing(training_images()) as images:
                trainer = trainer_on(images)
                if state is not None:
                    trainer.restore(state)
                run.begin(trainer.images_shown)
                session = _TrainingSession(run, trainer, ranks, licence, snapshot_images, report)
                with stop_requests() as requested, session.saying_how_it_ends():
                    return session.train(requested)


def _follow(
    run_dir: Path,
    config: ProGANConfig,
    ranks: Ranks,
    training_images: Callable[[], TrainingImages],
    trainer_on: Callable[[TrainingImages], Trainer],
) -> Path:
    """Make the steps that the first rank makes, from the state that it begins with; nothing is written."""
    shown = ranks.broadcast_from_first(0)
    end = stage(config.total_images, config)
    if shown < config.total_images:
        with stop_requests() as requested, closing(training_images()) as images:
            trainer = trainer_on(images)
            if shown:
                trainer.restore(run_directory.state_at(run_dir, shown))
            while trainer.images_shown < config.total_images:
                now = stage(trainer.images_shown, config)
                trainer.run(now)
                if stage(trainer.images_shown, config).reset_key != now.reset_key:
                    trainer.reset_optimizers()
                stop = ranks.all_reduce_max(requested() or 0)
                if stop and trainer.is_sound and trainer.images_shown < config.total_images:
                    raise Interrupted(trainer.images_shown, stop)
            shown = trainer.images_shown
    return run_directory.checkpoint_path(run_dir, shown, end.resolution)


class _TrainingSession:
    """A run as its first rank sees it, from the moment its images are at hand."""

    def __init__(
        self,
        run: RunDirectory,
        trainer: Trainer,
        ranks: Ranks,
        licence: str,
        snapshot_images: int | None,
        report: Callable[[TrainingStatus], None] | None,
    ) -> None:
        self._run = run
        self._trainer = trainer
        self._ranks = ranks
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
        stop = 0
        while trainer.images_shown < config.total_images:
            before, first = trainer.images_shown, trainer.optimizers_are_fresh
            now = stage(before, config)
            progress = trainer.run(now)
            self._run.log(progress)
            for alarm in self._alarms.raised_by(progress):
                self._run.warn(alarm)
            if first:
                self._save_grid(now.resolution, now.alpha)
            saved = self._close_look(before, now)
            stop = self._ranks.all_reduce_max(self._told(progress, requested) or stop)
            # After a step that was left out the run may be lost, and its states would drive out good ones.
            # The next steps decide.
            if not trainer.is_sound or trainer.images_shown >= config.total_images:
                continue
            due = self._run.state_is_due(before, trainer.images_shown)
            if due:
                self._run.save_state(trainer.state())
            if stop:
                self._stop(now, checkpoint=saved, grid=saved or first, state=due)
                raise Interrupted(trainer.images_shown, stop)
        # Steps come in whole repeats and may overshoot the end into a fade that then has hardly begun.
        end = stage(config.total_images, config)
        last = self._save(end.resolution, end.alpha)
        self._run.save_state(trainer.state())
        return last

    def _stop(self, now: Stage, *, checkpoint: bool, grid: bool, state: bool) -> None:
        """Write a checkpoint and a state where an undisturbed run has none.

        Args:
            now: the stage of the steps just made.
            checkpoint, grid, state: whether it has them, so that they are written already.
        """
        shown, where = self._trainer.images_shown, (now.resolution, now.alpha)
        self._run.mark_provisional(shown, *where, checkpoint=not checkpoint, grid=not grid, state=not state)
        # The state first: sampling measures a batch norm's statistics, which are part of a state.
        if not state:
            self._run.save_state(self._trainer.state())
        if not checkpoint:
            self._save(*where)

    def _close_look(self, before: int, now: Stage) -> bool:
        """What the schedule asks for between the steps just made and the next ones; whether a checkpoint."""
        trainer, config = self._trainer, self._config
        shown = trainer.images_shown
        ends = shown >= config.total_images
        changes = stage(shown, config).reset_key != now.reset_key
        every = self._snapshot_images
        # The end of a phase or of the run brings a checkpoint anyway.
        due = changes or bool(every and shown // every > before // every)
        if due and not ends:
            # A fade that ends here is complete, though its last steps were made shortly before.
            self._save(now.resolution, 1.0 if changes else now.alpha)
        if changes:
            # Here rather than before the next steps, so that a state never stands between the two.
            trainer.reset_optimizers()
        return due

    def _told(self, progress: TrainingStatus, requested: Callable[[], int | None]) -> int | None:
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
        except Diverged:
            ended = "diverged"
            raise
        finally:
            try:
                if ended == "complete":
                    self._run.complete(self._trainer.images_shown)
                else:
                    self._run.say_how_it_ended(ended, self._trainer.images_shown)
            except PgmetricsError:
                # A full disk ended the run as well, and the error under way says so.
                if ended == "complete":
                    raise
