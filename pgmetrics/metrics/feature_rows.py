"""Metrics of features, and the state of feature rows that IS, KID, precision/recall and others share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pgmetrics.errors import SampleError, StateError
from pgmetrics.metrics.base import (
    Metric,
    Side,
    State,
    StateKey,
    Tap,
    check_comparable,
    stored_array,
    stored_blocks,
)
from pgmetrics.runtime.blocks import Block, FeatureBlock, IndexSet
from pgmetrics.runtime.spill import Storage

if TYPE_CHECKING:
    from typing_extensions import Self

PUBLISHED_FAKES = 50_000
"""Number of generated images in the published evaluations with Inception."""


class FeatureRowsState(State):
    """The features of every image, float32, 4 D bytes each (8 kB for Inception's pool3).

    Metrics that read the same tap of the same images share one state.
    """

    def __init__(self, key: StateKey, storage: Storage | None = None) -> None:
        super().__init__(key, storage)
        self._rows: dict[int, NDArray[np.float32]] = {}
        self.device = torch.device("cpu")  # of the last block; rows are stored on the CPU

    @property
    def width(self) -> int | None:
        """Number of features per image; None before the first image."""
        return next((rows.shape[1] for rows in self._rows.values()), None)

    def pieces(self) -> list[NDArray[np.float32]]:
        """All rows in index order, in pieces float32 [n_i, D]; they may lie on disk."""
        return [self._rows[start] for start in sorted(self._rows)]

    def blocks(self) -> list[tuple[int, NDArray[np.float32]]]:
        """The pieces, each with the index of its first image."""
        return [(start, self._rows[start]) for start in sorted(self._rows)]

    def rows(self) -> NDArray[np.float32]:
        """All rows in index order, copied into one array: float32 [N, D]."""
        pieces = self.pieces()
        return np.concatenate(pieces) if pieces else np.empty((0, self.width or 0), np.float32)

    def _check(self, block: Block | FeatureBlock) -> None:
        check_features(block, self.key, self.width)

    def _update(self, block: FeatureBlock) -> None:
        self.device = block.features.device
        place = self.storage.room(tuple(block.features.shape), np.float32)
        torch.from_numpy(place).copy_(block.features)
        self._rows[block.start] = self.storage.keep(place)

    def _copy(self) -> FeatureRowsState:
        copy = FeatureRowsState(self.key, self.storage)
        copy._absorb(self)
        return copy

    def _shift(self, by: int) -> FeatureRowsState:
        moved = FeatureRowsState(self.key, self.storage)
        moved.device = self.device
        moved._rows = {start + by: rows for start, rows in self._rows.items()}
        return moved

    def _absorb(self, other: FeatureRowsState) -> None:
        if self.width is not None and other.width is not None and self.width != other.width:
            raise StateError(f"cannot merge rows of {self.width} features with rows of {other.width}")
        if len(other.seen):
            self.device = other.device
        self._rows.update(other._rows)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"starts": np.array(sorted(self._rows), np.int64), "rows": self.rows()}

    def restore(self, arrays: Mapping[str, NDArray[Any]], seen: IndexSet) -> None:
        blocks = stored_blocks(arrays, seen)
        rows = stored_array(arrays, "rows", np.float32, (len(seen), None))
        cuts = pairwise([0, *accumulate(stop - start for start, stop in blocks)])
        self._rows = {start: rows[a:b] for (start, _), (a, b) in zip(blocks, cuts, strict=True)}
        self.seen = seen


def check_features(block: Block | FeatureBlock, key: StateKey, width: int | None) -> None:
    """Refuse a block that holds no features, features of another width, or values that are not finite.

    Raises:
        StateError: the block holds pixels.
        SampleError: the width differs from that of the rows before, or a value is NaN or infinite;
            the message names the first image.
    """
    if not isinstance(block, FeatureBlock):
        raise StateError(f"{key.kind} reads a network's features, not images")
    if block.features.ndim != 2:
        raise SampleError(f"features are [N, D]; these are {list(block.features.shape)}")
    if width is not None and block.features.shape[1] != width:
        raise SampleError(
            f"the images before image {block.start} have {width} features; "
            f"this block has {block.features.shape[1]}"
        )
    bad = first_not_finite(block)
    if bad is not None:
        raise SampleError(f"the features of image {bad} are not finite")


def first_not_finite(block: FeatureBlock) -> int | None:
    """Return the index of the first image with a NaN or infinite feature; None if there is none."""
    finite = torch.isfinite(block.features).all(dim=1)
    return None if bool(finite.all()) else block.start + int(torch.nonzero(~finite)[0])


@dataclass(frozen=True)
class FeatureMetric(Metric):
    """A metric of a network's outputs.

    Attributes:
        layer: the output that it reads: "features" or "logits".
        network: "inception", "vgg16", or "custom" for a custom network.
        num_images: number of images of each side; None takes 50,000 generated images and all reals.
    """

    layer: ClassVar[str] = "features"

    network: str = "inception"
    num_images: int | None = None

    @property
    def tap(self) -> Tap:
        return Tap(self.network, self.layer)

    @property
    def for_what(self) -> str:
        """The parameter that determines `least`, for messages, such as " with k=5"; empty if none does."""
        return ""

    @property
    def way_out(self) -> str:
        """The fix if there are fewer images than `least`, for messages."""
        return "Give more images"

    def too_few(self, there_are: str) -> SampleError:
        """Return the refusal of fewer than `least` images."""
        of_each = " of each side" if self.two_sided else ""
        return SampleError(
            f"{self.name}{self.for_what} needs at least {self.least:,} images{of_each}; {there_are}. "
            f"{self.way_out}"
        )

    def check_enough(self, *states: State) -> None:
        """Refuse a side with fewer images than `least`.

        Raises:
            SampleError: a side has too few; the message names it, its number of images and the fix.
        """
        for state in states:
            if len(state.seen) < self.least:
                raise self.too_few(f"the {state.key.side} side has {len(state.seen):,}")

    def with_network(self, network: str) -> Self:
        return replace(self, network=network)

    def with_num_images(self, num_images: int) -> Self:
        return replace(self, num_images=num_images)

    def usable(self, available: int, side: Side) -> int:
        if available < self.least:
            raise self.too_few(f"there are {available:,}")
        published = PUBLISHED_FAKES if side == "fake" else available
        taken = min(available, self.num_images or published)
        if taken < self.least:
            raise self.too_few(f"num_images={taken:,} takes fewer")
        return taken

    def check_resolution(self, height: int, width: int) -> None:
        """Accept every size, since the network's resizer changes it to the network's own."""

    def new_state(
        self,
        side: Side,
        *,
        resolution: tuple[int, int],
        seed: int = 0,
        source: str = "",
        storage: Storage | None = None,
        network: str = "",
    ) -> State:
        # No parameter of the metric: rows serve every metric that reads them.
        key = StateKey("rows", {"layer": self.layer}, side, seed, *resolution, source, network)
        return FeatureRowsState(key, storage)

    def _both(self, real: State | None, fake: State | None) -> tuple[FeatureRowsState, FeatureRowsState]:
        """The two sides' rows.

        Raises:
            StateError: one is missing, or they do not belong together.
        """
        if not isinstance(real, FeatureRowsState) or not isinstance(fake, FeatureRowsState):
            raise StateError(f"{self.name} compares rows of real and fake features; one of them is missing")
        check_comparable(real.key, fake.key)
        if real.width is not None and fake.width is not None and real.width != fake.width:
            raise StateError(f"real rows have {real.width} features and fake rows {fake.width}")
        return real, fake
