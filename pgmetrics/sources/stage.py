"""Images at a stage of growth: reals shrunk and faded to the stage, and its fakes enlarged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, SourceError
from pgmetrics.runtime.images import box_downscale, nearest_upscale
from pgmetrics.sources.base import ImageSource
from pgmetrics.sources.wrappers import Wrapped


class AtStage(Wrapped):
    """Images box-downscaled to a stage's resolution and, during its fade, mixed with the coarser image.

    Each step is rounded to bytes: the shrunk image as in training's storage, and the faded image because
    metrics take bytes. At alpha 0 every square of 2 x 2 pixels has one color; at alpha 1 nothing is mixed.

    Args:
        source: a source of square images whose side is a multiple of `resolution`.
        resolution: the stage's side in pixels.
        alpha: how far the stage is faded in, 0 to 1.

    Raises:
        SourceError: the images are not square, or cannot be shrunk to `resolution` by a whole factor.
        OptionError: alpha is out of range.

    Source: `process_reals` in train.py of Karras et al. 2018.
    """

    def __init__(self, source: ImageSource, resolution: int, alpha: float = 1.0) -> None:
        height, width = source.resolution
        if height != width or resolution < 1 or height % resolution:
            raise SourceError(
                f"{source.name} has images of {height} × {width}, which cannot be shrunk to a stage of "
                f"{resolution} × {resolution} by a whole factor"
            )
        if not 0 <= alpha <= 1 or (alpha < 1 and resolution % 2):
            raise OptionError(f"a stage of {resolution} × {resolution} cannot be faded in to {alpha}")
        super().__init__(source, f"+stage={resolution},alpha={alpha}")
        self._side = resolution
        self._alpha = np.float32(alpha)

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        return self._side, self._side

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = super()._read(indices)
        factor = images.shape[2] // self._side
        if factor == 1 and self._alpha == 1:
            return images
        x = box_downscale(images.astype(np.float32), factor).round()
        if self._alpha < 1:
            coarse = nearest_upscale(box_downscale(x, 2), 2)
            x = (coarse + self._alpha * (x - coarse)).round()
        return np.asarray(x, np.uint8)


class Enlarged(Wrapped):
    """Images enlarged to a resolution by repeating pixels, as in the published evaluation.

    Raises:
        SourceError: the images are not square, or cannot be enlarged to `resolution` by a whole factor.
    """

    def __init__(self, source: ImageSource, resolution: int) -> None:
        height, width = source.resolution
        if height != width or resolution < height or resolution % height:
            raise SourceError(
                f"{source.name} has images of {height} × {width}, which cannot be enlarged to "
                f"{resolution} × {resolution} by a whole factor"
            )
        super().__init__(source, f"+enlarged={resolution}")
        self._side = resolution

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        return self._side, self._side

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = super()._read(indices)
        return nearest_upscale(images, self._side // images.shape[2])
