"""Measure the speed of training steps at each resolution, and the matmul throughput to compare it with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pgmetrics.errors import OptionError
from pgmetrics.runtime import seeding
from pgmetrics.runtime.progress import Progress
from pgmetrics.runtime.seeding import Stream
from pgmetrics.sources.arrays import ArraySource
from reference_models.progan.data.training_images import TrainingImages
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.flops import step_cost
from reference_models.progan.model.schedule import Stage
from reference_models.progan.training.trainer import Trainer

_MATRIX = 4096


@dataclass(frozen=True)
class StepSpeed:
    """The training speed at a resolution whose fade is complete.

    Attributes:
        resolution: resolution of the stage.
        minibatch: images in a step.
        first: seconds of the first schedule update, which include compilation and other setup.
        seconds: seconds of each measured schedule update.
        images: reals shown per schedule update.
        flops: operations per schedule update, as `flops.step_cost` counts them.
    """

    resolution: int
    minibatch: int
    first: float
    seconds: tuple[float, ...]
    images: int
    flops: float

    @property
    def images_per_second(self) -> float:
        """Reals shown per second in the median schedule update."""
        return self.images / statistics.median(self.seconds)

    @property
    def flops_per_second(self) -> float:
        """Operations per second in the median schedule update."""
        return self.flops / statistics.median(self.seconds)


def matmul_rate(device: torch.device, precision: str, turns: int = 3) -> float:
    """Return the operations per second of the fastest of several products of two 4096 x 4096 matrices.

    Args:
        device: device that multiplies.
        precision: "float32" or "bfloat16"; float32 follows PyTorch's setting, by default without TF32.
        turns: number of timed products, after one that warms up.
    """
    a = torch.ones((_MATRIX, _MATRIX), device=device, dtype=getattr(torch, precision))
    seconds: list[float] = []
    for _ in range(turns + 1):
        with _timed(device, seconds):
            torch.mm(a, a)
    return 2.0 * _MATRIX**3 / min(seconds[1:])


def step_speeds(
    config: ProGANConfig,
    resolutions: Sequence[int],
    *,
    device: torch.device,
    turns: int = 5,
    compiled: bool = False,
    micro_batch: int | None = None,
    progress: Progress | None = None,
) -> Iterator[StepSpeed]:
    """Time training on images of noise, including the loading of images and the optimizer updates.

    Args:
        config: networks and training.
        resolutions: resolutions to time; the configuration must have them.
        device: device to train on.
        turns: schedule updates timed at each resolution, after one that warms up.
        compiled, micro_batch: see `Trainer`.
        progress: called with (description, stages timed, stages in total).

    Raises:
        OptionError: the configuration does not have one of the resolutions.
    """
    stages = [stage_at(config, resolution) for resolution in resolutions]
    if progress is not None:
        progress("making images", 0, len(stages))
    with closing(TrainingImages(noise_images(config), config, workers=0)) as images:
        trainer = Trainer(config, images, device, compiled=compiled, micro_batch=micro_batch)
        for number, now in enumerate(stages):
            if progress is not None:
                progress(f"{now.resolution} x {now.resolution}", number, len(stages))
            yield _measured(trainer, now, turns)


def _measured(trainer: Trainer, now: Stage, turns: int) -> StepSpeed:
    before = trainer.images_shown
    seconds: list[float] = []
    for _ in range(turns + 1):
        with _timed(trainer.device, seconds):
            trainer.run(now)
    images = (trainer.images_shown - before) // (turns + 1)
    return StepSpeed(
        resolution=now.resolution,
        minibatch=now.minibatch,
        first=seconds[0],
        seconds=tuple(seconds[1:]),
        images=images,
        flops=images * step_cost(trainer.config, now.resolution).shown,
    )


def stage_at(config: ProGANConfig, resolution: int) -> Stage:
    """Return the stage of a resolution after its fade.

    Raises:
        OptionError: the configuration has no such resolution.
    """
    places = config.resolutions
    if resolution not in places:
        raise OptionError(
            f"{resolution} x {resolution} is no stage of this configuration; it has "
            f"{', '.join(map(str, places))}"
        )
    return Stage(
        resolution=resolution,
        alpha=1.0,
        lod=float(places.index(config.resolution) - places.index(resolution)),
        minibatch=config.minibatch_at(resolution),
        learning_rate=config.learning_rate_at(resolution),
    )


class _Noise(ArraySource):
    """Images whose classes repeat in order: 0, 1, ..., 0, 1, ..."""

    def __init__(self, pixels: NDArray[np.uint8], classes: int) -> None:
        super().__init__(pixels, layout="NCHW", name="noise")
        self._classes = classes

    @property
    def labels(self) -> NDArray[np.int64] | None:
        return np.arange(len(self)) % self._classes if self._classes else None

    @property
    def label_names(self) -> list[str]:
        return [str(i) for i in range(self._classes)]


def noise_images(config: ProGANConfig) -> ArraySource:
    """Return as many images of noise as the largest minibatch has."""
    count = max(config.minibatch_at(r) for r in config.resolutions)
    shape = count, config.channels, config.resolution, config.resolution
    drawn = seeding.generator(0, Stream.SYNTHETIC).integers(0, 256, shape, dtype=np.uint8)
    return _Noise(drawn, config.label_size)


@contextmanager
def _timed(device: torch.device, seconds: list[float]) -> Iterator[None]:
    """Append how long the block takes, what it started on the device included."""
    start = time.perf_counter()
    yield
    if device.type != "cpu":
        # Copying something back waits for all that came before.
        torch.zeros((), device=device).item()
    seconds.append(time.perf_counter() - start)
