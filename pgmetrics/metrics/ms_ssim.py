"""MS-SSIM between pairs of images of one set: how alike its images are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, SampleError, StateError
from pgmetrics.functional.ssim import check_size, ms_ssim_scores
from pgmetrics.metrics.base import Estimate, Metric, Side, State, StateKey, stored_array, stored_blocks
from pgmetrics.metrics.influence import Influence
from pgmetrics.runtime.blocks import Block, IndexSet
from pgmetrics.runtime.spill import Storage

DEGENERATE = 0.1
"""If more than this share of the pairs is clipped to exactly 0, the mean says little."""

_ROUNDING = 1e-5  # by which the score of two equal images may exceed 1, in float32


@dataclass(frozen=True)
class MultiScaleSSIM(Metric):
    """Mean MS-SSIM of the pairs (0, 1), (2, 3), ... of a set; high means little diversity.

    Compare a set of samples with the reals' own value, not with other data sets. The score of a pair is
    clipped to 0 if its structure is negatively correlated at any scale. At 32 pixels most natural pairs
    are, and the number is then degenerate.

    Attributes:
        num_pairs: the largest number of pairs, each of two images.

    Source: section 5 of Karras et al. 2018, after Odena et al. 2017; 10,000 pairs.
    """

    name: ClassVar[str] = "ms-ssim"
    two_sided: ClassVar[bool] = False

    num_pairs: int = 10_000

    def __post_init__(self) -> None:
        if self.num_pairs < 2:
            raise OptionError(f"ms-ssim needs num_pairs of at least 2, not {self.num_pairs}")

    @property
    def least(self) -> int:
        return 4

    def with_num_images(self, num_images: int) -> MultiScaleSSIM:
        return replace(self, num_pairs=num_images // 2)

    def usable(self, available: int, side: Side) -> int:
        if available < self.least:
            raise SampleError(f"ms-ssim needs at least 2 pairs, so 4 images; there are {available}")
        return min(available - available % 2, 2 * self.num_pairs)

    def check_resolution(self, height: int, width: int) -> None:
        check_size(height, width)

    def new_state(
        self,
        side: Side,
        *,
        resolution: tuple[int, int],
        seed: int = 0,
        source: str = "",
        storage: Storage | None = None,
        network: str = "",
    ) -> MultiScaleSSIMState:
        return MultiScaleSSIMState(self._key(side, resolution, seed, source), storage)

    def compute(self, *, real: State | None, fake: State | None) -> tuple[list[Estimate], list[str]]:
        estimates, notes = [], []
        for state in (real, fake):
            if state is None:
                continue
            if not isinstance(state, MultiScaleSSIMState):
                raise StateError(f"ms-ssim cannot read a state of {state.key.kind}")
            scores = state.scores()
            if len(scores) < 2:
                raise SampleError(
                    f"ms-ssim needs at least 2 pairs of images; the {state.key.side} side has {len(scores)}"
                )
            side, n = state.key.side, 2 * len(scores)
            stderr = float(scores.std(ddof=1)) / sqrt(len(scores))
            counts = (n, None) if side == "real" else (None, n)
            estimates.append(Estimate(self.name, None, float(scores.mean()), stderr, "pairs", side, *counts))
            clipped = int((scores == 0).sum())
            if clipped > DEGENERATE * len(scores):
                notes.append(
                    f"ms-ssim is degenerate here: {clipped:,} of {len(scores):,} pairs of {side} images "
                    f"({clipped / len(scores):.0%}) are clipped to exactly 0 "
                    f"at {state.key.height}x{state.key.width}"
                )
        if not estimates:
            raise StateError("ms-ssim was given no state")
        return estimates, notes

    def influences(self, *, real: State | None, fake: State | None) -> list[Influence]:
        """Influences of the pairs (2k, 2k + 1); they are exact, since the value is their mean."""
        state = fake if fake is not None else real
        if not isinstance(state, MultiScaleSSIMState):
            raise StateError("ms-ssim was given no state of pairs")
        scores = state.scores()
        if len(scores) < 2:
            raise SampleError(
                f"ms-ssim needs at least 2 pairs of images; the {state.key.side} side has {len(scores)}"
            )
        part = scores - scores.mean()
        sides = (None, part) if state is fake else (part, None)
        return [Influence(self.name, None, *sides)]


class MultiScaleSSIMState(State):
    """A state that stores the score of every pair, 8 bytes each."""

    def __init__(self, key: StateKey, storage: Storage | None = None) -> None:
        super().__init__(key, storage)
        self._scores: dict[int, NDArray[np.float64]] = {}

    def scores(self) -> NDArray[np.float64]:
        """Scores of the pairs in index order: float64 [N // 2], 0 to 1."""
        return np.concatenate([*(self._scores[start] for start in sorted(self._scores)), np.empty(0)])

    def _update(self, block: Block) -> None:
        if block.start % 2:
            raise StateError(
                f"ms-ssim pairs images (2k, 2k + 1), so a block starts at an even index, not {block.start}"
            )
        # The image left over at the end of an odd set has no partner.
        pairs = block.pixels[: len(block.pixels) // 2 * 2]
        self._scores[block.start] = ms_ssim_scores(pairs[::2], pairs[1::2]).cpu().double().numpy()

    def _copy(self) -> MultiScaleSSIMState:
        copy = MultiScaleSSIMState(self.key, self.storage)
        copy._absorb(self)
        return copy

    def _shift(self, by: int) -> MultiScaleSSIMState:
        moved = MultiScaleSSIMState(self.key, self.storage)
        moved._scores = {start + by: scores for start, scores in self._scores.items()}
        return moved

    def _absorb(self, other: MultiScaleSSIMState) -> None:
        self._scores.update(other._scores)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "starts": np.array(sorted(self._scores), np.int64),
            "lengths": np.array([len(self._scores[s]) for s in sorted(self._scores)], np.int64),
            "scores": self.scores(),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]], seen: IndexSet) -> None:
        blocks = stored_blocks(arrays, seen)
        pairs = [(stop - start) // 2 for start, stop in blocks]
        if any(start % 2 for start, _ in blocks):
            raise StateError("blocks of pairs (2k, 2k + 1) start at even images, and a stored one does not")
        if stored_array(arrays, "lengths", np.int64, (len(blocks),)).tolist() != pairs:
            raise StateError(f"the array 'lengths' is not that of the pairs of {len(seen):,} images")
        scores = stored_array(arrays, "scores", np.float64, (sum(pairs),))
        if not ((scores >= 0) & (scores <= 1 + _ROUNDING)).all():
            raise StateError("scores of pairs are between 0 and 1, and a stored one is not")
        pieces = np.split(np.array(scores), np.cumsum(pairs)[:-1]) if pairs else []
        self._scores = {start: piece for (start, _), piece in zip(blocks, pieces, strict=True)}
        self.seen = seen
