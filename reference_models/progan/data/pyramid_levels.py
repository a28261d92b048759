"""Images at every resolution of growth, by averaging 2 × 2 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import SourceError
from pgmetrics.runtime import images as byte_images


def levels(pixels: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Images at every resolution from their own down to 4 x 4.

    Each level is the mean of 2 x 2 squares of the unrounded level above it, rounded to even: rounding
    each level from rounded bytes would drift.

    Args:
        pixels: uint8 [N, C, R, R], R a power of two from 4.

    Yields:
        (r, uint8 [N, C, r, r]), the largest first.
    """
    yield pixels.shape[-1], pixels
    # Sums of bytes: 2**8 of them and what rounding adds fit in 16 bits. In float32, where the means
    # are exact as well, this takes twice the time, and by `box_downscale` twenty times.
    sums: NDArray[Any] = pixels.astype(np.uint16)
    bits = 0  # 2**bits bytes are in each sum
    while sums.shape[-1] > 4:
        if bits == 8:
            sums = sums.astype(np.uint32)
        rows = sums[..., ::2, :] + sums[..., 1::2, :]
        sums = rows[..., ::2] + rows[..., 1::2]
        bits += 2
        # Just below a half, and the rest of it where the whole part is odd: a tie goes to even.
        almost_half = sums.dtype.type((1 << bits - 1) - 1)
        yield sums.shape[-1], ((sums + almost_half + (sums >> bits & 1)) >> bits).astype(np.uint8)


def center_square(pixels: byte_images.Images) -> byte_images.Images:
    """The center of images up to their shorter side, as the `crop-` policies cut it: a view.

    Args:
        pixels: [N, C, H, W].
    """
    height, width = pixels.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[:, :, top : top + side, left : left + side]


def to_channels(pixels: NDArray[np.uint8], channels: int, name: str) -> NDArray[np.uint8]:
    """Grey images with one or three channels, color images with three.

    Raises:
        SourceError: one channel is asked for and images are in color.
    """
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return byte_images.grey_to_rgb(pixels)
    if (pixels != pixels[:, :1]).any():
        raise SourceError(f"{name} has images in color; channels=1 needs grey ones")
    return pixels[:, :1]
