"""Descriptors (7 x 7 neighborhoods of a pyramid level) and their standardization."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

PATCH = 7
"""Side of a neighborhood in pixels."""

FLAT = 1e-5
"""In grey levels; a channel with a smaller deviation over a whole set is standardized to zeros."""


def gather_patches(level: Tensor, rows: Tensor, columns: Tensor, out: Tensor | None = None) -> Tensor:
    """Gather the 7 x 7 neighborhoods with the given top left corners.

    Args:
        level: float [N, C, H, W]; fastest in channels-last memory, where a patch is seven runs.
        rows, columns: int64 [N, P], corners in 0 ... H - 7 and 0 ... W - 7.
        out: where to write the result; contiguous, of its shape and dtype.

    Returns:
        [N * P, 49 C], image by image; components ordered row, column, channel. The published code orders
        channel, column, row: a fixed permutation, which does not change distances along random directions.
    """
    n, c, h, w = level.shape
    pixels = level.permute(0, 2, 3, 1).contiguous()
    image = torch.arange(n, device=level.device)[:, None]
    corner = (image * h + rows) * w + columns
    run = (corner[..., None] + w * torch.arange(PATCH, device=level.device)).reshape(-1)
    # Row i of this view holds PATCH pixels from pixel i on; the rows overlap, so nothing is copied yet.
    runs = pixels.as_strided((n * h * w - PATCH + 1, PATCH * c), (c, 1))
    if out is not None:
        torch.index_select(runs, 0, run, out=out.view(-1, PATCH * c))
        return out
    return runs.index_select(0, run).view(-1, PATCH * PATCH * c)


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and standard deviation of each channel over a whole set of descriptors.

    Attributes:
        mean, std: float64 [C], in grey levels; std is the population standard deviation. A flat channel
            (below `FLAT`) has infinite std, which standardizes it to zeros.
        flat: indices of the flat channels, 0 to C - 1.
    """

    mean: Tensor
    std: Tensor
    flat: tuple[int, ...]


def channel_moments(descriptors: Tensor, channels: int, num_images: int) -> Tensor:
    """Return each image's mean and variance per channel, the input of `channel_statistics`.

    They are per image, so that a set's statistics do not depend on its division into blocks.

    Args:
        descriptors: float [num_images * P, D], image by image, channels fastest along D.

    Returns:
        float64 [num_images, 2, C] on the CPU: means, then population variances, over the image's
        descriptors.
    """
    n, d = num_images, descriptors.shape[1]
    values = descriptors.view(n, -1, d)
    # Values are taken relative to one value of the channel. A constant channel then gives exact zeros, and
    # float32 suffices within an image; sums of squares about 0 would lose a small deviation from a large
    # mean.
    pivot = values[:, :1, :channels]
    shifted = values - pivot.repeat(1, 1, d // channels)

    def means() -> Tensor:
        # Sum over patches first, since whole descriptors are contiguous.
        return shifted.mean(1).view(n, -1, channels).mean(1).to("cpu", torch.float64)

    mean = means()
    shifted.square_()
    variance = means() - mean.square()
    return torch.stack((mean + pivot[:, 0].to("cpu", torch.float64), variance.clamp_min_(0)), dim=1)


def channel_statistics(moments: Iterable[Tensor]) -> ChannelStatistics:
    """Return the statistics of all descriptors of a set from the moments of its images.

    Args:
        moments: float64 [N_i, 2, C], pieces of `channel_moments` in image order; every image has equal
            weight.

    Source: `finalize_descriptors` in sliced_wasserstein.py of Karras et al. 2018. Combined in
    float64, where the published code's float32 drifts by up to 7e-4 at 2**21 descriptors.
    """
    means, variances = torch.cat(list(moments)).unbind(1)
    mean = means.mean(0)
    std = (variances.mean(0) + (means - mean).square().mean(0)).sqrt()
    flat = std < FLAT
    return ChannelStatistics(
        mean, std.masked_fill(flat, torch.inf), tuple(int(c) for c in flat.nonzero().flatten())
    )
