"""The procedural data set: dead leaves at any power-of-two resolution, determined by a seed.

Opaque shapes cover each other. Their radii have the density r^-3, so that every octave of sizes covers an
equal share of the image; of simple models this one has statistics closest to those of photographs (Lee,
Mumford and Huang 2001). Colors vary together, as under one light, and shapes have shading and stripes.

The code uses only +, -, ×, ÷, square roots and comparisons, which IEEE 754 defines to the bit, so that
every machine makes the same images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import SourceError
from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream
from pgmetrics.sources.base import IDENTITY, MOST_IMAGES, ImageSource, listed

VERSION = 1  # part of the identity: raise it whenever a pixel changes
SMALLEST, LARGEST = 4, 1024

_BASE = 64  # smaller images are means over squares of this size, so that all sizes agree
_BANDS = 7  # octaves of radii: from 1/2 of the side down to 1/256
_FINEST = 2  # samples: bands with smaller radii are omitted
_MOST = tuple(3 * 4**band // 2 for band in range(1, _BANDS + 1))  # shapes per band of a busy image
_HEAD = 2  # rows of random words for the whole image; one row per shape follows, the largest first
_STRIDE = 1 << 20  # rows between two images, more than an image needs
_CHUNK = 1 << 15  # elements of a temporary that stays in the second-level cache
_HALF_WINDOWS = np.array([2, 3, 5, 8, 12, 20])  # samples; larger shapes are drawn singly

Floats = NDArray[np.float32]


class DeadLeaves(ImageSource):
    """Images of overlapping shapes; image i depends only on (seed, i).

    The scene does not depend on the resolution: up to 64 pixels an image equals the box-downscaled image of
    64 pixels, except for rounding; larger images add finer shapes and stripes.
    """

    in_workers = True
    _digests_pixels = False

    def __init__(self, resolution: int = 32, n: int = 50_000, seed: int = 0) -> None:
        super().__init__()
        if not SMALLEST <= resolution <= LARGEST or resolution & (resolution - 1):
            raise SourceError(
                f"synthetic:leaves has resolutions 4, 8, 16 ... 1024, not {resolution}; "
                "--resize box brings one of these to any other"
            )
        if not 1 <= n <= MOST_IMAGES or not 0 <= seed <= seeding.LARGEST_SEED:
            raise SourceError(
                f"synthetic:leaves needs n from 1 to {MOST_IMAGES:,} and seed from 0 to 2**128 - 1, "
                f"not n={n}, seed={seed}"
            )
        self._side = resolution
        self._n = n
        self._seed = seed
        self.name = f"synthetic:leaves,resolution={resolution},n={n},seed={seed}"

    def __len__(self) -> int:
        return self._n

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels of every image."""
        return self._side, self._side

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """Identify images by the recipe and their indices; the declared number of images does not matter."""
        recipe = f"resolution={self._side},seed={self._seed},version={VERSION}"
        return f"{IDENTITY}synthetic:leaves,{recipe},images={listed(indices)}"

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = np.empty((len(indices), 3, self._side, self._side), np.uint8)
        for place, index in zip(images, indices, strict=True):
            render(self._seed, index, place)
        return images


class _Outlines(NamedTuple):
    """Outlines of the K shapes of an image, the lowest first; lengths are in image sides.

    Attributes:
        center: [K, 2], down and right, like every pair below.
        reach: [K, 2], half the height and width of a bounding box.
        axes: [K, 2, 2], the directions of both axes, each divided by its half length.
        corner: [K], which makes a shape an ellipse, a rectangle or a star; see `_inside`.
    """

    center: Floats
    reach: Floats
    axes: Floats
    corner: Floats


class _Surfaces(NamedTuple):
    """Surfaces of the background and then of the shapes, the lowest first.

    Attributes:
        color: [3, 1 + K], RGB, 0 to 1.
        shading: [3, 1 + K], brightness at the image's origin and its change down and right.
        wave: [3, 1 + K], phase of the stripes at the origin in periods, and its change down and right.
        stripes: [1 + K], amplitude of the stripes.
        light: [2], change of illumination across the image.
    """

    color: Floats
    shading: Floats
    wave: Floats
    stripes: Floats
    light: Floats


