"""The sliced Wasserstein distance between Laplacian-pyramid patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from math import sqrt
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgmetrics.errors import OptionError, SampleError, StateError, check_number
from pgmetrics.functional.patches import (
    PATCH,
    ChannelStatistics,
    channel_moments,
    channel_statistics,
    gather_patches,
)
from pgmetrics.functional.pyramid import laplacian_pyramid, level_sizes
from pgmetrics.functional.sliced_wasserstein import Workspace, sliced_wasserstein
from pgmetrics.functional.sliced_wasserstein_influence import DescribedImages, sliced_influence
from pgmetrics.metrics.base import (
    Estimate,
    Metric,
    Side,
    State,
    StateKey,
    all_within,
    check_comparable,
    stored_array,
    stored_blocks,
)
from pgmetrics.metrics.influence import Influence
from pgmetrics.runtime import seeding
from pgmetrics.runtime.blocks import Block, IndexSet, block_length
from pgmetrics.runtime.seeding import Stream
from pgmetrics.runtime.spill import Storage
from pgmetrics.runtime.threads import share_out

CHANNELS = 3
COMPONENTS = PATCH * PATCH * CHANNELS

_SIDES: dict[Side, int] = {"real": 0, "fake": 1, "held-out": 2}

_KINDS = {"directions": "directions", "images": "images", "both": "images and directions"}
"""The values of `error`, and how results name the errors."""

_LARGEST = 256.0
"""Bound of stored values: residuals of uint8 images are within ±255, and rounding adds far less than 1."""

_MOST = 2**16
"""The largest number of patches per image and level, of directions per repeat, and of repeats."""

_FEW_DIRECTIONS = 100
"""With fewer directions, the name of an error over images and directions states their number, because their
spread is then a rough estimate. No verdict depends on the error over directions alone."""

_HALF_DIRECTIONS = 128
"""Directions used for the halves of the images, of which only the correlation matters."""

_PYRAMID_VALUES = 2**20
"""Values of the finest level worked on at once: 4 MB, which stay in the cache and in the allocator's
free list, where larger arrays would be fresh pages from the system every time."""


@dataclass(frozen=True)
class SlicedWasserstein(Metric):
    """SWD as published: patches of Laplacian levels, standardized per set, W1 over random directions.

    SWD is blind to brightness and contrast: the descriptors of each set are standardized by channel, so
    that fakes = a * x + b score like x. Patch centers are drawn separately for each side, so that the
    distance of a set to itself is small but not 0.

    Attributes:
        num_images: the largest number of images per side.
        patches_per_image: number of 7 x 7 x 3 patches per image and level.
        directions: number of random directions per repeat.
        repeats: how often new directions are drawn; the value is the mean over all of them.
        error: source of the standard errors: "directions", as published; "images", with the directions of
            the seed held fixed, for comparisons at that seed; or "both". An error over images takes several
            times as long as the distance itself.

    Source: section 5 of Karras et al. 2018; 16,384 images, 128 patches, 4 x 128 directions.
    """

    name: ClassVar[str] = "swd"
    two_sided: ClassVar[bool] = True
    equal_counts: ClassVar[bool] = True
    error_choices: ClassVar[tuple[str, ...]] = tuple(_KINDS)

    num_images: int = 16_384
    patches_per_image: int = 128
    directions: int = 128
    repeats: int = 4
    error: Literal["directions", "images", "both"] = "directions"

    def __post_init__(self) -> None:
        if self.error not in _KINDS:
            raise OptionError(f"swd has errors over {', '.join(_KINDS)}, not {self.error}")
        check_number("num_images of swd", self.num_images, 1, 2**63 - 1, whole=True)
        for name in ("patches_per_image", "directions", "repeats"):
            check_number(f"{name} of swd", getattr(self, name), 1, _MOST, whole=True)
        if self.directions * self.repeats < 2:
            raise OptionError("swd needs at least 2 directions in all, or there is no error estimate")

    def with_num_images(self, num_images: int) -> SlicedWasserstein:
        return replace(self, num_images=num_images)

    def usable(self, available: int, side: Side) -> int:
        if available < self.least:
            raise SampleError(f"swd needs at least 2 images of each side; there are {available}")
        return min(available, self.num_images)

    def check_resolution(self, height: int, width: int) -> None:
        level_sizes(height, width)

    def new_state(
        self,
        side: Side,
        *,
        resolution: tuple[int, int],
        seed: int = 0,
        source: str = "",
        storage: Storage | None = None,
        network: str = "",
    ) -> SlicedWassersteinState:
        return SlicedWassersteinState(self._key(side, resolution, seed, source), storage)

    def compute(self, *, real: State | None, fake: State | None) -> tuple[list[Estimate], list[str]]:
        reals, fakes = self._both(real, fake)
        n = len(reals.seen)
        if n != len(fakes.seen):
            raise SampleError(
                f"swd needs equally many real and generated images, at least 2; real has {n:,}, "
                f"fake has {len(fakes.seen):,}. num_images={min(n, len(fakes.seen))} takes the first of each"
            )
        notes = [note for side in (reals, fakes) for note in side.flat_channel_notes()]
        workspace = Workspace()
        per_level = {
            height: sliced_wasserstein(
                reals.descriptors(height, fakes.device),
                fakes.descriptors(height, fakes.device),
                self._directions(reals.key.seed, height),
                (reals.statistics(height), fakes.statistics(height)),
                workspace,
            )
            for height in reals.heights
        }
        values: dict[int | None, float] = {
            height: distances.mean().item() for height, distances in per_level.items()
        }
        values[None] = float(np.mean(list(values.values())))
        errors = self._errors(reals, fakes, per_level)
        return [
            Estimate(self.name, height, value, errors[height], self._error_kind, "fake", n, n)
            for height, value in values.items()
        ], notes

    def influences(self, *, real: State | None, fake: State | None) -> list[Influence]:
        """The influences on every level and on the mean over levels; the sides may differ in size."""
        reals, fakes = self._both(real, fake)
        return self._influences(reals, fakes, halves=min(len(reals.seen), len(fakes.seen)) >= 4)

    def scores(self, *, real: State | None, fake: State | None) -> list[Influence]:
        # Without halves, since the half of an image depends on its index.
        return self._influences(*self._both(real, fake), halves=False)

    def _both(
        self, real: State | None, fake: State | None
    ) -> tuple[SlicedWassersteinState, SlicedWassersteinState]:
        if not isinstance(real, SlicedWassersteinState) or not isinstance(fake, SlicedWassersteinState):
            raise StateError("swd compares a real and a fake state; one of them is missing")
        check_comparable(real.key, fake.key)
        if min(len(real.seen), len(fake.seen)) < 2:
            raise SampleError(
                f"swd needs at least 2 images of each side; real has {len(real.seen):,}, "
                f"fake has {len(fake.seen):,}"
            )
        return real, fake

    @property
    def _error_kind(self) -> str:
        number = self.directions * self.repeats
        few = self.error == "both" and number < _FEW_DIRECTIONS
        return f"images and {number} directions" if few else _KINDS[self.error]

    def _directions(self, seed: int, height: int) -> Tensor:
        # Sides share their directions; levels and repeats have their own.
        return torch.cat(
            [unit_directions(seed, height, repeat, self.directions) for repeat in range(self.repeats)]
        )

    def _errors(
        self, real: SlicedWassersteinState, fake: SlicedWassersteinState, per_level: Mapping[int, Tensor]
    ) -> dict[int | None, float]:
        """Standard errors by level; None stands for the mean over levels."""
        squares: dict[int | None, float] = dict.fromkeys([*per_level, None], 0.0)
        if self.error != "images":
            of_directions = {height: _stderr(values) ** 2 for height, values in per_level.items()}
            # Levels have independent directions, so the variances of their means add.
            of_mean = sum(of_directions.values()) / len(per_level) ** 2
            for level, square in [*of_directions.items(), (None, of_mean)]:
                squares[level] += square
        if self.error != "directions":
            for influence in self.influences(real=real, fake=fake):
                squares[influence.level] += influence.variance()
        return {level: sqrt(square) for level, square in squares.items()}

    def _influences(
        self, real: SlicedWassersteinState, fake: SlicedWassersteinState, halves: bool
    ) -> list[Influence]:
        workspace = Workspace()
        fits = [slice(None), slice(0, None, 2), slice(1, None, 2)] if halves else [slice(None)]
        per_level: dict[int | None, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
        for height in real.heights:
            directions = self._directions(real.key.seed, height)
            some = directions[:: max(1, len(directions) // _HALF_DIRECTIONS)]
            per_level[height] = [
                sliced_influence(
                    real.described(height, fake.device, fit),
                    fake.described(height, fake.device, fit),
                    part,
                    workspace,
                )
                for fit, part in zip(fits, (directions, some, some), strict=False)
            ]
        # The value is the mean over levels, so its influence is too.
        per_level[None] = [
            (np.mean([a for a, _ in level], axis=0), np.mean([b for _, b in level], axis=0))
            for level in zip(*per_level.values(), strict=True)
        ]
        influences = []
        for level, fitted in per_level.items():
            whole, *rest = (Influence(self.name, level, *sides) for sides in fitted)
            influences.append(replace(whole, halves=(rest[0], rest[1])) if rest else whole)
        return influences


@dataclass
class _Level:
    """The descriptors and moments of one level, by the first image of each block."""

    descriptors: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    moments: dict[int, NDArray[np.float64]] = field(default_factory=dict)


class SlicedWassersteinState(State):
    """A state that stores the descriptors: 128 x 147 float32 per image and level, 75 kB."""

    def __init__(self, key: StateKey, storage: Storage | None = None) -> None:
        super().__init__(key, storage)
        self.device = torch.device("cpu")  # of the last block; descriptors are stored on the CPU
        self._sizes = level_sizes(key.height, key.width)
        self._levels = {height: _Level() for height, _ in self._sizes}

    @property
    def heights(self) -> list[int]:
        """The levels' heights in pixels, finest first."""
        return [height for height, _ in self._sizes]

    def descriptors(self, height: int, device: torch.device) -> list[Tensor]:
        """A level's descriptors in index order: pieces float32 [n_i * patches, 147]."""
        chunks = self._levels[height].descriptors
        return [torch.from_numpy(chunks[start]).to(device) for start in sorted(chunks)]

    def described(self, height: int, device: torch.device, fit: slice) -> DescribedImages:
        """A level's descriptors and the moments of each image, in index order."""
        moments = self._levels[height].moments
        joined = torch.from_numpy(np.concatenate([moments[start] for start in sorted(moments)]))
        return DescribedImages(self.descriptors(height, device), joined, fit)

    def statistics(self, height: int) -> ChannelStatistics:
        """Mean and deviation of a level's channels over the whole set."""
        moments = self._levels[height].moments
        return channel_statistics([torch.from_numpy(moments[start]) for start in sorted(moments)])

    def flat_channel_notes(self) -> list[str]:
        """Notes on the levels in which a channel is constant."""
        notes = []
        for height in self.heights:
            flat = self.statistics(height).flat
            if flat:
                names = " and ".join("RGB"[channel] for channel in flat)
                notes.append(
                    f"channel {names} of the {self.key.side} images does not vary at level {height}; "
                    "it was standardized to zeros"
                )
        return notes

    def _update(self, block: Block) -> None:
        num = self.key.parameters["patches_per_image"]
        self.device = block.pixels.device
        corners = [
            patch_corners(self.key, size, block.start, block.stop, num, block.pixels.device)
            for size in self._sizes
        ]
        kept = [self.storage.room((len(block.pixels) * num, COMPONENTS), np.float32) for _ in self._sizes]

        def describe(first: int) -> list[Tensor]:
            images = slice(first, first + step)
            pyramid = laplacian_pyramid(block.pixels[images], len(self._sizes))
            moments = []
            for level, (rows, columns), place in zip(pyramid, corners, kept, strict=True):
                target = torch.from_numpy(place[first * num : (first + len(level)) * num])
                on_cpu = level.device.type == "cpu"
                patches = gather_patches(level, rows[images], columns[images], target if on_cpu else None)
                if not on_cpu:
                    target.copy_(patches)
                moments.append(channel_moments(patches, CHANNELS, len(level)))
            return moments

        # The step depends on the image size only, so that the results do not depend on the block.
        pixels = CHANNELS * self.key.height * self.key.width
        step = max(1, min(_PYRAMID_VALUES // pixels, block_length(self.key.height) // 4))
        if block.pixels.device.type != "cpu":
            step = len(block.pixels)
        pieces = share_out(describe, range(0, len(block.pixels), step))
        for height, patches_kept, moments in zip(self.heights, kept, zip(*pieces, strict=True), strict=True):
            self._levels[height].descriptors[block.start] = self.storage.keep(patches_kept)
            self._levels[height].moments[block.start] = torch.cat(moments).numpy()

    def _copy(self) -> SlicedWassersteinState:
        copy = SlicedWassersteinState(self.key, self.storage)
        copy._absorb(self)
        return copy

    def _shift(self, by: int) -> SlicedWassersteinState:
        moved = SlicedWassersteinState(self.key, self.storage)
        moved.device = self.device
        for height, level in self._levels.items():
            moved._levels[height] = _Level(
                {start + by: rows for start, rows in level.descriptors.items()},
                {start + by: rows for start, rows in level.moments.items()},
            )
        return moved

    def _absorb(self, other: SlicedWassersteinState) -> None:
        if len(other.seen):
            self.device = other.device
        for height, level in other._levels.items():
            self._levels[height].descriptors.update(level.descriptors)
            self._levels[height].moments.update(level.moments)

    def arrays(self) -> dict[str, NDArray[Any]]:
        starts = np.array(sorted(self._levels[self.key.height].moments), np.int64)
        arrays: dict[str, NDArray[Any]] = {"starts": starts}
        for height, level in self._levels.items():
            empty = np.empty((0, COMPONENTS), np.float32), np.empty((0, 2, CHANNELS), np.float64)
            arrays[f"descriptors_{height}"] = np.concatenate(
                [*(level.descriptors[s] for s in starts)] or [empty[0]]
            )
            arrays[f"moments_{height}"] = np.concatenate([*(level.moments[s] for s in starts)] or [empty[1]])
        return arrays

    def restore(self, arrays: Mapping[str, NDArray[Any]], seen: IndexSet) -> None:
        num, n = self.key.parameters["patches_per_image"], len(seen)
        blocks = stored_blocks(arrays, seen)
        cuts = pairwise([0, *accumulate(stop - start for start, stop in blocks)])
        places = {start: slice(*cut) for (start, _), cut in zip(blocks, cuts, strict=True)}
        levels = {}
        for height in self.heights:
            descriptors = stored_array(arrays, f"descriptors_{height}", np.float32, (n * num, COMPONENTS))
            moments = stored_array(arrays, f"moments_{height}", np.float64, (n, 2, CHANNELS))
            if not _could_be_images(descriptors, moments):
                raise StateError(f"level {height} has descriptors or moments that no images of bytes have")
            by_image = descriptors.reshape(n, num, COMPONENTS)
            levels[height] = _Level(
                {start: by_image[place].reshape(-1, COMPONENTS) for start, place in places.items()},
                {start: np.array(moments[place]) for start, place in places.items()},
            )
        self._levels = levels
        self.seen = seen


def _could_be_images(descriptors: NDArray[np.float32], moments: NDArray[np.float64]) -> bool:
    means, variances = moments[:, 0], moments[:, 1]
    return (
        all_within(descriptors, _LARGEST)
        and all_within(means, _LARGEST)
        and all_within(variances, _LARGEST**2)
        and not (variances < 0).any()
    )


def patch_corners(
    key: StateKey, size: tuple[int, int], start: int, stop: int, num: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Draw top left corners of patches of images start ... stop - 1, keyed by (seed, side, level, index).

    Args:
        key: the state's key, with seed and side.
        size: height and width of the level. The height is the level's part of the key, so that level 16 of
            a 64 px stage uses the positions of level 16 of a 1024 px stage.
        num: patches per image.

    Returns:
        int64 [stop - start, num] twice: rows in 0 ... height - 7, columns in 0 ... width - 7.
    """
    height, width = size
    side = _SIDES[key.side]
    drawn = seeding.words(
        key.seed, Stream.PATCHES, side, height, start=start, stop=stop, width=-(-num // 4) * 4
    )[:, :num]
    rows = seeding.below(drawn, height - PATCH + 1)
    columns = seeding.below(drawn >> np.uint64(32), width - PATCH + 1)
    return torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)


def unit_directions(seed: int, height: int, repeat: int, num: int) -> Tensor:
    """Draw directions uniformly on the sphere, keyed by (seed, level, repeat): float64 [num, 147]."""
    normal = seeding.generator(seed, Stream.DIRECTIONS, height, repeat).standard_normal((num, COMPONENTS))
    return torch.from_numpy(normal / np.linalg.norm(normal, axis=1, keepdims=True))


def _stderr(values: Tensor) -> float:
    return values.std().item() / sqrt(len(values))
