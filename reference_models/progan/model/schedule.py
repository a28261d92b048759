"""Where training stands, as a pure function of the images shown.

Every resolution but the first fades in over `fade_images` and then stabilizes over
`stabilise_images`; the level of detail `lod` falls from log2(final / 4) to 0, and a fade is the
way from one whole number to the next. A run that does not grow is at lod 0 from its first image on.

Source: `TrainingSchedule` in train.py of Karras et al. 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, floor

from reference_models.progan.model.config import ProGANConfig


@dataclass(frozen=True)
class Stage:
    """What the networks, the reals and the optimizers use at one moment.

    Attributes:
        resolution: side of the images in pixels; during a fade already the new one.
        alpha: how far this resolution is faded in, above 0 to 1.
        lod: level of detail, 0 at the final resolution.
        minibatch: images in a step.
        learning_rate: Adam's step size.
    """

    resolution: int
    alpha: float
    lod: float
    minibatch: int
    learning_rate: float

    @property
    def reset_key(self) -> tuple[int, int]:
        """Changes at the start and at the end of a fade: then the optimizers forget."""
        return floor(self.lod), ceil(self.lod)

    @property
    def enlargement(self) -> int:
        """The final resolution over this one."""
        return 1 << floor(self.lod)


def stage(images_shown: int, config: ProGANConfig) -> Stage:
    """The stage that the next step belongs to.

    Args:
        images_shown: real images the discriminator has been shown so far, repeats counted.
        config: of the run.
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
    """From exp(-5) to 1 within the duration, and 1 from then on.

    Source: `rampup` in misc.py of the paper's Theano code.
    """
    if images_shown >= duration:
        return 1.0
    return exp(-5 * (1 - images_shown / duration) ** 2)
