"""The inception score of one set: high if each image has a clear class and the set has many classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, StateError
from pgmetrics.functional.inception_score import (
    chunk_cut,
    even_cut,
    inception_score,
    inception_score_influence,
)
from pgmetrics.metrics.base import Estimate, State
from pgmetrics.metrics.feature_rows import FeatureMetric, FeatureRowsState
from pgmetrics.metrics.influence import Influence
from pgmetrics.runtime import seeding
from pgmetrics.runtime.seeding import Stream

TORCH_FIDELITY_SEED = 2020
"""The seed of the permutation with which torch-fidelity shuffles by default."""

_CUTS = {"even": even_cut, "chunks": chunk_cut}


@dataclass(frozen=True)
class InceptionScore(FeatureMetric):
    """exp of the mean KL divergence between an image's class probabilities and the set's; high is good.

    It scores a set by itself, without the reals: a single perfect image per class has the best score. Each
    split is scored separately, and a split of n images cannot score above n, so compare at equal counts and
    splits.

    Attributes:
        splits: number of parts of the set; the value is the mean over the parts.
        shuffle: the order of the images before they are split: "keyed" by the seed, "torch-fidelity" for
            that tool's permutation, "none" for the order of the source.
        cut: "even" splits into parts whose lengths differ by at most one; "chunks" splits as `torch.chunk`
            does, which may give fewer parts.
        ddof: the standard deviation over splits divides by splits - ddof: 0, as published, or 1.
        error: the number after the ±: "splits", the published standard deviation over splits, or "images",
            the standard error of the value over images.

    Source: Salimans et al. 2016, section 4: 50,000 images in 10 splits, logits without their bias.
    """

    name: ClassVar[str] = "is"
    two_sided: ClassVar[bool] = False
    layer: ClassVar[str] = "logits"
    error_choices: ClassVar[tuple[str, ...]] = ("splits", "images")

    splits: int = 10
    shuffle: Literal["keyed", "torch-fidelity", "none"] = "keyed"
    cut: Literal["even", "chunks"] = "even"
    ddof: int = 0
    error: Literal["splits", "images"] = "splits"

    def __post_init__(self) -> None:
        if self.splits < 1:
            raise OptionError(f"is needs splits of at least 1, not {self.splits}")
        if self.shuffle not in ("keyed", "torch-fidelity", "none"):
            raise OptionError(f"is shuffles keyed, torch-fidelity or none, not {self.shuffle}")
        if self.cut not in _CUTS:
            raise OptionError(f"is cuts even or chunks, not {self.cut}")
        if self.ddof not in (0, 1):
            raise OptionError(f"is divides by splits - ddof with ddof 0 or 1, not {self.ddof}")
        if self.error not in self.error_choices:
            raise OptionError(f"is has errors over splits or images, not {self.error}")

    @property
    def least(self) -> int:
        return max(self.splits, 2)

    @property
    def for_what(self) -> str:
        return f" in {self.splits} splits"

    @property
    def way_out(self) -> str:
        return "Give more images, or ask for fewer splits"

    def compute(self, *, real: State | None, fake: State | None) -> tuple[list[Estimate], list[str]]:
        states = [state for state in (real, fake) if state is not None]
        if not states:
            raise StateError("is was given no state")
        estimates, notes = [], []
        for state in states:
            if not isinstance(state, FeatureRowsState):
                raise StateError(f"is cannot read a state of {state.key.kind}")
            scores = self._scores(state)
            side, n = state.key.side, len(state.seen)
            # The deviation over a single split is undefined, not 0.
            deviation = float(scores.std(ddof=self.ddof)) if len(scores) > 1 else None
            kind = None if deviation is None else "splits (sd)"
            if self.error == "images":
                (influence,) = self.influences(real=None, fake=state)
                deviation, kind = sqrt(influence.variance()), "images"
            counts = (n, None) if side == "real" else (None, n)
            estimates.append(Estimate(self.name, None, float(scores.mean()), deviation, kind, side, *counts))
            if len(scores) < self.splits:
                notes.append(
                    f"is cut {n:,} {side} images into {len(scores)} chunks, not {self.splits}, as "
                    f"torch.chunk does; a multiple of {self.splits} images gives all of them"
                )
        return estimates, notes

    def influences(self, *, real: State | None, fake: State | None) -> list[Influence]:
        state = fake if fake is not None else real
        if not isinstance(state, FeatureRowsState):
            raise StateError("is was given no state of rows")
        self.check_enough(state)
        n = len(state.seen)
        logits, order = state.rows(), self._order(n, state.key.seed)
        parts = _CUTS[self.cut](n, self.splits)
        part = np.zeros(n)
        for start, stop in parts:
            mine = order[start:stop]
            # A split of a single image always scores 1.
            if len(mine) > 1:
                rows = torch.from_numpy(logits[mine]).to(state.device)
                part[mine] = inception_score_influence(rows) * (n / len(mine) / len(parts))
        return [Influence(self.name, None, *((None, part) if state is fake else (part, None)))]

    def scores(self, *, real: State | None, fake: State | None) -> list[Influence]:
        # An image's index decides its split, so that exchanging two fakes would change the splits.
        return replace(self, splits=1).influences(real=real, fake=fake)

    def _scores(self, state: FeatureRowsState) -> NDArray[np.float64]:
        self.check_enough(state)
        n = len(state.seen)
        logits, order = state.rows(), self._order(n, state.key.seed)
        return np.array(
            [
                inception_score(torch.from_numpy(logits[order[start:stop]]).to(state.device))
                for start, stop in _CUTS[self.cut](n, self.splits)
            ]
        )

    def _order(self, n: int, seed: int) -> NDArray[np.int64]:
        if self.shuffle == "keyed":
            return seeding.generator(seed, Stream.SPLITS).permutation(n)
        if self.shuffle == "torch-fidelity":
            return seeding.legacy_permutation(TORCH_FIDELITY_SEED, n)
        return np.arange(n)
