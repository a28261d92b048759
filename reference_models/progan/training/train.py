"""Train a ProGAN, from an image source to checkpoints."""

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
    """Grow a ProGAN on the images of a source, or resume the run in the directory.

    A run that is interrupted, even killed, and resumed with the same arguments ends with the same weights as
    an uninterrupted run: bit for bit on a CPU with the same number of threads.

    The run writes the files that `run_directory` lists, with a checkpoint at the end of every fade, of every
    stabilization and of the run. Ctrl-C and SIGTERM request a stop: the run finishes the current steps, then
    saves its state and a checkpoint, which is removed when training resumes.

    Processes that torchrun started share each minibatch, and the first of them writes. With several processes
    or with micro-batches, a step has the same result up to rounding.

    Args:
        source: real images at the final resolution.
        run_dir: a directory that is new, empty, or of the same run; `config.total_images` may have grown.
        config: networks and training.
        device: device to train on.
        workers: processes that decode the images; None starts one per core.
        licence: licence of the weights, stored in the checkpoints.
        crop: crop images that are not square to their center.
        snapshot_images: also write a checkpoint each time so many images were shown, at the current stage.
        state_images: save the state each time so many images were shown; None saves it every five minutes.
        keep_states: how many of the last states are kept.
        tensorboard: also write TensorBoard events.
        compiled: translate the steps with torch.compile. A run may be resumed without it, and then continues
            with the same results up to rounding.
        micro_batch: the largest number of images that a device processes at a time, for devices whose memory
            does not hold a whole minibatch; None sets no limit.
        decoded: called with (description, done, total) while the images are decoded.
        report: called after each schedule update; a KeyboardInterrupt raised by it counts as Ctrl-C.
        warn: called with each warning, one line.
        same_images: assume that the images are those of a run begun by an older version, which did not
            identify images by their content.

    Returns:
        The path of the last checkpoint.

    Raises:
        OptionError: the run directory cannot be written or belongs to something else, or an option is out of
            range.
        SampleError, SourceError: the images do not fit the configuration.
        StateError: the run has states, but none can be read.
        PgmetricsError: the disk has too little free space.
        Diverged: gradients were not finite in too many consecutive steps; earlier states and checkpoints are
            kept.
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
    """Train as a rank other than the first: make the same steps from the same state, but write nothing."""
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
    """The training loop of the first rank, which also writes the files of the run."""

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
            # After a skipped step the run may be diverging, and its states would replace good ones. None is
            # saved until both networks have made a step again.
            if not trainer.is_sound or trainer.images_shown >= config.total_images:
                continue
            due = self._run.state_is_due(before, trainer.images_shown)
            if due:
                self._run.save_state(trainer.state())
            if stop:
                self._stop(now, checkpoint=saved, grid=saved or first, state=due)
                raise Interrupted(trainer.images_shown, stop)
        # Steps come in whole repeats, so the last ones may overshoot the end into a fade that has just begun.
        end = stage(config.total_images, config)
        last = self._save(end.resolution, end.alpha)
        self._run.save_state(trainer.state())
        return last

    def _stop(self, now: Stage, *, checkpoint: bool, grid: bool, state: bool) -> None:
        """Write a checkpoint and a state for an interrupt, unless the schedule has just written them.

        Args:
            now: the stage of the last steps.
            checkpoint, grid, state: whether each is already written, as in an uninterrupted run.
        """
        shown, where = self._trainer.images_shown, (now.resolution, now.alpha)
        self._run.mark_provisional(shown, *where, checkpoint=not checkpoint, grid=not grid, state=not state)
        # Save the state first: sampling measures batch norm statistics, which are part of the state.
        if not state:
            self._run.save_state(self._trainer.state())
        if not checkpoint:
            self._save(*where)

    def _close_look(self, before: int, now: Stage) -> bool:
        """Save a checkpoint and reset the optimizers if they are due; return whether a checkpoint is."""
        trainer, config = self._trainer, self._config
        shown = trainer.images_shown
        ends = shown >= config.total_images
        changes = stage(shown, config).reset_key != now.reset_key
        every = self._snapshot_images
        # A checkpoint is written at the end of a phase or of the run in any case.
        due = changes or bool(every and shown // every > before // every)
        if due and not ends:
            # A fade that ends here is complete, although alpha of its last steps was slightly below 1.
            self._save(now.resolution, 1.0 if changes else now.alpha)
        if changes:
            # Reset now rather than before the next steps, so that no state is saved in between.
            trainer.reset_optimizers()
        return due

    def _told(self, progress: TrainingStatus, requested: Callable[[], int | None]) -> int | None:
        """Call the report callback; return the exit code of a requested stop, or None."""
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
        """Write the untrained generator at the final resolution, where no layer has learned anything."""
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
        """Write how the run ended when it ends, for whatever reason."""
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
                # A full disk can be what ended the run. The error being raised reports it already.
                if ended == "complete":
                    raise
