"""The training schedule as a pure function of the images shown.

Every resolution but the first fades in over `fade_images` and then stabilizes over `stabilise_images`. The
level of detail `lod` falls from log2(final / 4) to 0, and a fade moves it from one whole number to the next.
A run that does not grow has lod 0 from its first image on.

Source: `TrainingSchedule` in train.py of Karras et al. 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, floor

from reference_models.progan.model.config import ProGANConfig


@dataclass(frozen=True)
class Stage:
    """The settings of networks, reals and optimizers at one point of training.

    Attributes:
        resolution: side of the images in pixels; during a fade that of the new resolution.
        alpha: how far this resolution is faded in, above 0 to 1.
        lod: level of detail, 0 at the final resolution.
        minibatch: images per step.
        learning_rate: Adam's step size.
    """

    resolution: int
    alpha: float
    lod: float
    minibatch: int
    learning_rate: float

    @property
    def reset_key(self) -> tuple[int, int]:
        """A key that changes at the start and at the end of a fade, when the optimizers are reset."""
        return floor(self.lod), ceil(self.lod)

    @property
    def enlargement(self) -> int:
        """The final resolution divided by this one."""
        return 1 << floor(self.lod)


def stage(images_shown: int, config: ProGANConfig) -> Stage:
    """Return the stage of the next step.

    Args:
        images_shown: real images shown to the discriminator so far, including repeats.
        config: configuration of the run.
    """
    lod = 0.0
    if config.growing:
        phase = config.stabilise_images + config.fade_images
        grown, within = divmod(images_shown, phase)
        faded = max(within - config.stabilise_images, 0) / config.fade_images
        lod = max(len(config.resolutions) - 1 - grown - faded, 0.0)
    resolution = config.resolution >> floor(lod)
    return Stage(
        resolution=resolution,
        alpha=1 - (lod - floor(lod)),
        lod=lod,
        minibatch=config.minibatch_at(resolution),
        learning_rate=config.learning_rate_at(resolution) * _rampup(images_shown, config.lr_rampup_images),
    )


def _rampup(images_shown: int, duration: int) -> float:
    """Return a factor that rises from exp(-5) to 1 within the duration and then stays at 1.

    Source: `rampup` in misc.py of the paper's Theano code.
    """
    if images_shown >= duration:
        return 1.0
    return exp(-5 * (1 - images_shown / duration) ** 2)
