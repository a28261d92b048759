"""A progress bar for training, on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from reference_models.progan.config import ProGANConfig
from reference_models.progan.schedule import stage

if TYPE_CHECKING:
    from reference_models.progan.train import Progress

_LOOKS = 200
_RATE_OVER_SECONDS = 5.0


@contextmanager
def decoding_bar() -> Iterator[Callable[[int, int], None]]:
    """Shows how many images are decoded; give what it yields to `train` as `decoded`."""
    with tqdm(desc="decoding", unit=" img", leave=False) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            if done == total:
                bar.close()

        yield report


class TrainingBar:
    """Shows stage, alpha, images per second and the time left; give it to `train` as `report`.

    An image costs more the larger it is, so the bar counts work, not images: otherwise the time
    left would be a small part of the truth for most of a run.
    """

    def __init__(self, config: ProGANConfig) -> None:
        self._config = config
        # Work up to each of a fixed number of moments, for the integral over the schedule.
        moments = [config.total_images * i // _LOOKS for i in range(_LOOKS + 1)]
        self._moments = moments
        self._work = [0.0]
        for start, stop in pairwise(moments):
            self._work.append(self._work[-1] + (stop - start) * work_per_image(config, start))
        # Made with the first steps: the time before them is spent on decoding.
        self._bar: tqdm[NoReturn] | None = None
        self._since = (time.monotonic(), 0)
        self._rate = 0.0

    def __enter__(self) -> Callable[[Progress], None]:
        return self.report

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def report(self, progress: Progress) -> None:
        """Move on to where the run stands."""
        if self._bar is None:
            self._bar = tqdm(
                total=self._work[-1],
                bar_format="{percentage:3.0f}% {bar} {elapsed}, {remaining} left{postfix}",
            )
            self._since = (time.monotonic(), progress.images_shown)
        (then, shown), now = self._since, time.monotonic()
        if now - then > (_RATE_OVER_SECONDS if self._rate else 0) and progress.images_shown > shown:
            self._rate = (progress.images_shown - shown) / (now - then)
            self._since = (now, progress.images_shown)
        side, alpha = progress.stage.resolution, progress.stage.alpha
        speed = f", {self._rate:,.0f} img/s" if self._rate else ""
        self._bar.set_postfix_str(f"{side} x {side}, alpha {alpha:.2f}{speed}", refresh=False)
        self._bar.update(self._work_at(progress.images_shown) - self._bar.n)

    def _work_at(self, images_shown: int) -> float:
        shown = min(images_shown, self._config.total_images)
        k = min(shown * _LOOKS // self._config.total_images, _LOOKS - 1)
        return self._work[k] + (shown - self._moments[k]) * work_per_image(self._config, self._moments[k])


def work_per_image(config: ProGANConfig, images_shown: int) -> float:
    """What an image costs at that point, in multiply-adds of the convolutions, roughly.

    With a constant for what every step costs whatever its size, which rules the first stages.
    """
    now = stage(images_shown, config)
    convolutions = 0.0
    for r in config.resolutions:
        if r <= now.resolution:
            convolutions += 18 * r**2 * config.feature_maps(r) * config.feature_maps(max(r // 2, 4))
    return convolutions + 1e7 * len(config.resolutions) / now.minibatch
