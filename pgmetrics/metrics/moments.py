"""Moments of features: what a Fréchet distance accumulates of a side, or reads from another tool's file."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgmetrics.errors import StateError
from pgmetrics.functional.float_precision import double
from pgmetrics.functional.frechet import GaussianMoments, merged
from pgmetrics.metrics.base import State, StateKey, stored_array
from pgmetrics.metrics.feature_rows import check_features
from pgmetrics.runtime.blocks import Block, FeatureBlock, IndexSet
from pgmetrics.runtime.spill import Storage

CHUNK = 64
"""Images whose features enter the moments together, in one pass over a D x D matrix."""

_BAND = 64  # rows of a scatter that are checked at once


class MomentsState(State):
    """Moments of the features of each group of images, 8 D² bytes each; or moments from a file.

    Image i belongs to chunk i // 64, and the chunk to group chunk % groups. A chunk enters its group when
    all its rows have arrived; rows of incomplete chunks wait. So the division into blocks changes no bit as
    long as chunks are completed in the same order, and another order changes only the rounding.
    """

    movable: ClassVar[bool] = False

    def __init__(self, key: StateKey, storage: Storage | None = None) -> None:
        super().__init__(key, storage)
        self.device = torch.device("cpu")
        self._groups: dict[int, GaussianMoments] = {}
        # Groups whose scatter no other state shares: updating in place takes a third of the time of a copy.
        self._own: set[int] = set()
        self._waiting: dict[int, dict[int, Tensor]] = {}  # chunk -> first image -> its rows
        self._fitted: tuple[Tensor, Tensor] | None = None
        self._count: int | None = None

    @classmethod
    def from_moments(
        cls, mean: NDArray[Any], covariance: NDArray[Any], key: StateKey, count: int | None = None
    ) -> MomentsState:
        """Make a state without images from a mean and covariance in a statistics file.

        Args:
            mean: [D].
            covariance: [D, D], with any divisor.
            key: key of the state with which it will be compared, with side "real".
            count: number of images, if the file holds it.

        Raises:
            StateError: the shapes do not fit each other, a value is not finite, or the matrix is no
                covariance: it is not symmetric, or has a negative eigenvalue beyond rounding.
        """
        state = cls(key)
        state._fitted = _checked(np.asarray(mean), np.asarray(covariance))
        state._count = count
        return state

    @property
    def given(self) -> bool:
        """Whether the moments came from a file, without images."""
        return self._fitted is not None

    @property
    def count(self) -> int | None:
        """Number of images; None if the moments are from a file that does not hold it."""
        return self._count if self.given else len(self.seen)

    @property
    def width(self) -> int | None:
        """Number of features per image; None before the first image."""
        if self._fitted is not None:
            return len(self._fitted[0])
        for group in self._groups.values():
            return len(group.mean)
        return next((rows.shape[1] for parts in self._waiting.values() for rows in parts.values()), None)

    @property
    def groups(self) -> list[GaussianMoments]:
        """Moments of the groups that have images, waiting rows included."""
        groups = dict(self._groups)
        self._own.clear()
        for chunk in sorted(self._waiting):
            parts = self._waiting[chunk]
            number, rows = self._number(chunk), torch.cat([parts[start] for start in sorted(parts)])
            before = groups.get(number)
            groups[number] = GaussianMoments.of(rows) if before is None else before.with_rows(rows)
        return [groups[number] for number in sorted(groups)]

    @property
    def outnumbers_features(self) -> bool:
        """Whether there are more images than features even without the largest group."""
        largest = max((group.count for group in self.groups), default=0)
        return self.width is not None and len(self.seen) - largest > self.width

    def moments(self) -> GaussianMoments:
        """Return the moments of all images together.

        Raises:
            StateError: there are no images, or the state came from a file.
        """
        if self.given or not len(self.seen):
            raise StateError(f"the {self.key.side} side has no images to take moments of")
        return merged(self.groups)

    def fitted(self, ddof: int) -> tuple[Tensor, Tensor]:
        """Return mean and covariance: float64 [D] and [D, D]; those of a file are unchanged."""
        if self._fitted is not None:
            return self._fitted
        moments = self.moments()
        return moments.mean, moments.covariance(ddof)

    def to(self, device: torch.device) -> MomentsState:
        """Return the state on another device; this one is unchanged."""
        if device == self.device:
            return self
        moved = self._copy()
        moved.device = device
        moved._groups = {number: group.to(device) for number, group in self._groups.items()}
        moved._waiting = {
            chunk: {start: rows.to(device) for start, rows in parts.items()}
            for chunk, parts in self._waiting.items()
        }
        if self._fitted is not None:
            moved._fitted = self._fitted[0].to(device), self._fitted[1].to(device)
        return moved

    def _check(self, block: Block | FeatureBlock) -> None:
        self._refuse_if_given()
        check_features(block, self.key, self.width)

    def _update(self, block: FeatureBlock) -> None:
        rows = double(block.features)
        self.device = rows.device
        for chunk in range(block.start // CHUNK, -(-block.stop // CHUNK)):
            start, stop = max(block.start, chunk * CHUNK), min(block.stop, (chunk + 1) * CHUNK)
            part = rows[start - block.start : stop - block.start]
            if stop - start == CHUNK:
                self._add(chunk, part)
            else:
                # A copy even of float64: the caller may use its memory again.
                self._waiting.setdefault(chunk, {})[start] = part.clone()
                self._complete(chunk)

    def _complete(self, chunk: int) -> None:
        parts = self._waiting[chunk]
        if sum(map(len, parts.values())) == CHUNK:
            self._add(chunk, torch.cat([parts[start] for start in sorted(parts)]))
            del self._waiting[chunk]

    def _number(self, chunk: int) -> int:
        return int(chunk % self.key.parameters["groups"])

    def _add(self, chunk: int, rows: Tensor) -> None:
        number = self._number(chunk)
        before = self._groups.get(number)
        if before is None:
            self._groups[number] = GaussianMoments.of(rows)
        else:
            self._groups[number] = before.with_rows(rows, reuse=number in self._own)
        self._own.add(number)

    def _copy(self) -> MomentsState:
        copy = MomentsState(self.key, self.storage)
        copy.device = self.device
        copy.seen = self.seen
        self._own.clear()
        copy._groups = dict(self._groups)
        copy._waiting = {chunk: dict(parts) for chunk, parts in self._waiting.items()}
        copy._fitted, copy._count = self._fitted, self._count
        return copy

    def _absorb(self, other: MomentsState) -> None:
        self._refuse_if_given()
        other._refuse_if_given()
        if self.width is not None and other.width is not None and self.width != other.width:
            raise StateError(f"cannot merge moments of {self.width} features with moments of {other.width}")
        if self.width is None:
            self.device = other.device
        other = other.to(self.device)
        other._own.clear()
        for number, group in other._groups.items():
            mine = self._groups.get(number)
            self._groups[number] = group if mine is None else mine.merge(group)
        for chunk, parts in other._waiting.items():
            self._waiting.setdefault(chunk, {}).update(parts)
            self._complete(chunk)

    def _refuse_if_given(self) -> None:
        if self.given:
            raise StateError("moments from a statistics file cannot be added to: their images are not known")

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The groups' moments, 8 D² bytes each as in memory, and the rows that wait; or the file's."""
        if self._fitted is not None:
            mean, covariance = (part.cpu().numpy() for part in self._fitted)
            return {"mean": mean, "covariance": covariance, "count": np.array(self._count or 0, np.int64)}
        width, numbers = self.width or 0, sorted(self._groups)
        groups = [self._groups[number] for number in numbers]
        scatters = np.empty((len(groups), width, width))
        for place, group in zip(scatters, groups, strict=True):
            place[:] = group.scatter.cpu().numpy()
        waiting = {start: rows for parts in self._waiting.values() for start, rows in parts.items()}
        rows = [waiting[start].cpu().numpy() for start in sorted(waiting)]
        return {
            "numbers": np.array(numbers, np.int64),
            "counts": np.array([group.count for group in groups], np.int64),
            "means": np.stack([*(group.mean.cpu().numpy() for group in groups)] or [np.empty(width)])[
                : len(groups)
            ],
            "scatters": scatters,
            "waiting_starts": np.array(sorted(waiting), np.int64),
            "waiting_lengths": np.array([len(part) for part in rows], np.int64),
            "waiting_rows": np.concatenate([*rows, np.empty((0, width))]),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]], seen: IndexSet) -> None:
        if "covariance" in arrays:
            self._restore_given(arrays, seen)
            return
        groups = self._restored_groups(arrays, seen)
        waiting = _restored_waiting(arrays, seen)
        widths = {len(group.mean) for group in groups.values()} | {rows.shape[1] for rows in waiting.values()}
        if len(widths) > 1:
            raise StateError(
                f"moments and rows of {' and '.join(map(str, sorted(widths)))} features were stored"
            )
        self._groups, self._waiting, self.seen = groups, {}, seen
        for start, rows in waiting.items():
            self._waiting.setdefault(start // CHUNK, {})[start] = rows

    def _restore_given(self, arrays: Mapping[str, NDArray[Any]], seen: IndexSet) -> None:
        count = int(stored_array(arrays, "count", np.int64, ()))
        if len(seen) or count < 0:
            raise StateError(f"a covariance was stored with {count:,} images, {len(seen):,} of them known")
        mean = stored_array(arrays, "mean", np.float64, (None,))
        covariance = stored_array(arrays, "covariance", np.float64, (len(mean), len(mean)))
        self._fitted = _checked(mean, covariance)
        self._count = count or None

    def _restored_groups(
        self, arrays: Mapping[str, NDArray[Any]], seen: IndexSet
    ) -> dict[int, GaussianMoments]:
        numbers: list[int] = stored_array(arrays, "numbers", np.int64, (None,)).tolist()
        counts: list[int] = stored_array(arrays, "counts", np.int64, (len(numbers),)).tolist()
        means = stored_array(arrays, "means", np.float64, (len(numbers), None))
        width = means.shape[1]
        scatters = stored_array(arrays, "scatters", np.float64, (len(numbers), width, width))
        total = int(self.key.parameters["groups"])
        wanted = [(number, CHUNK * _chunks_of(number, total, seen)) for number in range(total)]
        if list(zip(numbers, counts, strict=True)) != [(number, count) for number, count in wanted if count]:
            raise StateError(f"groups of {counts} images were stored; {len(seen):,} images make others")
        groups = {
            number: GaussianMoments(count, torch.from_numpy(np.array(mean)), torch.from_numpy(scatter))
            for number, count, mean, scatter in zip(numbers, counts, means, scatters, strict=True)
        }
        for number, group in groups.items():
            _check_scatter(group.scatter, f"the scatter of group {number}")
        return groups


def _whole_chunks(start: int, stop: int) -> tuple[int, int]:
    """First and one past the last chunk that lies within images start ... stop - 1."""
    first = -(-start // CHUNK)
    return first, max(stop // CHUNK, first)


def _chunks_of(group: int, groups: int, seen: IndexSet) -> int:
    """Chunks of a group of which every image was seen."""
    bounds = (_whole_chunks(*interval) for interval in seen.intervals)
    return sum(
        (stop - group + groups - 1) // groups - (start - group + groups - 1) // groups
        for start, stop in bounds
    )


def _restored_waiting(arrays: Mapping[str, NDArray[Any]], seen: IndexSet) -> dict[int, Tensor]:
    """Rows of chunks that are not complete, by their first image."""
    starts: list[int] = stored_array(arrays, "waiting_starts", np.int64, (None,)).tolist()
    lengths: list[int] = stored_array(arrays, "waiting_lengths", np.int64, (len(starts),)).tolist()
    rows = stored_array(arrays, "waiting_rows", np.float64, (sum(lengths), None))
    wanted: list[tuple[int, int]] = []
    for start, stop in seen.intervals:
        first, last = (chunk * CHUNK for chunk in _whole_chunks(start, stop))
        wanted += [(start, min(first, stop)), (max(last, min(first, stop)), stop)]
    parts = [(start, start + length) for start, length in zip(starts, lengths, strict=True)]
    within = all(start < stop and start // CHUNK == (stop - 1) // CHUNK for start, stop in parts)
    if not within or IndexSet(parts) != IndexSet(wanted):
        raise StateError(
            f"{len(rows):,} rows that wait for others were stored; of {len(seen):,} images others wait"
        )
    pieces = torch.split(torch.from_numpy(np.array(rows)), lengths) if lengths else ()
    return dict(zip(starts, pieces, strict=True))


def _check_scatter(scatter: Tensor, what: str) -> None:
    """Refuse a matrix that no rows have as scatter, without eigenvalues, which would take seconds."""
    diagonal = scatter.diagonal()
    if not len(diagonal) or bool((diagonal < 0).any()):
        raise StateError(f"{what} has no features or a negative sum of squares")
    rounding = 1e-9 * float(diagonal.max())
    deviations = diagonal.sqrt()
    # In bands that stay in the processor's cache: three times as fast as whole matrices.
    for start in range(0, len(diagonal), _BAND):
        rows = slice(start, start + _BAND)
        band = scatter[rows]
        if float((band - scatter[:, rows].T).abs_().max()) > rounding:
            raise StateError(f"{what} is not symmetric")
        if float((band.abs() - torch.outer(deviations[rows], deviations)).max()) > rounding:
            raise StateError(f"{what} has features that are correlated by more than 1")


def _checked(mean: NDArray[Any], covariance: NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Return mean and covariance in float64; raise a StateError if they are invalid."""
    if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
        raise StateError(
            f"a mean [D] and a covariance [D, D] were expected; found {list(mean.shape)} "
            f"and {list(covariance.shape)}"
        )
    mean, covariance = np.array(mean, np.float64), np.array(covariance, np.float64)
    for name, values in (("mean", mean), ("covariance", covariance)):
        if not np.isfinite(values).all():
            raise StateError(f"the {name} has {(~np.isfinite(values)).sum():,} values that are not finite")
    largest = float(np.abs(covariance).max(initial=0))
    # Files hold float32 at worst.
    rounding = 1e-5 * largest
    asymmetry = float(np.abs(covariance - covariance.T).max(initial=0))
    if asymmetry > rounding:
        raise StateError(f"the covariance is not symmetric: two entries differ by {asymmetry:.3g}")
    covariance = (covariance + covariance.T) / 2
    lowest = float(np.linalg.eigvalsh(covariance)[0])
    if lowest < -rounding * sqrt(len(mean)):
        raise StateError(
            f"the covariance has a negative eigenvalue, {lowest:.3g}: it is of no set of features"
        )
    # Rounding makes eigenvalues negative, and sums of squares never.
    if (variance := float(covariance.diagonal().min())) < 0:
        raise StateError(
            f"the covariance has a negative variance, {variance:.3g}: it is of no set of features"
        )
    return torch.from_numpy(mean), torch.from_numpy(covariance)
