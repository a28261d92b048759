"""The published SWD and MS-SSIM as a plain NumPy and SciPy recipe.

This is a direct implementation of the published computation. `benchmarks/` uses it as the baseline, and the
tests as the oracle. It is neither tuned nor slower than necessary: 5x5 filtering by `scipy.ndimage`, patches
by flat index, float32 products, `np.sort`, whole sets of descriptors in memory.

The computation is that of the evaluation code of Karras et al. 2018, "Progressive Growing of GANs"; the
implementation is our own. `tests/benchmarks/test_plain_recipe.py` compares it with numbers made by running
theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.ndimage
import scipy.signal
from numpy.typing import NDArray

from pgmetrics.runtime import seeding

PATCHES_PER_IMAGE = 128
PATCH = 7
COMPONENTS = 3 * PATCH * PATCH
REPEATS = 4
DIRECTIONS_PER_REPEAT = 128
SMALLEST_LEVEL = 16

_BINOMIAL = np.array([1, 4, 6, 4, 1], dtype=np.float32)
KERNEL = np.outer(_BINOMIAL, _BINOMIAL) / 256

SCALE_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
WINDOW = 11
SIGMA = 1.5
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

Centers = Callable[[int, int, int, int, int], tuple[Integers, Integers]]
"""(first image, number of images, level index, height, width) -> columns x, rows y of the patches'
centers, each [images * PATCHES_PER_IMAGE], image by image."""

Directions = Callable[[int, int], Floats]
"""(level index, repeat) -> float32 [COMPONENTS, DIRECTIONS_PER_REPEAT], columns of length 1."""


# ---------------------------------------------------------------------------- random numbers


def drawn_centers(rng: seeding.Generator) -> Centers:
    """Draw centers uniformly over all places where the patch lies inside the image: all x, then all y."""

    def centers(first: int, count: int, level: int, height: int, width: int) -> tuple[Integers, Integers]:
        margin, num_patches = PATCH // 2, count * PATCHES_PER_IMAGE
        x = rng.integers(margin, width - margin, num_patches)
        y = rng.integers(margin, height - margin, num_patches)
        return x, y

    return centers


def drawn_directions(rng: seeding.Generator) -> Directions:
    """Draw new directions, uniform over the sphere, at every call."""

    def directions(level: int, repeat: int) -> Floats:
        return unit_columns(rng.standard_normal((COMPONENTS, DIRECTIONS_PER_REPEAT)))

    return directions


def unit_columns(matrix: NDArray[np.float64]) -> Floats:
    """Divide each column by its Euclidean norm, then round to float32."""
    return (matrix / np.sqrt(np.sum(np.square(matrix), axis=0, keepdims=True))).astype(np.float32)


# ---------------------------------------------------------------------------- pyramid


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Return the sizes of the levels, finest first: halved while both sides are even and remain >= 16."""
    sizes = []
    while min(height, width) >= SMALLEST_LEVEL:
        sizes.append((height, width))
        if height % 2 or width % 2:
            break
        height, width = height // 2, width // 2
    return sizes


