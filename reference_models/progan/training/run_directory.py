"""The files of a training run, and the rules by which a run resumes in its directory.

run.json                settings and identity of the images; a resumed run must have the same ones
config.json             only the configuration
untrained.safetensors   the generator before training
checkpoints/            generators for sampling, each with its model card
grids/                  samples of the same latents at every checkpoint
states/                 the last few states, from which training resumes
stats.jsonl, log.txt    statistics for programs, and a log for people
finished.json           how the run ended; exists once it has
provisional.json        files that an interrupt left and an uninterrupted run would not have
heartbeat.json, .lock   the process that trains here, and the lock it holds

A file is written as `.NAME.NUMBER.part` and then renamed. The next process that trains here removes the parts
that a killed process left. The lock on the directory ensures that no other process is writing them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgmetrics.errors import OptionError, PgmetricsError, StateError, check_number
from pgmetrics.runtime.files import (
    dump_json,
    finite_or_none,
    locked,
    open_regular,
    parse_json,
    refusing_unwritable,
    written_atomically,
)
from pgmetrics.runtime.heartbeat import FILE_NAME as _HEARTBEAT
from pgmetrics.runtime.heartbeat import beating
from pgmetrics.sources.base import IDENTITY
from reference_models.progan.model import checkpoint as checkpoints
from reference_models.progan.model.checkpoint import Checkpoint
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.flops import phases
from reference_models.progan.model.model_card import save_model_card
from reference_models.progan.model.networks import Discriminator, Generator
from reference_models.progan.training import resume_state as states
from reference_models.progan.training.progress import TrainingStatus
from reference_models.progan.training.resume_state import TrainingState

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_SETTINGS = "run.json"
_FINISHED = "finished.json"
_LOCK = ".lock"
_PROVISIONAL = "provisional.json"
_CONFIG = "config.json"
_UNTRAINED = "untrained.safetensors"
_STATS = "stats.jsonl"
_CHECKPOINTS = "checkpoints"
_GRIDS = "grids"
_STATES = "states"
_FORMAT_VERSION = 1
_IMAGES_BETWEEN_STATS = 1000
_SECONDS_BETWEEN_STATES = 300.0
_LARGEST_GRID = 1024  # pixels on a side, but never fewer than two images
_BYTES_PER_STATS_ROW = 700


@dataclass(frozen=True)
class RunSettings:
    """The settings that must not change when a run is resumed.

    Attributes:
        config: networks and training. Only its `total_images` may grow, since no step depends on it.
        data_fingerprint: identity of the image source.
        crop: whether images are cropped to their center square.
        licence: licence of the weights.
    """

    config: ProGANConfig
    data_fingerprint: str
    crop: bool
    licence: str

    def to_json(self) -> dict[str, Any]:
        """Return the content of run.json."""
        return {
            "format": "progan run",
            "format_version": _FORMAT_VERSION,
            "config": self.config.to_json(),
            "data_fingerprint": self.data_fingerprint,
            "crop": self.crop,
            "licence": self.licence,
        }


@contextmanager
def claimed(
    path: Path,
    settings: RunSettings,
    *,
    keep_states: int = 2,
    state_images: int | None = None,
    tensorboard: bool = False,
    warn: Callable[[str], None] | None = None,
    same_images: bool = False,
) -> Iterator[RunDirectory]:
    """Lock the directory of a run for this process; only the lock and the heartbeat are written yet.

    Args:
        path: a directory that is new, empty, or of the same run.
        settings: the settings of the run.
        keep_states: how many of the last states are kept.
        state_images: save a state each time so many images were shown; None saves one every five minutes.
        tensorboard: also write TensorBoard events.
        warn: called with each warning, one line.
        same_images: assume that the images are those of a run begun by an older version, which did not
            identify images by their content.

    Raises:
        OptionError: the directory cannot be written, belongs to something else or to a run with other
            settings, or another process trains in it; an option is out of range, or TensorBoard is
            not installed.
    """
    check_number("keep_states", keep_states, 1, 10**6, whole=True)
    if state_images is not None:
        check_number("state_images", state_images, 1, 10**12, whole=True)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{path} cannot be written: {error.strerror or error}") from error
    # Check the permission instead of writing a test file, which a killed process would leave behind.
    if not os.access(path, os.W_OK | os.X_OK):
        raise OptionError(f"{path} cannot be written: it is somebody else's, or its disk is read only")
    with locked(path / _LOCK, f"{path} is being trained in by another process; wait for it, or end it"):
        trusted = _refuse_others(path, settings, same_images)
        run = RunDirectory(path, settings, keep_states, state_images, warn)
        if trusted:
            run.warn("the images are taken for those that the run began with, which it did not identify")
        if tensorboard:
            run.open_tensorboard()
        with beating(path, lambda: run.images_shown):
            try:
                yield run
            finally:
                run.close()


class RunDirectory:
    """The files of a run; see `claimed`.

    Attributes:
        images_shown: real images shown so far, as the heartbeat reports.
    """

    def __init__(
        self,
        path: Path,
        settings: RunSettings,
        keep_states: int,
        state_images: int | None,
        warn: Callable[[str], None] | None,
    ) -> None:
        self._path = path
        self._settings = settings
        self._keep_states = keep_states
        self._state_images = state_images
        self._warn = warn
        self._checkpoints = path / _CHECKPOINTS
        self._grids = path / _GRIDS
        self._states = path / _STATES
        self._stats = path / _STATS
        self._log = path / "log.txt"
        self._tensorboard: type[SummaryWriter] | None = None
        self._events: SummaryWriter | None = None
        self.images_shown = 0
        # Images shown at the last row of statistics; images shown and time at the last measurement of speed.
        self._logged = 0
        self._measured = (0, time.monotonic())
        self._state_at = time.monotonic()

    def newest_state(self) -> TrainingState | None:
        """Return the newest readable state, or None if the run has none yet; warn of damaged ones.

        Raises:
            StateError: the run has states, but none can be read.
        """
        found = self._found_states()
        for path in reversed(found):
            try:
                return states.load(path)
            except StateError as error:
                self.warn(f"{error}; trying the state before")
        if found:
            raise StateError(
                f"no state in {self._states} can be read; delete that directory to train from the beginning"
            )
        return None

    def check_space(self, snapshot_images: int | None) -> None:
        """Check before training that the disk has enough free space for the files of the run.

        Raises:
            PgmetricsError: the run will need more space than is free.
        """
        needed = bytes_of_run(self._settings.config, snapshot_images, self._keep_states)
        written = sum(
            each.stat().st_size
            for directory in (self._checkpoints, self._grids, self._states)
            for each in directory.glob("*")
        )
        free = shutil.disk_usage(self._path).free
        if needed - written > free:
            raise PgmetricsError(
                f"{self._path} will need about {_readable(needed - written)} for checkpoints, grids and "
                f"states, and its disk has {_readable(free)} left; take another disk, or fewer snapshots"
            )

    def begin(self, images_shown: int) -> None:
        """Prepare the directory for training from this point, and remove what a killed process left."""
        # Written first: it marks the directory as this run's even if the process is killed soon after.
        self._write_json(_SETTINGS, self._settings.to_json())
        with refusing_unwritable(self._path):
            for directory in (self._checkpoints, self._grids, self._states):
                directory.mkdir(exist_ok=True)
        self._write_json(_CONFIG, self._settings.config.to_json())
        with refusing_unwritable(self._path):
            (self._path / _FINISHED).unlink(missing_ok=True)
        self._remove_leftovers()
        provisional = self._provisional()
        with refusing_unwritable(self._path):
            for path in provisional:
                if path.parent != self._states:
                    path.unlink(missing_ok=True)
        self._write_provisional([path for path in provisional if path.parent == self._states])
        self.images_shown = images_shown
        self._logged = self._forget_stats_after(images_shown)
        self._measured = (images_shown, time.monotonic())
        self._state_at = time.monotonic()
        if self._tensorboard is not None:
            with refusing_unwritable(self._path / "tensorboard"):
                self._events = self._tensorboard(str(self._path / "tensorboard"), purge_step=images_shown)
        self.note(f"{'resumed' if images_shown else 'begun'} at {images_shown:,} images")

    def checkpoint_path(self, images_shown: int, resolution: int) -> Path:
        """Return the path of the checkpoint after so many images."""
        return checkpoint_path(self._path, images_shown, resolution)

    def save_checkpoint(self, facts: Checkpoint, generator: Generator) -> Path:
        """Write a checkpoint and its model card."""
        assert facts.images_shown is not None  # a trainer counts them
        path = self.checkpoint_path(facts.images_shown, facts.resolution)
        checkpoints.save(path, facts, generator)
        save_model_card(path, facts)
        self.note(f"wrote {path.name}")
        return path

    def save_untrained(self, facts: Checkpoint, generator: Generator) -> None:
        """Write the generator as it is before training."""
        checkpoints.save(self._path / _UNTRAINED, facts, generator)

    def grid_path(self, images_shown: int, resolution: int, alpha: float) -> Path:
        """Return the path of the grid of samples after so many images."""
        return self._grids / f"images{images_shown:010d}-res{resolution:04d}-alpha{alpha:.2f}.png"

    def state_is_due(self, before: int, shown: int) -> bool:
        """Return whether a state is due, given the images shown at the last update and now."""
        if self._state_images is not None:
            return shown // self._state_images > before // self._state_images
        return time.monotonic() - self._state_at >= _SECONDS_BETWEEN_STATES

    def save_state(self, state: TrainingState) -> None:
        """Write a state, then remove old states and those of a later point that training has discarded."""
        path = _state_path(self._path, state.images_shown)
        states.save(path, state)
        self._remove_states_beside(path)
        self._state_at = time.monotonic()

    def _remove_states_beside(self, newest: Path) -> None:
        found, provisional = self._found_states(), self._provisional()
        due = [path for path in found if path <= newest and path not in provisional]
        kept = {newest, *due[-self._keep_states :]}
        # A state that an interrupt left is kept until there are enough regular states.
        if newest not in provisional and len(due) < self._keep_states:
            kept |= {path for path in provisional if path < newest}
        with refusing_unwritable(self._states):
            for path in found:
                if path not in kept:
                    path.unlink()

    def mark_provisional(
        self, images_shown: int, resolution: int, alpha: float, *, checkpoint: bool, grid: bool, state: bool
    ) -> None:
        """Record which files an interrupt is about to write that an uninterrupted run would not have.

        The checkpoint, its model card and its grid are removed when training resumes, and the state when it
        is no longer needed. The directory then equals that of a run that was never interrupted.
        """
        path = self.checkpoint_path(images_shown, resolution)
        marked = self._provisional()
        if checkpoint:
            marked += [path, path.with_suffix(".md")]
        if grid:
            marked.append(self.grid_path(images_shown, resolution, alpha))
        if state:
            marked.append(_state_path(self._path, images_shown))
        self._write_provisional(marked)

    def _provisional(self) -> list[Path]:
        try:
            names = parse_json((self._path / _PROVISIONAL).read_bytes())
            parts = [Path(str(name)).parts for name in names]
        except (OSError, ValueError, TypeError):
            return []  # there is no such file, or it is damaged
        directories = (_CHECKPOINTS, _GRIDS, _STATES)
        return [
            self._path.joinpath(*two)
            for two in parts
            if len(two) == 2 and two[0] in directories and two[1].startswith("images")
        ]

    def _write_provisional(self, paths: Sequence[Path]) -> None:
        if paths:
            names = sorted({path.relative_to(self._path).as_posix() for path in paths})
            self._write_json(_PROVISIONAL, names)
            return
        with refusing_unwritable(self._path):
            (self._path / _PROVISIONAL).unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """Remove files that killed processes left half written; the lock excludes other writers."""
        ours = (_SETTINGS, _CONFIG, _FINISHED, _PROVISIONAL, _UNTRAINED, _STATS)
        with refusing_unwritable(self._path):
            for name in ours:
                for leftover in self._path.glob(f".{name}.*.part"):
                    leftover.unlink(missing_ok=True)
            for directory in (self._checkpoints, self._grids, self._states):
                for leftover in directory.glob(".images*.part"):
                    leftover.unlink(missing_ok=True)

    def log(self, progress: TrainingStatus) -> None:
        """Append the status to stats.jsonl, log.txt and TensorBoard if a row is due."""
        self.images_shown = progress.images_shown
        if progress.images_shown - self._logged < _IMAGES_BETWEEN_STATS:
            return
        (shown, then), now = self._measured, time.monotonic()
        speed = (progress.images_shown - shown) / max(now - then, 1e-9)
        row = asdict(progress) | {"images_per_second": speed}
        # JSON has no NaN or infinity, so a loss that is not finite becomes null.
        self._append(self._stats, dump_json(finite_or_none(row)))
        self.note(_sentence(progress, speed))
        if self._events is not None:
            for name, value in _scalars(progress, speed).items():
                self._events.add_scalar(name, value, progress.images_shown)
        self._logged, self._measured = progress.images_shown, (progress.images_shown, now)

    def warn(self, text: str) -> None:
        """Write a warning to the log, and pass it to the `warn` callback."""
        self.note(f"warning: {text}")
        if self._warn is not None:
            self._warn(text)

    def note(self, text: str) -> None:
        """Append a line to the log, with the time."""
        self._append(self._log, f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}")

    def complete(self, images_shown: int) -> None:
        """Bring the directory to its final form, also after an interrupt that followed the last state."""
        self._remove_leftovers()
        newest = _state_path(self._path, images_shown)
        provisional = [path for path in self._provisional() if path != newest]
        with refusing_unwritable(self._path):
            for path in provisional:
                path.unlink(missing_ok=True)
        self._write_provisional([])
        self._remove_states_beside(newest)
        if self._said() != _ending("complete", images_shown):
            self.say_how_it_ended("complete", images_shown)

    def say_how_it_ended(self, ended: str, images_shown: int) -> None:
        """Write `finished.json`, which tells other programs how the run ended."""
        self._write_json(_FINISHED, _ending(ended, images_shown), indent=None)
        self.note(f"{ended} at {images_shown:,} images")

    def _said(self) -> object:
        try:
            return parse_json((self._path / _FINISHED).read_bytes())
        except (OSError, ValueError):
            return None

    def open_tensorboard(self) -> None:
        """Import TensorBoard, so that a missing package is reported now; `begin` opens the event file.

        Raises:
            OptionError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise OptionError(
                "TensorBoard is not installed; pip install 'pgmetrics[tensorboard]' does that"
            ) from error
        self._tensorboard = SummaryWriter

    def close(self) -> None:
        """Flush and close the TensorBoard event file."""
        if self._events is not None:
            self._events.close()

    def _found_states(self) -> list[Path]:
        return sorted(self._states.glob("images*.safetensors"))

    def _forget_stats_after(self, images_shown: int) -> int:
        """Drop later and unreadable rows of stats.jsonl; return the images shown at the last that remains."""
        with refusing_unwritable(self._stats):
            text = self._stats.read_text() if self._stats.exists() else ""
        kept, last = [], 0
        for line in text.splitlines():
            try:
                # Earlier versions wrote NaN where a loss was not finite.
                row = parse_json(line, gaps=True)
                shown = int(row["images_shown"])
            except (ValueError, KeyError, TypeError):
                continue
            if shown <= images_shown:
                kept.append(dump_json(row) + "\n")
                last = shown
        if text != "".join(kept):
            with written_atomically(self._stats) as aside:
                aside.write_text("".join(kept))
        return last

    def _append(self, path: Path, line: str) -> None:
        with refusing_unwritable(path), path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line + "\n")

    def _write_json(
        self, name: str, content: Mapping[str, Any] | Sequence[str], indent: int | None = 2
    ) -> None:
        with written_atomically(self._path / name) as aside:
            aside.write_text(dump_json(content, indent=indent) + "\n")


