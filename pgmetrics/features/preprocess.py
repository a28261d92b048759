"""The resizers of the field by their true names, without rounding to bytes.

"Bilinear, 299 pixels" has been at least three different maps, and a score made with one is not
comparable with a score made with another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

Resizer = Callable[[Tensor, int], Tensor]
"""uint8 [N, 3, H, W] and a side to float32 [N, 3, side, side] within 0 ... 255, in any memory order."""

_BAND = 128  # input pixels a band advances by: few outputs read further than their neighborhood
_PIXELS = 2**20  # of input that are floats at the same time


def tf1_bilinear(pixels: Tensor, side: int) -> Tensor:
    """Without antialiasing, the corner of pixel (0, 0) kept in place: TensorFlow 1's resize.

    What Inception was published with: torch-fidelity, StyleGAN's and ADM's evaluations.
    """
    return _separable(pixels, side, "tf1-bilinear")


def torch_bilinear(pixels: Tensor, side: int) -> Tensor:
    """Without antialiasing, pixel centers kept in place: pytorch-fid."""
    return F.interpolate(pixels.float(), (side, side), mode="bilinear", align_corners=False)


def torch_bilinear_antialias(pixels: Tensor, side: int) -> Tensor:
    """Bilinear with antialiasing: torchmetrics' FID since 1.8."""
    return F.interpolate(pixels.float(), (side, side), mode="bilinear", align_corners=False, antialias=True)


def pil_bicubic(pixels: Tensor, side: int) -> Tensor:
    """Pillow's bicubic on floats, antialiased, cut to 0 ... 255: clean-fid."""
    return _separable(pixels, side, "pil-bicubic").clamp_(0, 255)


RESIZERS: Mapping[str, Resizer] = {
    "tf1-bilinear": tf1_bilinear,
    "torch-bilinear": torch_bilinear,
    "torch-bilinear-antialias": torch_bilinear_antialias,
    "pil-bicubic": pil_bicubic,
}
"""Each by the name it has in options and protocols."""


VALUE_MAPS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "(x-128)/128": lambda images: (images - 128).div_(128),
    "2x/255-1": lambda images: (images / 255).mul_(2).sub_(1),
}
"""From 0 ... 255 to what Inception is fed, by name: TensorFlow's and its ports', and pytorch-fid's."""


def _separable(pixels: Tensor, side: int, kind: str) -> Tensor:
    """Columns, then rows, by matrix products; a few images at a time, since they become floats.

    The result is channels-last: between the products the images are still small, and reordering
    them there saves doing it with the large ones.
    """
    n, channels, height, width = pixels.shape
    if (height, width) == (side, side):
        return pixels.float()
    across = _bands(kind, width, side, pixels.device)
    made = []
    for piece in torch.split(pixels, max(1, _PIXELS // (height * width))):
        images = piece.float().contiguous()
        rows = torch.cat([images[..., start:stop] @ weights.T for start, stop, weights in across], dim=-1)
        rows = rows.permute(0, 2, 3, 1).reshape(len(piece), height, side * channels)
        made.append(_down(rows, side, kind))
    whole = made[0] if len(made) == 1 else torch.cat(made)
    return whole.view(n, side, side, channels).permute(0, 3, 1, 2)


def _down(rows: Tensor, side: int, kind: str) -> Tensor:
    """Rows [N, H, M] to [N, side, M]."""
    height = rows.shape[1]
    if kind == "tf1-bilinear":  # two rows an output: less work than a product
        low, high, share = (part.to(rows.device) for part in _tf1_grid(height, side))
        return rows[:, low].lerp_(rows[:, high], share[:, None])
    bands = _bands(kind, height, side, rows.device)
    return torch.cat([weights @ rows[:, start:stop] for start, stop, weights in bands], dim=1)


@lru_cache(maxsize=64)
def _bands(kind: str, size: int, side: int, device: torch.device) -> list[tuple[int, int, Tensor]]:
    """The resize matrix [side, size] cut into bands of outputs, each with the inputs it reads.

    The matrix of a large image is nearly empty: of 1024 pixels an output reads 2 to 14.
    """
    matrix = _MATRICES[kind](size, side)
    bands = []
    for outputs in torch.tensor_split(matrix, math.ceil(size / _BAND)):
        read = outputs.any(0).nonzero()
        start, stop = int(read.min()), int(read.max()) + 1
        bands.append((start, stop, outputs[:, start:stop].to(device)))
    return bands


@lru_cache(maxsize=64)
def _tf1_grid(size: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """TensorFlow's grid, in float32 as there: output i lies at i size / side.

    Returns:
        The inputs before and after each output, and the latter's share.

    Source: `CalculateResizeScale` and `compute_interpolation_weights` of its image resizer.
    """
    place = torch.arange(side, dtype=torch.float32) * torch.tensor(size / side, dtype=torch.float32)
    low = place.long()
    return low, (low + 1).clamp_max(size - 1), place - low


def _tf1_matrix(size: int, side: int) -> Tensor:
    low, high, share = _tf1_grid(size, side)
    matrix = torch.zeros(side, size)
    outputs = torch.arange(side)
    matrix[outputs, low] = 1 - share
    matrix[outputs, high] += share
    return matrix


def _pil_matrix(size: int, side: int) -> Tensor:
    """Pillow's weights: the cubic of Keys 1981 with a = -1/2, as wide as the reduction asks.

    Source: `precompute_coeffs` of Pillow's Resample.c, in double as there.
    """
    scale = size / side
    stretch = max(scale, 1.0)
    center = (torch.arange(side, dtype=torch.float64) + 0.5) * scale
    first = (center - 2 * stretch + 0.5).long().clamp_min(0)
    last = (center + 2 * stretch + 0.5).long().clamp_max(size)
    inputs = torch.arange(size)
    weights = _keys((inputs - center[:, None] + 0.5) / stretch)
    weights[(inputs < first[:, None]) | (inputs >= last[:, None])] = 0
    return (weights / weights.sum(1, keepdim=True)).float()


def _keys(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -1/2."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = -0.5 * (((x - 5) * x + 8) * x - 4)
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


_MATRICES = {"tf1-bilinear": _tf1_matrix, "pil-bicubic": _pil_matrix}
