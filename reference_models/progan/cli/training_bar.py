"""The bar of a training run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from pgmetrics.cli.bars import ProgressLines, on_terminal
from pgmetrics.errors import printable
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.schedule import stage
from reference_models.progan.training.progress import TrainingStatus

if TYPE_CHECKING:
    from tqdm import tqdm

_LOOKS = 200
_RATE_OVER_SECONDS = 5.0


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
        self._lines = ProgressLines()
        self._since: tuple[float, int] | None = None
        self._rate = 0.0

    def __enter__(self) -> Callable[[TrainingStatus], None]:
        return self.report

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def report(self, status: TrainingStatus) -> None:
        """Move on to where the run stands."""
        if self._since is None:
            self._since = (time.monotonic(), status.images_shown)
        (then, shown), now = self._since, time.monotonic()
        if now - then > (_RATE_OVER_SECONDS if self._rate else 0) and status.images_shown > shown:
            self._rate = (status.images_shown - shown) / (now - then)
            self._since = (now, status.images_shown)
        side, alpha = status.stage.resolution, status.stage.alpha
        speed = f", {self._rate:,.0f} img/s" if self._rate else ""
        self._show(self._work_at(status.images_shown), f"{side} x {side}, alpha {alpha:.2f}{speed}")

    def _show(self, work: float, note: str) -> None:
        if not on_terminal():
            self._lines.report("training", work, self._work[-1], note)
            return
        from tqdm import tqdm

        if self._bar is None:
            # What was done before is no part of the speed; a resumed run begins with much of it.
            self._bar = tqdm(
                total=self._work[-1],
                initial=work,
                bar_format="{percentage:3.0f}% {bar} {elapsed}, {remaining} left{postfix}",
            )
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(work - self._bar.n)

    def warn(self, text: str) -> None:
        """A line on stderr above the bar; give this to `train` as `warn`."""
        from tqdm import tqdm

        tqdm.write(f"warning: {printable(text)}", file=sys.stderr)

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
