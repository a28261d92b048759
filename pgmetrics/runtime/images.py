"""The byte contract: an image is uint8 RGB, [N, 3, H, W], everywhere between a source and a metric.

Only this module converts floats to bytes and gray to RGB, and scales images by a factor. Its functions take
NumPy arrays or torch tensors and return the same type, so that decoding workers need not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, SourceError

if TYPE_CHECKING:
    from torch import Tensor

Images = TypeVar("Images", NDArray[Any], "Tensor")


def check_bytes(images: NDArray[Any] | Tensor, name: str) -> None:
    """Refuse anything but uint8 [N, 3, H, W].

    Raises:
        SourceError: the dtype or shape is another; the message names the source and both.
    """
    dtype = str(images.dtype).removeprefix("torch.")
    if dtype != "uint8" or images.ndim != 4 or images.shape[1] != 3:
        raise SourceError(
            f"{name} gave images of dtype {dtype} and shape {list(images.shape)}; "
            "uint8 [N, 3, H, W] is needed"
        )


def checked_range(value_range: object) -> tuple[float, float]:
    """Return the values that become 0 and 255 as two floats.

    Raises:
        OptionError: they are not two finite numbers in ascending order.
    """
    try:
        low, high = map(float, value_range)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise OptionError(f"a value range is two numbers, such as -1,1; not {value_range!r}") from None
    if not low < high or not all(map(isfinite, (low, high))):
        raise OptionError(f"a value range rises from a number to another, such as -1,1; not {low:g},{high:g}")
    return low, high


def extremes(images: NDArray[Any] | Tensor) -> tuple[float, float]:
    """Return the smallest and the largest value; both are NaN if any value is."""
    if isinstance(images, np.ndarray):
        return float(images.min()), float(images.max())
    import torch

    least, largest = torch.stack(torch.aminmax(images)).tolist()
    return least, largest


def to_bytes(
    images: Images,
    value_range: tuple[float, float],
    name: str = "the generator",
    called: Sequence[object] | None = None,
) -> Images:
    """Round to the nearest of 256 levels and saturate: for (-1, 1) it is round(127.5 x + 127.5).

    Ties go to even, as in the published evaluation; truncating instead would darken every image
    by half a level.

    Args:
        images: float, any shape, images along the first axis; float16 is scaled in float32.
        value_range: the values that become 0 and 255.
        name: name of the source in the message.
        called: the images' numbers in the message; by default their positions in the batch.

    Returns:
        uint8, same shape and device.

    Raises:
        SourceError: a value is NaN or infinite; the message names the first such image.
    """
    low, high = value_range
    scale = 255.0 / (high - low)
    if isinstance(images, np.ndarray) and images.dtype == np.float16:
        images = images.astype(np.float32)  # scaled float16 values would overflow or be rounded twice
    # Computed in this order, (-1, 1) multiplies by exactly 127.5 and adds exactly 127.5, as published.
    scaled = images * scale + (-low * scale)
    if scaled.shape[0] and not all(map(isfinite, extremes(scaled))):
        finite = abs(scaled) < float("inf")  # False for NaN and for both infinities
        per_image = finite.reshape(finite.shape[0], -1).all(1)
        first = int(np.flatnonzero(~np.asarray(per_image.tolist()))[0])
        which = f"image {first} of its batch" if called is None else f"image {called[first]}"
        raise SourceError(
            f"{name} gave NaN or infinite values, first in {which}; "
            "such a network has diverged and cannot be scored"
        )
    if isinstance(scaled, np.ndarray):
        return np.asarray(scaled.round().clip(0, 255), np.uint8)
    import torch

    return scaled.round().clip(0, 255).to(torch.uint8)


def grey_to_rgb(images: Images) -> Images:
    """Repeat a single channel three times: [N, 1, H, W] becomes [N, 3, H, W]; RGB is returned unchanged."""
    if images.shape[1] != 1:
        return images
    if isinstance(images, np.ndarray):
        return np.repeat(images, 3, axis=1)
    return images.expand(-1, 3, -1, -1)


def box_downscale(images: Images, factor: int) -> Images:
    """Average every factor x factor square.

    Args:
        images: float [N, C, H, W], H and W divisible by the factor.

    Returns:
        [N, C, H / factor, W / factor], same dtype.
    """
    n, c, h, w = images.shape
    squares = images.reshape(n, c, h // factor, factor, w // factor, factor)
    if isinstance(squares, np.ndarray):
        return np.asarray(squares.mean(axis=(3, 5), dtype=squares.dtype))
    return squares.mean(dim=(3, 5))


def nearest_upscale(images: Images, factor: int) -> Images:
    """Repeat every pixel factor x factor times: [N, C, H, W] becomes [N, C, H f, W f]."""
    if factor == 1:
        return images
    if isinstance(images, np.ndarray):
        return images.repeat(factor, axis=2).repeat(factor, axis=3)
    return images.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