def _ending(ended: str, images_shown: int) -> dict[str, Any]:
    return {"ended": ended, "images_shown": images_shown}


def checkpoint_path(run: Path, images_shown: int, resolution: int) -> Path:
    """Return the path of the checkpoint of a run after so many images."""
    return run / _CHECKPOINTS / f"images{images_shown:010d}-res{resolution:04d}.safetensors"


def state_at(run: Path, images_shown: int) -> TrainingState:
    """Read the state of a run after so many images.

    Raises:
        StateError: the state cannot be read.
    """
    return states.load(_state_path(run, images_shown))


def _state_path(run: Path, images_shown: int) -> Path:
    return run / _STATES / f"images{images_shown:010d}.safetensors"


def grid_size(resolution: int) -> tuple[int, int]:
    """Return the images and columns of a grid: 8 x 8 images, fewer above 128 pixels, at least 2 x 2."""
    columns = min(8, max(_LARGEST_GRID // resolution, 2))
    return columns**2, columns


def bytes_of_run(config: ProGANConfig, snapshot_images: int | None, keep_states: int) -> int:
    """Estimate the bytes that a run needs for checkpoints, grids, statistics and states."""
    import torch

    with torch.device("meta"):
        generator, discriminator = Generator(config), Discriminator(config)
    g, d = (sum(4 * prod(t.shape) for t in n.state_dict().values()) for n in (generator, discriminator))
    # A state has both networks with two moments each, and the average. Besides `keep_states`, one may be
    # half written and one left by an interrupt.
    total = (keep_states + 2) * (4 * g + 3 * d)
    total += config.total_images // _IMAGES_BETWEEN_STATS * _BYTES_PER_STATS_ROW
    for phase in phases(config):
        taken = 1 + (phase.images // snapshot_images if snapshot_images else 0)
        weights = sum(
            4 * prod(tensor.shape)
            for name, tensor in generator.state_dict().items()
            if checkpoints.resolution_of(name) <= phase.resolution
        )
        side = grid_size(phase.resolution)[1] * phase.resolution
        total += taken * weights + (taken + 1) * 3 * side**2
    return int(total + g)


def _refuse_others(path: Path, settings: RunSettings, same_images: bool) -> bool:
    """Raise an OptionError unless the directory is empty or belongs to a run with these settings.

    Returns:
        True if `same_images` was needed, since one of the two identities is of an older version.
    """
    trusted = False
    file = path / _SETTINGS
    if not file.exists():
        # A process that was killed early leaves only these files.
        names = [each.name for each in path.iterdir() if each.name not in (_LOCK, _HEARTBEAT)]
        others = [name for name in names if not name.startswith((f".{_HEARTBEAT}.", f".{_SETTINGS}."))]
        if others:
            raise OptionError(
                f"{path} is there already and not empty, and no training run; a run needs a directory of its "
                "own"
            )
        return trusted
    try:
        with open_regular(file) as opened:
            found = parse_json(opened.read())
        if found.pop("format_version") != _FORMAT_VERSION:
            raise OptionError(f"{file} is of another version of this program; take another directory")
        begun = _flat(found)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"{file} cannot be read ({error}); take another directory") from error
    wanted = settings.to_json()
    del wanted["format_version"]
    for name, value in _flat(wanted).items():
        before = begun.get(name)
        if before == value or (name == "total_images" and isinstance(before, int) and before <= value):
            continue
        if name == "data_fingerprint" and str(before).startswith(IDENTITY) != value.startswith(IDENTITY):
            if same_images:
                trusted = True
                continue
            raise OptionError(
                f"{path} was begun by an older version, which identified images by names and times; if "
                "--data has the same images, --same-images resumes with them"
            )
        if name == "data_fingerprint":
            raise OptionError(
                f"{path} is a run on other images, or they have changed; take those, or another directory"
            )
        raise OptionError(
            f"{path} is a run with {name}={_short(before)}, not {_short(value)}; take the same settings or "
            "another directory"
        )
    return trusted


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    # Fields that a later version added get their defaults in runs of an earlier version.
    config = ProGANConfig.from_json(settings.pop("config")).to_json()
    return settings | config


def _short(value: object) -> str:
    return value if isinstance(value, str) else dump_json(value)


def _sentence(progress: TrainingStatus, speed: float) -> str:
    now = progress.stage
    return (
        f"{progress.images_shown:>12,} images  {now.resolution:>4} x {now.resolution}, "
        f"alpha {now.alpha:.2f}  "
        + "  ".join(f"{name} {value:.4g}" for name, value in _losses(progress).items())
        + f"  {speed:,.0f} img/s"
        + (f"  {progress.skipped} steps left out" if progress.skipped else "")
    )


def _losses(progress: TrainingStatus) -> dict[str, float]:
    return {name: getattr(progress, name) for name in ("real", "fake", "penalty", "norm", "classes")}


def _scalars(progress: TrainingStatus, speed: float) -> dict[str, float]:
    return {f"loss/{name}": value for name, value in _losses(progress).items()} | {
        "stage/resolution": progress.stage.resolution,
        "stage/alpha": progress.stage.alpha,
        "stage/learning_rate": progress.stage.learning_rate,
        "run/skipped": progress.skipped,
        "run/images_per_second": speed,
    }


def _readable(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
