"""MS-SSIM of pairs of images, by the published formula, at every size from 16 px.

Let u = x + y and v = x - y. Window means are linear, so with the window's variances Var u and Var v

    contrast-structure = (2 cov + c2) / (Var x + Var y + c2) = 1 - 2 Var v / (Var u + Var v + 2 c2)
    luminance          = (2 mx my + c1) / (mx² + my² + c1)   = 1 - 2 mv² / (mu² + mv² + 2 c1)

and halving commutes with u and v. So a scale needs four filtered maps (u, v, u², v²) instead of five, and
very few passes over memory, which dominate the time. Variances do not depend on a constant, so the means of u
and v are subtracted first, which keeps float32 errors below 1e-6, and added back for the luminance.

The window is separable, and a blur along rows is a product with a banded matrix. Images are cut into tiles
and strips, so that the bands stay dense and the work stays in the processor's cache.

No bit of a pair's score may depend on the other pairs. Kernels may round differently for another shape, so
pairs are always processed in groups of a fixed size, padded with zeros. The loops use additions, products and
quotients that are rounded separately, because a fused multiply-add may be used in the middle of an array and
not at its end.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from pgmetrics.errors import SampleError
from pgmetrics.functional.float_precision import exact_float32
from pgmetrics.runtime.threads import share_out

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first; their sum is 1.0001, as published."""

_WINDOW = 11
_SIGMA = 1.5
_RANGE = 255.0
_C1 = (0.01 * _RANGE) ** 2
_C2 = (0.03 * _RANGE) ** 2

_TILE = 42  # outputs along a side of a tile, measured
_CHUNK_PIXELS = 128 * 128  # pixels of the pairs per step, so that the maps stay in the cache
_POWER_BLOCK = (
    64  # a multiple of every vector length, since another routine computes powers at an array's end
)


def check_size(height: int, width: int) -> None:
    """Refuse images that cannot be halved four times.

    Raises:
        SampleError: a side is not divisible by 16.
    """
    if height % 16 or width % 16 or not height * width:
        raise SampleError(
            f"ms-ssim halves images four times and needs both sides divisible by 16; these are "
            f"{width} x {height} pixels. resolution={max(16, min(height, width) // 16 * 16)} with a "
            "resize policy makes them fit."
        )


def ms_ssim_scores(first: Tensor, second: Tensor) -> Tensor:
    """Return the MS-SSIM of each pair, between 0 and 1, without gradients.

    A pair whose mean is negative at any scale scores exactly 0. A pair's score has the same bits in every
    batch.

    Args:
        first: uint8 or float [N, 3, H, W] in 0 ... 255; H and W divisible by 16.
        second: the other image of each pair; same shape, dtype and device.

    Returns:
        [N], float64 for float64 images and float32 otherwise. In float32 the error is below 1e-6 on
        photographs; if large flat areas of a pair differ by 200 levels or more it can reach 1e-4, similar to
        the published float32 code. Use float64 for such images.

    Raises:
        SampleError: the shapes differ, or a side is not divisible by 16.

    Source: Wang et al. 2003, as evaluated by Karras et al. 2018: channels are averaged before the
    clip and the product, the window shrinks with the image, and weights are not renormalized.
    """
    terms = ms_ssim_terms(first, second)
    padded = torch.cat((terms, terms.new_zeros(-len(terms) % _POWER_BLOCK, terms.shape[1])))
    scores = [terms.new_zeros(0)]
    for start in range(0, len(padded), _POWER_BLOCK):
        scores.append(_weighted_product(padded[start : start + _POWER_BLOCK]))
    return torch.cat(scores)[: len(terms)]


def _weighted_product(terms: Tensor) -> Tensor:
    product = torch.ones_like(terms[:, 0])
    for term, weight in zip(terms.clamp(min=0).unbind(1), SCALE_WEIGHTS, strict=True):
        product = product * term.contiguous().pow(weight)
    return product


