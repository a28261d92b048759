"""The resizers in use in the field, by unambiguous names, without rounding to bytes.

"Bilinear, 299 pixels" stands for at least three different maps, and scores made with different ones are not
comparable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

Resizer = Callable[[Tensor, int], Tensor]
"""Maps uint8 [N, 3, H, W] and a side to float32 [N, 3, side, side] in 0 ... 255, in any memory order."""

_BAND = 128  # input pixels from one band to the next; an output reads only a neighborhood
_PIXELS = 2**20  # input pixels converted to float at a time


def tf1_bilinear(pixels: Tensor, side: int) -> Tensor:
    """Bilinear without antialiasing, aligned at the corner of pixel (0, 0): TensorFlow 1's resize.

    Inception was published with it; torch-fidelity and the evaluations of StyleGAN and ADM use it.
    """
    return _separable(pixels, side, "tf1-bilinear")


def torch_bilinear(pixels: Tensor, side: int) -> Tensor:
    """Bilinear without antialiasing, aligned at pixel centers: pytorch-fid."""
    return F.interpolate(pixels.float(), (side, side), mode="bilinear", align_corners=False)


def torch_bilinear_antialias(pixels: Tensor, side: int) -> Tensor:
    """Bilinear with antialiasing: torchmetrics' FID since 1.8."""
    return F.interpolate(pixels.float(), (side, side), mode="bilinear", align_corners=False, antialias=True)


def pil_bicubic(pixels: Tensor, side: int) -> Tensor:
    """Pillow's antialiased bicubic on floats, clipped to 0 ... 255: clean-fid."""
    return _separable(pixels, side, "pil-bicubic").clamp_(0, 255)


RESIZERS: Mapping[str, Resizer] = {
    "tf1-bilinear": tf1_bilinear,
    "torch-bilinear": torch_bilinear,
    "torch-bilinear-antialias": torch_bilinear_antialias,
    "pil-bicubic": pil_bicubic,
}
"""The resizers by their names in options and protocols."""


VALUE_MAPS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "(x-128)/128": lambda images: (images - 128).div_(128),
    "2x/255-1": lambda images: (images / 255).mul_(2).sub_(1),
}
"""Maps from 0 ... 255 to Inception's input, by name: TensorFlow's and its ports', and pytorch-fid's."""


def _separable(pixels: Tensor, side: int, kind: str) -> Tensor:
    """Resize columns and then rows by matrix products, a few images at a time, since they become floats.

    The result is channels-last: reordering between the products, while the images are small, is cheaper than
    reordering the result.
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
    """Resize [N, H, M] to [N, side, M]."""
    height = rows.shape[1]
    if kind == "tf1-bilinear":  # an output reads two rows, which is cheaper than a product
        low, high, share = (part.to(rows.device) for part in _tf1_grid(height, side))
        return rows[:, low].lerp_(rows[:, high], share[:, None])
    bands = _bands(kind, height, side, rows.device)
    return torch.cat([weights @ rows[:, start:stop] for start, stop, weights in bands], dim=1)


@lru_cache(maxsize=64)
def _bands(kind: str, size: int, side: int, device: torch.device) -> list[tuple[int, int, Tensor]]:
    """Cut the resize matrix [side, size] into bands of outputs, each with the inputs that it reads.

    The matrix of a large image is sparse: an output reads 2 to 14 of 1024 pixels.
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
    """TensorFlow's grid, in float32 as in the original: output i lies at i size / side.

    Returns:
        The indices of the inputs before and after each output, and the weight of the latter.

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
    """Pillow's weights: the cubic of Keys 1981 with a = -1/2, widened by the reduction factor.

    Source: `precompute_coeffs` in Pillow's Resample.c, in double precision as there.
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
