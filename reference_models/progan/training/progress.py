"""How a training run stands: its numbers, and alarms."""

from __future__ import annotations

from dataclasses import dataclass

from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.schedule import Stage

_NORM_ALARM = 10.0  # times gamma
_SCORE_ALARM = 1e3


@dataclass(frozen=True)
class TrainingStatus:
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

    def raised_by(self, progress: TrainingStatus) -> list[str]:
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