def render(seed: int, index: int, image: NDArray[np.uint8]) -> None:
    """Draw image `index` into `image`, uint8 [3, R, R]."""
    side = image.shape[1]
    samples = max(side, _BASE)
    factor = samples // side
    outlines, surfaces = _draw(seed, index, samples)
    top = _pile(outlines, samples)
    rows = max(_CHUNK // samples // factor, 1) * factor
    for first in range(0, samples, rows):
        last = min(first + rows, samples)
        colors = _shade(surfaces, top[first : last + 1], first, samples)
        # A pixel is the mean of the samples at its corners, for smooth edges at one sample per pixel.
        colors = colors[:, :-1] + colors[:, 1:]
        colors = colors[:, :, :-1] + colors[:, :, 1:]
        # Added one after the other, since the order of a sum over an axis depends on the machine.
        colors = reduce(np.add, [colors[:, k::factor] for k in range(factor)])
        colors = reduce(np.add, [colors[:, :, k::factor] for k in range(factor)])
        colors *= np.float32(255 / (4 * factor * factor))
        image[:, first // factor : last // factor] = np.rint(colors, out=colors)


def _draw(seed: int, index: int, samples: int) -> tuple[_Outlines, _Surfaces]:
    """Draw the random outlines and surfaces of an image of `samples` × `samples` points."""
    bands = [b for b in range(1, _BANDS + 1) if samples >= _FINEST << (b + 1)]
    table = seeding.words(
        seed,
        Stream.SYNTHETIC,
        start=index * _STRIDE,
        stop=index * _STRIDE + _HEAD + sum(_MOST[: len(bands)]),
        width=4,
    )
    # Four words give sixteen numbers of 16 bits, the least significant first on every machine.
    uniform = (table.astype("<u8", copy=False).view("<u2") + np.float32(0.5)) / np.float32(65536)
    a, b = uniform[0], uniform[1]

    # Properties of the whole image vary between images as they do between photographs.
    # NumPy 1 promotes a Python number and a float32 scalar to float64, so constants are float32 here.
    f = np.float32
    mean = np.stack([f(0.2) + f(0.6) * a[0], f(0.24) * (a[1] + a[2] - f(1)), f(0.1) * (a[3] + a[4] - f(1))])
    spread = np.stack([f(0.1) + f(0.4) * a[5], f(0.03) + f(0.25) * a[6] * a[7], f(0.02) + f(0.1) * a[8]])
    light = f(0.6) * (a[9:11] - f(0.5))
    round_share, star_share = f(0.2) + f(0.6) * a[11], f(0.15) * a[12]
    contrast = f(0.6) * a[13]  # of stripes
    crowd = f(0.5) + f(0.5) * b[0]  # of shapes
    thinning = f(0.55) + f(0.35) * b[1]  # ratio of shapes from octave to octave

    rows, start = [], _HEAD
    for band, most in zip(bands, _MOST, strict=False):
        rows.append(np.arange(start, start + int(f(most) * crowd * thinning ** f(band - 1))))
        start += most
    shape = uniform[np.concatenate(rows)]
    octave = np.repeat(np.float32(0.5) ** np.array(bands, np.float32), [len(r) for r in rows])
    order = np.argsort(shape[:, 3], kind="stable")  # from the lowest to the topmost
    shape, octave = shape[order], octave[order]
    # Radii from half the octave's upper end to all of it, distributed as r^-3, by inversion.
    radius = octave / np.sqrt(4 - 3 * shape[:, 2])

    center = shape[:, :2] * (1 + 2 * radius[:, None]) - radius[:, None]
    corner = np.where(shape[:, 6] < round_share, 1, np.where(shape[:, 6] > f(1) - star_share, 4, 0))
    corner = corner.astype(np.float32)
    long = radius * np.sqrt((1 + np.minimum(corner, 1)) / 2)
    short = long * (np.float32(0.3) + np.float32(0.7) * shape[:, 5])
    direction = _directions(shape[:, 4])
    across = np.stack([direction[:, 1], -direction[:, 0]], axis=1)
    reach = np.abs(direction) * long[:, None] + np.abs(across) * short[:, None]
    outlines = _Outlines(
        center=center,
        reach=np.minimum(reach, radius[:, None]),
        axes=np.stack([direction / long[:, None], across / short[:, None]], axis=1),
        corner=corner,
    )

    slope = (shape[:, 10:12] - np.float32(0.5)) / (2 * radius[:, None])
    period = radius * (np.float32(0.12) + np.float32(0.8) * shape[:, 12] * shape[:, 12])
    # Stripes too fine for the sampling fade into their mean, as they would behind a lens.
    carried = np.clip(period * np.float32(samples / 3) - 1, 0, 1)
    surfaces = _Surfaces(
        color=_rgb(mean, spread, np.concatenate([b[None, 2:5], shape[:, 7:10]])),
        shading=_plane(np.ones_like(radius), slope, center, on_ground=1),
        wave=_plane(shape[:, 14], _directions(shape[:, 13]) / period[:, None], center, on_ground=0),
        stripes=np.append(np.float32(0), contrast * np.maximum(2 * shape[:, 15] - 1, 0) * carried),
        light=light,
    )
    return outlines, surfaces


def _directions(uniform: Floats) -> Floats:
    """Unit vectors over half a turn, [K, 2], without sine and cosine, which differ between machines."""
    t = 2 * uniform - 1
    squared = t * t
    return np.stack([2 * t / (1 + squared), (1 - squared) / (1 + squared)], axis=1)


def _plane(value: Floats, slope: Floats, center: Floats, on_ground: float) -> Floats:
    """Planes with a given value at each shape's center, as (value at the origin, slopes): [3, 1 + K]."""
    at_origin = value - slope[:, 0] * center[:, 0] - slope[:, 1] * center[:, 1]
    ground = np.array([[on_ground], [0], [0]], np.float32)
    return np.concatenate([ground, np.stack([at_origin, slope[:, 0], slope[:, 1]])], axis=1)


def _rgb(mean: Floats, spread: Floats, uniform: Floats) -> Floats:
    """Colors around a mean in luminance, blue to red, and magenta to green: [3, K]."""
    luminance, warm, green = (mean + spread * (2 * uniform - 1)).T
    return np.stack([luminance + warm - green, luminance + green, luminance - warm - green])


def _pile(outlines: _Outlines, samples: int) -> NDArray[np.int32]:
    """The topmost shape at every sample, counted from 1; 0 is the ground: [samples + 1, samples + 1]."""
    margin = 2 * int(_HALF_WINDOWS[-1])
    padded = np.zeros((samples + 1 + 2 * margin,) * 2, np.int32)
    top = padded[margin:-margin, margin:-margin]
    half = np.ceil(outlines.reach.max(axis=1) * np.float32(samples)).astype(np.int64)
    nearest = np.rint(outlines.center * np.float32(samples)).astype(np.int64)
    # Large shapes are drawn first, in order; small shapes are then drawn where nothing higher lies.
    for k in np.flatnonzero(half > _HALF_WINDOWS[-1]):
        _lay_large(top, outlines, int(k), samples)
    groups = np.searchsorted(_HALF_WINDOWS, half)
    for group, window in enumerate(_HALF_WINDOWS.tolist()):
        touching = (nearest >= -window) & (nearest <= samples + window)
        members = np.flatnonzero((groups == group) & touching.all(axis=1))
        step = max(_CHUNK // (2 * window + 1) ** 2, 1)
        for first in range(0, len(members), step):
            chunk = members[first : first + step]
            _lay_small(padded, outlines, chunk, nearest[chunk], window, margin, samples)
    return top


def _lay_large(top: NDArray[np.int32], outlines: _Outlines, k: int, samples: int) -> None:
    low = np.maximum(np.ceil((outlines.center[k] - outlines.reach[k]) * samples), 0).astype(np.int64)
    high = np.minimum(np.floor((outlines.center[k] + outlines.reach[k]) * samples), samples).astype(np.int64)
    if (low > high).any():
        return  # out of the frame
    down, right = (
        np.arange(low[i], high[i] + 1, dtype=np.float32) / np.float32(samples) - outlines.center[k, i]
        for i in (0, 1)
    )
    axes = outlines.axes[k]
    step = max(_CHUNK // max(len(right), 1), 1)  # rows whose temporaries stay in the cache
    for first in range(0, len(down), step):
        strip = down[first : first + step, None]
        u = axes[0, 0] * strip + axes[0, 1] * right
        v = axes[1, 0] * strip + axes[1, 1] * right
        y = int(low[0]) + first
        place = top[y : y + len(strip), low[1] : high[1] + 1]
        np.copyto(place, k + 1, where=_inside(u, v, outlines.corner[k]))


def _lay_small(
    padded: NDArray[np.int32],
    outlines: _Outlines,
    members: NDArray[np.int64],
    nearest: NDArray[np.int64],
    window: int,
    margin: int,
    samples: int,
) -> None:
    """Lay many shapes of one size at once, in square windows around their centers."""
    offsets = np.arange(-window, window + 1)
    wide = padded.shape[0]
    points = nearest[:, :, None] + offsets  # [K, 2, W]
    distance = points.astype(np.float32) / np.float32(samples) - outlines.center[members][:, :, None]
    along = outlines.axes[members][..., None] * distance[:, None]  # [K, axis, 2, W]
    u, v = (along[:, axis, 0, :, None] + along[:, axis, 1, None, :] for axis in (0, 1))
    inside = _inside(u, v, outlines.corner[members][:, None, None])
    places = (points[:, 0] + margin)[:, :, None] * wide + (points[:, 1] + margin)[:, None, :]
    places = places[inside]
    names = np.repeat((members + 1).astype(np.int32), np.count_nonzero(inside, axis=(1, 2)))
    flat = padded.reshape(-1)
    above = names > flat[places]
    # Where several members cover a sample the last assignment wins, and members ascend.
    flat[places[above]] = names[above]


def _inside(u: Floats, v: Floats, corner: Floats) -> NDArray[np.bool_]:
    """Whether max(u², v²) + corner × min(u², v²) < 1: 0 is a rectangle, 1 an ellipse, more a star."""
    u *= u
    v *= v
    least = np.minimum(u, v)
    least *= corner - np.float32(1)
    u += v
    u += least
    return u < 1


def _shade(surfaces: _Surfaces, top: NDArray[np.int32], first_row: int, samples: int) -> Floats:
    """Colors of samples, given the topmost shape at each: [3, rows, samples + 1], 0 to 1."""
    y = (np.arange(first_row, first_row + len(top), dtype=np.float32) / np.float32(samples))[:, None]
    x = np.arange(top.shape[1], dtype=np.float32) / np.float32(samples)
    shape = top.astype(np.intp)
    wave = _evaluate(surfaces.wave, shape, y, x)
    wave -= np.floor(wave)
    wave -= np.float32(0.5)
    wave *= 8 - 16 * np.abs(
        wave
    )  # two parabolas approximate a sine to 6 percent, with the same bits on every machine
    wave *= surfaces.stripes.take(shape)
    brightness = _evaluate(surfaces.shading, shape, y, x)
    brightness += wave
    down, right = surfaces.light
    brightness *= (1 + down * (y - np.float32(0.5))) + right * (x - np.float32(0.5))
    colors = np.stack([channel.take(shape) for channel in surfaces.color])
    colors *= brightness
    np.clip(colors, 0, 1, out=colors)
    return colors


def _evaluate(planes: Floats, top: NDArray[np.intp], y: Floats, x: Floats) -> Floats:
    value: Floats = planes[1].take(top)
    value *= y
    value += planes[0].take(top)
    slope = planes[2].take(top)
    slope *= x
    value += slope
    return value
