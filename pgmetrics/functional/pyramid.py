"""The Laplacian pyramid of Burt and Adelson, with the borders of the published SWD.

Source: section 5 of Karras et al. 2018; filters and borders as in its published evaluation,
which agree with OpenCV's pyrDown and pyrUp.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pgmetrics.errors import SampleError
from pgmetrics.functional.precision import exact_float32

SMALLEST_LEVEL = 16
"""Pixels of the coarsest level's smaller side; below it SWD is undefined."""

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
# What that filter, times 2, leaves of a line whose odd samples are zero, at even and odd places.
_UP_EVEN = (2 / 16, 12 / 16, 2 / 16)
_UP_ODD = (0.0, 8 / 16, 8 / 16)


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of each pyramid level, finest first.

    Levels go on while both sides halve evenly and the smaller one is at least 16.

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
    """Differences between an image and its smoothed self, scale by scale; the last level is low-pass.

    Enlarging the last level and adding the others, coarse to fine, gives the image back.

    Args:
        images: uint8 or float [N, 3, H, W]; H and W divisible by 2 ** (num_levels - 1).
        num_levels: at least 1; with 1 the result is the image itself.

    Returns:
        num_levels tensors [N, 3, H / 2**i, W / 2**i], full resolution first, in channels-last memory
        (patches are then runs of neighbouring values); float32, or float64 where that came in.

    Source: `generate_laplacian_pyramid` in sliced_wasserstein.py of Karras et al. 2018.
    """
    finer = _as_float(images)
    levels = []
    for _ in range(num_levels - 1):
        coarser = pyr_down(finer)
        enlarged = pyr_up(coarser)
        levels.append(torch.sub(finer, enlarged, out=enlarged))
        finer = coarser
    return [*levels, finer]


def reconstruct(levels: list[Tensor]) -> Tensor:
    """The image whose Laplacian pyramid this is: [N, 3, H, W]."""
    image = levels[-1]
    for level in reversed(levels[:-1]):
        image = pyr_up(image) + level
    return image


def pyr_down(images: Tensor) -> Tensor:
    """Blur with the 5 x 5 binomial filter and keep the even rows and columns.

    Borders are mirrored without repeating the edge pixel, so a constant image stays constant.

    Args:
        images: float [N, C, H, W], C up to 3; H and W at least 3.

    Returns:
        [N, C, ceil(H / 2), ceil(W / 2)], channels-last, same dtype and device.

    Source: `pyr_down` in sliced_wasserstein.py of Karras et al. 2018.
    """
    n, c, h, w = images.shape
    padded = images.new_empty(n, h + 4, w + 4, c)
    padded[:, 2:-2, 2:-2] = images.permute(0, 2, 3, 1)
    for edge, inner in ((1, 3), (0, 4), (-2, -4), (-1, -5)):
        padded[:, 2:-2, edge] = padded[:, 2:-2, inner]
    for edge, inner in ((1, 3), (0, 4), (-2, -4), (-1, -5)):
        padded[:, edge] = padded[:, inner]
    with exact_float32():
        return F.conv2d(padded.permute(0, 3, 1, 2), _kernel(c, (_BINOMIAL,), (_BINOMIAL,), images), stride=2)


def pyr_up(images: Tensor) -> Tensor:
    """Double height and width: put zeros between the pixels, then blur four times as strongly.

    A constant image stays constant. The zeros are never made: rows at even and odd places are two
    small convolutions of the coarse image, each with an output channel for either column parity,
    which is the order of the enlarged row in memory.

    Args:
        images: float [N, C, H, W]; H and W at least 2.

    Returns:
        [N, C, 2H, 2W], channels-last, same dtype and device.

    Source: `pyr_up` in sliced_wasserstein.py of Karras et al. 2018.
    """
    n, c, h, w = images.shape
    padded = images.new_empty(n, h + 2, w + 2, c)
    padded[:, 1:-1, 1:-1] = images.permute(0, 2, 3, 1)
    # The mirror acts on the zero-stuffed image: it shows sample 1 before sample 0, but behind the
    # last sample, whose right neighbour is a zero, the last sample again.
    padded[:, 1:-1, 0] = padded[:, 1:-1, 2]
    padded[:, 1:-1, -1] = padded[:, 1:-1, -2]
    padded[:, 0] = padded[:, 2]
    padded[:, -1] = padded[:, -2]
    enlarged = images.new_empty(n, h, 2, w, 2 * c)
    columns = (_UP_EVEN, _UP_ODD)
    with exact_float32():
        for parity, rows in enumerate(columns):
            kernel = _kernel(c, (rows,), columns, images)
            enlarged[:, :, parity] = F.conv2d(padded.permute(0, 3, 1, 2), kernel).permute(0, 2, 3, 1)
    return enlarged.view(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


def _as_float(images: Tensor) -> Tensor:
    dtype = images.dtype if images.is_floating_point() else torch.float32
    return images.to(dtype, memory_format=torch.channels_last)


def _kernel(
    channels: int, rows: tuple[tuple[float, ...], ...], columns: tuple[tuple[float, ...], ...], like: Tensor
) -> Tensor:
    """A filter that treats channels alike, as one dense convolution.

    A grouped convolution would be the natural form, but the CPU's kernels for channels-last data
    with three channels are several times faster on the dense one (1.8 against 10 ms for 1024 pixels).

    Returns:
        [R * Q * channels, channels, rows' length, columns' length]: output channel (r, q, c) filters
        input channel c with the product of rows[r] and columns[q].
    """
    taps = torch.tensor(rows, dtype=torch.float64)[:, None, :, None]
    taps = taps * torch.tensor(columns, dtype=torch.float64)[None, :, None, :]
    dense = torch.einsum("rqyx,ck->rqckyx", taps, torch.eye(channels, dtype=torch.float64))
    dense = dense.reshape(-1, *dense.shape[3:]).to(like.device, like.dtype)
    return dense.contiguous(memory_format=torch.channels_last)