def minibatch_size(side: int) -> int:
    """Return the number of images in a minibatch of the published evaluation."""
    return int(np.clip(8192 // side, 4, 256))


def pyr_down(images: Floats) -> Floats:
    """Blur, then keep even rows and columns."""
    return scipy.ndimage.convolve(images, KERNEL[None, None], mode="mirror")[:, :, ::2, ::2]


def pyr_up(images: Floats) -> Floats:
    """Insert zeros between the pixels, then blur with four times the kernel."""
    n, c, h, w = images.shape
    stuffed = np.zeros((n, c, 2 * h, 2 * w), dtype=images.dtype)
    stuffed[:, :, ::2, ::2] = images
    return scipy.ndimage.convolve(stuffed, 4 * KERNEL[None, None], mode="mirror")


def laplacian_pyramid(images: NDArray[Any], num_levels: int) -> list[Floats]:
    """Return band-pass levels, finest first, and the low-pass image last.

    Args:
        images: [N, C, H, W] in 0 ... 255, any dtype; not modified.
        num_levels: at least 1.

    Returns:
        float32 [N, C, H / 2^l, W / 2^l] for l = 0, 1, ...
    """
    levels = [images.astype(np.float32)]
    for _ in range(num_levels - 1):
        levels.append(pyr_down(levels[-1]))
        levels[-2] -= pyr_up(levels[-1])
    return levels


# ---------------------------------------------------------------------------- descriptors


def descriptors(level: Floats, x: Integers, y: Integers) -> Floats:
    """Extract 7x7 patches of every channel around the given centers.

    Args:
        level: float32 [N, 3, H, W].
        x: columns of the centers, [N * patches], image by image.
        y: rows of the centers, likewise.

    Returns:
        float32 [N * patches, 3, 7, 7]; the last two axes are column and row, in this order,
        as in the published layout. The directions' components are numbered by it.
    """
    n, c, h, w = level.shape
    patches_per_image = len(x) // n
    image = np.repeat(np.arange(n), patches_per_image)
    offset = np.arange(PATCH) - PATCH // 2

    channel = np.arange(c).reshape(1, c, 1, 1)
    column = x.reshape(-1, 1, 1, 1) + offset.reshape(1, 1, PATCH, 1)
    row = y.reshape(-1, 1, 1, 1) + offset.reshape(1, 1, 1, PATCH)
    flat = ((image.reshape(-1, 1, 1, 1) * c + channel) * h + row) * w + column
    return level.reshape(-1)[flat]


def finalize(minibatches: Sequence[Floats], statistics: type[np.floating[Any]] = np.float32) -> Floats:
    """Standardize the descriptors of a set: each channel gets mean 0 and population standard deviation 1.

    Args:
        minibatches: float32 [n, 3, 7, 7] each.
        statistics: dtype in which mean and deviation are reduced. The published code uses float32, which
            at 2^21 descriptors has a relative error of some 1e-4; float64 is exact.

    Returns:
        float32 [N, 147]. A constant channel becomes NaN, as in the published code.
    """
    whole = np.concatenate(minibatches)
    whole -= whole.mean(axis=(0, 2, 3), keepdims=True, dtype=statistics).astype(np.float32)
    whole /= whole.std(axis=(0, 2, 3), keepdims=True, dtype=statistics).astype(np.float32)
    return whole.reshape(len(whole), -1)


def describe(
    images: NDArray[np.uint8],
    centers: Centers,
    statistics: type[np.floating[Any]] = np.float32,
    minibatch: int | None = None,
) -> list[Floats]:
    """Return the standardized descriptors of a set of images, level by level, finest first.

    Args:
        images: uint8 [N, 3, H, W].
        centers: returns the patch centers; called minibatch by minibatch, level by level.
        statistics: see `finalize`.
        minibatch: images at a time; None means `minibatch_size`.

    Returns:
        float32 [N * 128, 147] per level.
    """
    sizes = level_sizes(*images.shape[2:])
    step = minibatch or minibatch_size(images.shape[2])
    collected: list[list[Floats]] = [[] for _ in sizes]
    for first in range(0, len(images), step):
        pyramid = laplacian_pyramid(images[first : first + step], len(sizes))
        for index, level in enumerate(pyramid):
            x, y = centers(first, len(level), index, *sizes[index])
            collected[index].append(descriptors(level, x, y))
    return [finalize(minibatches, statistics) for minibatches in collected]


# ---------------------------------------------------------------------------- distance


def distance(real: Floats, fake: Floats, directions: Floats) -> float:
    """Return the mean 1-Wasserstein distance of two equally large point sets along the directions.

    Args:
        real: float32 [N, 147].
        fake: float32 [N, 147].
        directions: float32 [147, K], columns of length 1.
    """
    projected_real = np.sort(real @ directions, axis=0)
    projected_fake = np.sort(fake @ directions, axis=0)
    return float(np.mean(np.abs(projected_real - projected_fake)))


def level_distance(real: Floats, fake: Floats, directions: Directions, level: int) -> float:
    """Return the mean of `distance` over the repeats, raw (the paper prints it times 1000)."""
    return float(np.mean([distance(real, fake, directions(level, repeat)) for repeat in range(REPEATS)]))


def swd(
    real: NDArray[np.uint8],
    fake: NDArray[np.uint8],
    centers_real: Centers,
    centers_fake: Centers,
    directions: Directions,
    statistics: type[np.floating[Any]] = np.float32,
) -> list[float]:
    """Return the sliced Wasserstein distance of each level, finest first, raw.

    The published average is the plain mean of these.

    Args:
        real: uint8 [N, 3, H, W].
        fake: uint8 [N, 3, H, W], equally many.
        centers_real: patch centers of the reals.
        centers_fake: patch centers of the fakes; the published code draws new ones.
        directions: the directions of each level and repeat.
        statistics: see `finalize`.
    """
    real_levels = describe(real, centers_real, statistics)
    fake_levels = describe(fake, centers_fake, statistics)
    return [
        level_distance(a, b, directions, level)
        for level, (a, b) in enumerate(zip(real_levels, fake_levels, strict=True))
    ]


# ---------------------------------------------------------------------------- MS-SSIM


def gaussian_window(size: int, sigma: float) -> NDArray[np.float64]:
    """Return a size x size Gaussian with sum 1; for even sizes the taps lie at half-integer offsets."""
    offset = np.arange(size) - (size - 1) / 2
    profile = np.exp(-np.square(offset) / (2 * sigma**2))
    window = np.outer(profile, profile)
    return window / window.sum()


def filter_valid(images: NDArray[Any], window: NDArray[np.float64]) -> NDArray[Any]:
    """Filter [N, C, H, W] wherever the window lies inside the image, which makes it smaller."""
    return scipy.signal.fftconvolve(images, window[None, None], mode="valid", axes=(2, 3))


def scale_terms(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return SSIM and its contrast-structure factor at one scale, each the mean over H, W and channels.

    Args:
        x: [N, C, H, W] in 0 ... 255.
        y: the other image of each pair.

    Returns:
        ssim [N], contrast-structure [N]; either can be negative.
    """
    size = min(WINDOW, *x.shape[2:])
    window = gaussian_window(size, size * SIGMA / WINDOW)
    mean_x, mean_y = filter_valid(x, window), filter_valid(y, window)
    variance_x = filter_valid(x * x, window) - mean_x * mean_x
    variance_y = filter_valid(y * y, window) - mean_y * mean_y
    covariance = filter_valid(x * y, window) - mean_x * mean_y

    luminance = (2 * mean_x * mean_y + C1) / (mean_x * mean_x + mean_y * mean_y + C1)
    contrast_structure = (2 * covariance + C2) / (variance_x + variance_y + C2)
    return (luminance * contrast_structure).mean(axis=(1, 2, 3)), contrast_structure.mean(axis=(1, 2, 3))


def halve(images: NDArray[Any]) -> NDArray[Any]:
    """Average every 2x2 square."""
    n, c, h, w = images.shape
    return images.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))


def ms_ssim_terms(
    first: NDArray[np.uint8], second: NDArray[np.uint8], dtype: type[np.floating[Any]] = np.float32
) -> NDArray[Any]:
    """Return the factors of MS-SSIM, not clipped: [N, 5], contrast-structure of scales 1 to 4, SSIM of 5."""
    x, y = first.astype(dtype), second.astype(dtype)
    terms = []
    for scale in range(len(SCALE_WEIGHTS)):
        if scale > 0:
            x, y = halve(x), halve(y)
        ssim, contrast_structure = scale_terms(x, y)
        terms.append(ssim if scale == len(SCALE_WEIGHTS) - 1 else contrast_structure)
    return np.stack(terms, axis=1)


def ms_ssim_scores(
    first: NDArray[np.uint8], second: NDArray[np.uint8], dtype: type[np.floating[Any]] = np.float32
) -> NDArray[Any]:
    """Return MS-SSIM of each pair; a negative mean at any scale makes it exactly 0.

    Args:
        first: uint8 [N, 3, H, W], both sides divisible by 16.
        second: the other image of each pair.
        dtype: dtype of the images. The published code uses float32, whose Fourier transforms leave errors
            of up to 2e-6 on smooth images; with float64 they are below 1e-12.

    Returns:
        [N]
    """
    return np.prod(np.maximum(ms_ssim_terms(first, second, dtype), 0) ** SCALE_WEIGHTS, axis=1)
