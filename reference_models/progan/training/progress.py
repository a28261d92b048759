"""The status of a training run, and warnings about divergence."""

from __future__ import annotations

from dataclasses import dataclass

from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.schedule import Stage

_NORM_ALARM = 10.0  # times gamma
_SCORE_ALARM = 1e3


@dataclass(frozen=True)
class TrainingStatus:
    """The status of a run after a schedule update.

    Attributes:
        images_shown: real images shown to the discriminator so far.
        stage: the stage of the last steps.
        skipped: number of steps skipped so far because a gradient was not finite.
        real, fake, penalty, norm, classes: terms of the last discriminator step, see `DiscriminatorLoss`.
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
    """Detect signs of divergence, and report each kind of sign once."""

    def __init__(self, config: ProGANConfig) -> None:
        self._gamma = config.gp_gamma
        self._told: set[str] = set()

    def raised_by(self, progress: TrainingStatus) -> list[str]:
        """Return a line for each sign of divergence in this status that was not reported before."""
        p = progress
        largest = max(abs(p.real), abs(p.fake), key=lambda score: score if score == score else float("inf"))
        signs = {
            "norm": (
                # "not <=" rather than ">", so that NaN raises the alarm, too.
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
