"""The Laplacian pyramid of Burt and Adelson, with the borders of the published SWD.

Source: section 5 of Karras et al. 2018; filters and borders as in its published evaluation,
which agree with OpenCV's pyrDown and pyrUp.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from pgmetrics.errors import SampleError
from pgmetrics.functional.float_precision import exact_float32

SMALLEST_LEVEL = 16
"""Smallest allowed side of the coarsest level in pixels; below it SWD is undefined."""

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
# Twice that filter, restricted to the nonzero samples of a zero-stuffed line, at even and odd positions.
_UP_EVEN = (2 / 16, 12 / 16, 2 / 16)
_UP_ODD = (0.0, 8 / 16, 8 / 16)


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Return height and width of each pyramid level, finest first.

    There is a next level while both sides are even and the smaller half is at least 16.

    Raises:
        SampleError: the images are smaller than 16 pixels, where SWD is undefined.
    """
    if min(height, width) < SMALLEST_LEVEL:
        raise SampleError(
            f"the sliced Wasserstein distance is undefined below {SMALLEST_LEVEL} pixels; the images are "
            f"{height}x{width}. Enlarge them (at=final for a ProGAN stage) or score a later stage"
        )
    sizes = [(height, width)]
    while height % 2 == 0 and width % 2 == 0 and min(height, width) // 2 >= SMALLEST_LEVEL:
        height, width = height // 2, width // 2
        sizes.append((height, width))
    return sizes


def laplacian_pyramid(images: Tensor, num_levels: int) -> list[Tensor]:
    """Return the differences between an image and its smoothed copy per scale; the last level is low-pass.

    Enlarging and adding the levels from coarse to fine restores the image.

    Args:
        images: uint8 or float [N, 3, H, W]; H and W divisible by 2 ** (num_levels - 1).
        num_levels: at least 1; with 1 the result is the image itself.

    Returns:
        num_levels tensors [N, 3, H / 2**i, W / 2**i], full resolution first, in channels-last memory
        (patches are then runs of neighboring values); float64 for float64 images, else float32.

    Source: `generate_laplacian_pyramid` in sliced_wasserstein.py of Karras et al. 2018.
    """
    levels = []
    for _ in range(num_levels - 1):
        tall = _with_mirrored_rows(images)
        images = _down(tall)
        enlarged = _up(images)
        torch.sub(tall[:, 2:-2], enlarged, out=enlarged)
        levels.append(enlarged.permute(0, 3, 1, 2))
    return [*levels, images.to(_float_type(images), memory_format=torch.channels_last)]


def pyr_down(images: Tensor) -> Tensor:
    """Blur with the 5 x 5 binomial filter and keep the even rows and columns.

    Borders are mirrored without repeating the edge pixel, so a constant image stays constant.

    Args:
        images: float [N, C, H, W], C up to 3; H and W at least 3.

    Returns:
        [N, C, ceil(H / 2), ceil(W / 2)], channels-last, same dtype and device.

    Source: `pyr_down` in sliced_wasserstein.py of Karras et al. 2018.
    """
    return _down(_with_mirrored_rows(images))


def pyr_up(images: Tensor) -> Tensor:
    """Double height and width: put zeros between the pixels, then blur four times as strongly.

    A constant image stays constant. The zeros are never stored: rows at even and odd positions are two small
    convolutions of the coarse image.

    Args:
        images: float [N, C, H, W]; H and W at least 2.

    Returns:
        [N, C, 2H, 2W], channels-last, same dtype and device.

    Source: `pyr_up` in sliced_wasserstein.py of Karras et al. 2018.
    """
    return _up(images).permute(0, 3, 1, 2)


# Both filters are separable. Along columns they are a few sums of whole rows, which are contiguous; along
# rows they are a convolution, whose three channels are adjacent in memory.


def _with_mirrored_rows(images: Tensor) -> Tensor:
    """Convert to float [N, H + 4, W, C] with two mirrored rows above and below, without the edge."""
    n, c, h, w = images.shape
    tall = images.new_empty((n, h + 4, w, c), dtype=_float_type(images))
    tall[:, 2:-2] = images.permute(0, 2, 3, 1)
    for edge, inner in ((1, 3), (0, 4), (-2, -4), (-1, -5)):
        tall[:, edge] = tall[:, inner]
    return tall