def ms_ssim_terms(first: Tensor, second: Tensor) -> Tensor:
    """Return the factors of MS-SSIM before clipping: contrast-structure at scales 1 to 4, SSIM at scale 5.

    Each is a mean over the image and its channels, between -1 and 1.

    Args:
        first: as for `ms_ssim_scores`.
        second: likewise.

    Returns:
        [N, 5], finest scale first; dtype as for `ms_ssim_scores`.

    Raises:
        SampleError: as for `ms_ssim_scores`.
    """
    _check(first, second)
    dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    pixels = first.shape[-2] * first.shape[-1]
    # Groups bound the memory and are the threads' units of work; their size depends on the side alone.
    group = max(1, 8 * _CHUNK_PIXELS // pixels)
    parts = [slice(start, start + group) for start in range(0, len(first), group)]

    def part_terms(part: slice) -> Tensor:
        return _group_terms(first[part].to(dtype), second[part].to(dtype), group)

    empty = torch.empty(0, len(SCALE_WEIGHTS), dtype=dtype, device=first.device)
    with exact_float32():
        if first.device.type != "cpu":
            return torch.cat([empty, *map(part_terms, parts)])
        # For smaller images the interpreter is the bottleneck, and threads only add overhead.
        return torch.cat([empty, *share_out(part_terms, parts, threads=pixels >= _CHUNK_PIXELS)])


@torch.no_grad()
def _group_terms(x: Tensor, y: Tensor, group: int) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        maps = torch.stack((x + y, x - y), dim=1)
        # An integer offset keeps bytes exact, and halving preserves it.
        offset = maps.mean(-1, keepdim=True).mean(-2, keepdim=True).round()
        maps -= offset
        terms = []
        for _ in range(len(SCALE_WEIGHTS) - 1):
            terms.append(_scale_term(maps, None, group))
            maps = _halve(maps)
        terms.append(_scale_term(maps, offset, group))
        return torch.stack(terms, dim=1)


def _check(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.dtype != second.dtype:
        raise SampleError(
            f"ms-ssim compares images in pairs; one side has shape {list(first.shape)} and dtype "
            f"{first.dtype}, the other {list(second.shape)} and {second.dtype}"
        )
    if first.ndim != 4 or first.shape[1] != 3:
        raise SampleError(f"ms-ssim needs images [N, 3, H, W]; these have shape {list(first.shape)}")
    check_size(*first.shape[2:])


def _scale_term(maps: Tensor, offset: Tensor | None, group: int) -> Tensor:
    """Return the mean contrast-structure of each pair, or the mean SSIM if there is an offset.

    Pairs are processed in groups of a fixed size, the last one padded with zeros, so that the same kernels
    run on the same shapes for every N.

    Args:
        maps: u and v, [N, 2, 3, H, W].
        offset: the values subtracted from u and v, [N, 2, 3, 1, 1].
        group: an upper limit on N.
    """
    length = min(group, max(1, _CHUNK_PIXELS // (maps.shape[-2] * maps.shape[-1])))
    means = [maps.new_zeros(0)]
    for start in range(0, len(maps), length):
        chunk = _filled_up(maps[start : start + length], length)
        chunk_offset = None if offset is None else _filled_up(offset[start : start + length], length)
        means.append(_chunk_means(chunk, chunk_offset))
    return torch.cat(means)[: len(maps)]


def _filled_up(chunk: Tensor, length: int) -> Tensor:
    missing = length - len(chunk)
    return torch.cat((chunk, chunk.new_zeros(missing, *chunk.shape[1:]))) if missing else chunk


def _chunk_means(maps: Tensor, offset: Tensor | None) -> Tensor:
    n, _, c, height, width = maps.shape
    size = min(_WINDOW, height, width)
    rows_out, columns_out = height - size + 1, width - size + 1
    total = torch.zeros(n, dtype=torch.float64, device=maps.device)
    for top, bottom in _spans(rows_out, max(_TILE, _CHUNK_PIXELS // width)):
        blurred = _blur_rows(maps[:, :, :, top : bottom + size - 1], size)
        for upper, lower in _spans(bottom - top, _TILE):
            filtered = _blur_columns(blurred[:, upper : lower + size - 1], size)
            loss = _loss(filtered.view(n, 2, 2, c, lower - upper, columns_out), offset)
            # Sum rows first: the sum of a whole image could be split between threads.
            total += loss.sum(-1).view(n, -1).double().sum(1)
    return (1 - 2 * total / (c * rows_out * columns_out)).to(maps.dtype)


def _loss(filtered: Tensor, offset: Tensor | None) -> Tensor:
    """Return (1 - contrast-structure) / 2 at every pixel, or (1 - SSIM) / 2 if there is an offset.

    Args:
        filtered: [N, 2, 2, C, H, W]: u and v, then their squares; overwritten.
        offset: [N, 2, C, 1, 1], added to u and v.
    """
    mean, square = filtered[:, 0], filtered[:, 1]
    variance = square.sub_(mean * mean)
    denominator = (variance[:, 0] + variance[:, 1]).add_(2 * _C2)
    structure = variance[:, 1] / denominator
    if offset is None:
        return structure
    sum_squared, difference_squared = (mean + offset).square().unbind(1)
    luminance = difference_squared / (sum_squared + difference_squared + 2 * _C1)
    # 1 - 2 loss = (1 - 2 structure)(1 - 2 luminance)
    return structure + luminance - 2 * structure * luminance


def _blur_rows(maps: Tensor, size: int) -> Tensor:
    """Filter maps and their squares along rows: [N, 2, C, H, W] to [N * 2 * 2 * C, H, W']."""
    n, k, c, height, width = maps.shape
    stacked = maps.new_empty(n, 2, k, c, height, width)
    stacked[:, 0] = maps
    torch.mul(maps, maps, out=stacked[:, 1])
    rows = stacked.view(-1, width)
    blurred = rows.new_empty(len(rows), width - size + 1)
    for left, right in _spans(width - size + 1, _TILE):
        band = _band(size, right - left, maps.dtype, maps.device)
        torch.mm(rows[:, left : right + size - 1], band, out=blurred[:, left:right])
    return blurred.view(-1, height, width - size + 1)


def _blur_columns(planes: Tensor, size: int) -> Tensor:
    """Filter along columns: [P, H, W] to [P, H', W]."""
    band = _band(size, planes.shape[1] - size + 1, planes.dtype, planes.device).T
    return torch.bmm(band.expand(len(planes), -1, -1), planes)


def _halve(maps: Tensor) -> Tensor:
    """Average every 2x2 square; adding slices is several times faster than pooling."""
    rows = maps[..., ::2, :] + maps[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]).mul_(0.25)


def _spans(length: int, longest: int) -> list[tuple[int, int]]:
    """Cut 0 ... length into nearly equal pieces, none longer than `longest`."""
    count = -(-length // longest)
    ends = [length * k // count for k in range(count + 1)]
    return list(pairwise(ends))


@lru_cache(maxsize=64)
def _band(size: int, outputs: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix [outputs + size - 1, outputs] whose product with rows is their valid convolution."""
    offset = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    sigma = size * _SIGMA / _WINDOW
    window = torch.exp(-(offset**2) / (2 * sigma**2))
    window /= window.sum()
    if dtype == torch.float32:
        # The rounded weights must sum to exactly 1, or a flat area would appear to have a variance.
        window = (window * 2**23).round() / 2**23
        middle = slice((size - 1) // 2, size // 2 + 1)
        window[middle] += (1 - window.sum()) / len(window[middle])
    band = torch.zeros(outputs + size - 1, outputs, dtype=torch.float64)
    for tap, weight in enumerate(window):
        band.diagonal(-tap).fill_(weight)
    return band.to(device, dtype)
