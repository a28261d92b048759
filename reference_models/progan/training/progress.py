"""How a training run stands: its numbers, alarms, and a bar on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import NoReturn

from tqdm import tqdm

from pgmetrics.errors import printable
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.schedule import Stage, stage

_LOOKS = 200
_RATE_OVER_SECONDS = 5.0
_NORM_ALARM = 10.0  # times gamma
_SCORE_ALARM = 1e3


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        images_shown: so far.
        stage: of the steps just made.
        skipped: steps left out because a gradient was not finite.
        real, fake, penalty, norm, classes: of the last discriminator step, see `DiscriminatorLoss`.
    """

    images_shown: int
    stage: Stage
    skipped: int
    real: float
    fake: float
    penalty: float
    norm: float
    classes: float = 0.0


class Alarms:
    """Signs that a run diverges, each told once."""

    def __init__(self, config: ProGANConfig) -> None:
        self._gamma = config.gp_gamma
        self._told: set[str] = set()

    def raised_by(self, progress: Progress) -> list[str]:
        """What a person should know about these numbers and has not been told, each as a line."""
        p = progress
        largest = max(abs(p.real), abs(p.fake), key=lambda score: score if score == score else float("inf"))
        signs = {
            "norm": (
                # The comparison is that way round for numbers that are none.
                not p.norm <= _NORM_ALARM * self._gamma,
                f"the discriminator's gradient has a norm of {p.norm:,.4g}, where {self._gamma:g} is wanted",
            ),
            "score": (
                not largest <= _SCORE_ALARM,
                f"the discriminator's mean scores have come to {p.real:,.4g} for reals and {p.fake:,.4g} for "
                "fakes",
            ),
            "skipped": (
                p.skipped > 0,
                "a step was left out because a gradient was not finite; stats.jsonl counts them as skipped",
            ),
        }
        new = {name: text for name, (raised, text) in signs.items() if raised and name not in self._told}
        self._told |= set(new)
        return [f"at {p.images_shown:,} images {text}; this run may diverge" for text in new.values()]


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
            # What was done before is no part of the speed; a resumed run begins with much of it.
            self._bar = tqdm(
                total=self._work[-1],
                initial=self._work_at(progress.images_shown),
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

    def warn(self, text: str) -> None:
        """A line on stderr above the bar; give this to `train` as `warn`."""
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