def _down(tall: Tensor) -> Tensor:
    """Blur the output of `_with_mirrored_rows` and keep every second row and column: [N, C, ⌈H/2⌉, ⌈W/2⌉]."""
    n, h, w, c = tall.shape
    height, width = (h - 3) // 2, (w + 1) // 2
    wide = tall.new_empty(n, height, w + 4, c)
    even, odd, blurred = tall[:, ::2], tall[:, 1::2], wide[:, :, 2:-2]
    outer, inner, middle = _BINOMIAL[:3]
    torch.add(even[:, :height], even[:, 2 : height + 2], out=blurred).mul_(outer)
    blurred.add_(odd[:, :height], alpha=inner).add_(odd[:, 1 : height + 1], alpha=inner)
    blurred.add_(even[:, 1 : height + 1], alpha=middle)
    for edge, place in ((1, 3), (0, 4), (-2, -4), (-1, -5)):
        wide[:, :, edge] = wide[:, :, place]
    pack = _pack(width)
    kernel = _kernel(c, _side_by_side((_BINOMIAL,), 2, pack), tall.dtype, tall.device)
    with exact_float32():
        pixels = F.conv2d(wide.permute(0, 3, 1, 2), kernel, stride=(1, 2 * pack))
    return pixels.permute(0, 2, 3, 1).reshape(n, height, width, c).permute(0, 3, 1, 2)


def _up(images: Tensor) -> Tensor:
    """Compute `pyr_up` in the layout [N, 2H, 2W, C]."""
    n, c, h, w = images.shape
    # Mirroring applies to the zero-stuffed image: before sample 0 it gives sample 1, but after the last
    # sample, whose right neighbor is a zero, it gives the last sample again.
    tall = images.new_empty(n, h + 2, w, c)
    tall[:, 1:-1] = images.permute(0, 2, 3, 1)
    tall[:, 0], tall[:, -1] = tall[:, 2], tall[:, -2]
    before, here, after = tall[:, :-2], tall[:, 1:-1], tall[:, 2:]
    wide = images.new_empty(n, h, 2, w + 2, c)
    even, odd = wide[:, :, 0, 1:-1], wide[:, :, 1, 1:-1]
    outer, middle, _ = _UP_EVEN
    torch.add(before, after, out=even).mul_(outer).add_(here, alpha=middle)
    torch.add(here, after, out=odd).mul_(_UP_ODD[1])
    wide[..., 0, :], wide[..., -1, :] = wide[..., 2, :], wide[..., -2, :]
    pack = _pack(w)
    kernel = _kernel(c, _side_by_side((_UP_EVEN, _UP_ODD), 1, pack), images.dtype, images.device)
    with exact_float32():
        pixels = F.conv2d(wide.flatten(1, 2).permute(0, 3, 1, 2), kernel, stride=(1, pack))
    return pixels.permute(0, 2, 3, 1).reshape(n, 2 * h, 2 * w, c)


def _float_type(images: Tensor) -> torch.dtype:
    return images.dtype if images.is_floating_point() else torch.float32


def _pack(width: int) -> int:
    """Return the number of neighboring outputs that are computed as channels of one.

    A kernel computes 16 channels in the time of 3. Neighboring outputs in a row have the same memory order as
    channels, so more are better, as long as their number divides the row.
    """
    return next(pack for pack in (2, 1) if width % pack == 0)


def _side_by_side(
    filters: tuple[tuple[float, ...], ...], step: int, pack: int
) -> tuple[tuple[float, ...], ...]:
    """Repeat the filters of one position for the following positions, each shifted by `step` samples."""
    return tuple(
        (0.0,) * (step * place) + taps + (0.0,) * (step * (pack - 1 - place))
        for place in range(pack)
        for taps in filters
    )


@lru_cache(maxsize=64)
def _kernel(
    channels: int, columns: tuple[tuple[float, ...], ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return a row filter, equal for all channels, as the kernel of a dense convolution.

    A grouped convolution would be the natural form, but for channels-last data with three channels the CPU's
    dense kernels are several times faster.

    Returns:
        [Q * channels, channels, 1, columns' length]: output channel (q, c) filters input channel c
        with columns[q].
    """
    taps = torch.tensor(columns, dtype=torch.float64)
    dense = torch.einsum("qx,ck->qckx", taps, torch.eye(channels, dtype=torch.float64))
    dense = dense.reshape(-1, channels, 1, taps.shape[1]).to(dtype).to(device)
    return dense.contiguous(memory_format=torch.channels_last)
