"""Resizing of images by a named policy, never by a silent default."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pgmetrics.errors import OptionError, check_number
from pgmetrics.sources.base import LARGEST_SIDE, ImageSource
from pgmetrics.sources.wrappers import Wrapped

_FILTERS = {
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
}
POLICIES = (*_FILTERS, *(f"crop-{name}" for name in _FILTERS))


def check_policy(resize: str | None, resolution: int | None) -> None:
    """Refuse an unknown policy, a policy without a resolution and a resolution without a policy.

    Raises:
        OptionError: the message names what is missing, or the known policies.
    """
    if resize is not None and resize not in POLICIES:
        raise OptionError(f"unknown resize policy {resize!r}; choose from {', '.join(POLICIES)}")
    if resolution is not None:
        check_number("a resolution in pixels", resolution, 1, LARGEST_SIDE, whole=True)
    if (resize is None) != (resolution is None):
        given, missing = ("resize", "resolution") if resolution is None else ("resolution", "resize")
        raise OptionError(
            f"{given} {resize or resolution} needs a {missing} too, such as --resize box --resolution 128"
        )


def resize_image(image: Image.Image, resize: str, resolution: int) -> Image.Image:
    """Resize an image to a square: its largest center square with a `crop-` policy, otherwise stretched.

    Args:
        image: an image in a mode that Pillow's filters take, such as RGB.
        resize: one of POLICIES.
        resolution: height and width of the result in pixels.
    """
    if resize.startswith("crop-"):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if image.size == (resolution, resolution):
        return image
    return image.resize((resolution, resolution), _FILTERS[resize.removeprefix("crop-")])


class Resized(Wrapped):
    """A source whose images are resized with the same filters as files."""

    def __init__(self, source: ImageSource, resize: str, resolution: int) -> None:
        check_policy(resize, resolution)
        super().__init__(source, f"+resize={resize},resolution={resolution}")
        self._resize = resize
        self._side = resolution

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        return self._side, self._side

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = super()._read(indices)
        resized = np.empty((len(images), 3, self._side, self._side), np.uint8)
        for image, place in zip(images, resized, strict=True):
            small = resize_image(Image.fromarray(image.transpose(1, 2, 0)), self._resize, self._side)
            place[:] = np.asarray(small).transpose(2, 0, 1)
        return resized
