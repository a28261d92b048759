"""The contract of a metric: one state per side, fed block by block, merged, computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pgmetrics.errors import SampleError, StateError
from pgmetrics.metrics.influence import Influence
from pgmetrics.metrics.outputs import Output
from pgmetrics.metrics.registry import METRICS, output
from pgmetrics.runtime.blocks import Block, FeatureBlock, IndexSet
from pgmetrics.runtime.spill import Storage

Side = Literal["real", "fake", "held-out"]
"""Whose images: the reals (those trained on), the generated ones, reals that training never saw."""

_PIECE = 2**20  # values that are checked at once: a few MB, which stay in the cache


@dataclass(frozen=True)
class Estimate:
    """One number of one metric.

    Attributes:
        metric: the number's name in data; a metric may give several, as prdc gives four.
        level: height in pixels of the pyramid level, or None for the mean and for whole-set metrics.
        value: in the metric's raw units.
        stderr: standard error, or None where there is no sound one.
        stderr_kind: what varied: "directions", "pairs", ...; a standard deviation says so, and an error that
            comes from few groups, parts or directions says from how many.
        subject: "fake", or "real" for a number about the reals themselves.
        n_real, n_fake: images used of each side, None where a side takes no part.
    """

    metric: str
    level: int | None
    value: float
    stderr: float | None
    stderr_kind: str | None
    subject: Side
    n_real: int | None
    n_fake: int | None


@dataclass(frozen=True)
class Tap:
    """Where a metric listens in: a network and what of its outputs.

    Attributes:
        network: "inception", "vgg16" or "custom".
        layer: "features", or "logits" of a classifier without their bias.
    """

    network: str
    layer: str


@dataclass(frozen=True)
class StateKey:
    """Everything that must agree before two states may meet.

    States of the same side merge when their keys are equal; a real and a fake state are compared
    when their keys are equal but for side and source.

    Attributes:
        kind: what the state remembers: "swd", "ms-ssim", "moments" or "rows" of features.
        parameters: that decide what is remembered.
        side: part of the random key where a metric draws per side.
        seed: of every random number.
        height, width: of the images, in pixels.
        source: the fingerprint of the images.
        network: the fingerprint of the network whose features were taken; empty where none was.
    """

    kind: str
    parameters: Mapping[str, Any]
    side: Side
    seed: int
    height: int
    width: int
    source: str
    network: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain values for a file."""
        return {**asdict(self), "parameters": dict(self.parameters)}


S = TypeVar("S", bound="State")


class State(ABC):
    """What a metric has to remember of the images of one side.

    `update` works in place; `merge` makes a new state and changes neither input. Kept arrays are
    never written again, so states may share them.
    """

    movable: ClassVar[bool] = True
    """Whether what is remembered of an image does not depend on its place, so that `shifted` works."""

    def __init__(self, key: StateKey, storage: Storage | None = None) -> None:
        self.key = key
        self.seen = IndexSet()
        self.storage = storage or Storage()

    @property
    def width(self) -> int | None:
        """Features of an image; None before the first, and of pixels."""
        return None

    def update(self, block: Block | FeatureBlock) -> None:
        """Take in the images of a block, or what a network made of them.

        Raises:
            StateError: an image of the block was already counted, or it is not the kind of block
                that the state reads.
            SampleError: the images are of another size than the state's, or the features are.
        """
        seen = self.seen.union(IndexSet([(block.start, block.stop)]))
        self._check(block)
        self._update(block)
        self.seen = seen

    def merge(self: S, other: S) -> S:
        """A state of both sets of images; neither input changes.

        Associative; a fresh state is its identity from both sides.

        Raises:
            StateError: the states share an image or were made differently.
        """
        for name, mine in self.key.to_dict().items():
            theirs = other.key.to_dict()[name]
            if mine != theirs:
                raise StateError(
                    f"cannot merge states made differently: {name} is {mine} here and {theirs} there"
                )
        merged = self._copy()
        merged.seen = self.seen.union(other.seen)
        merged._absorb(other)
        return merged

    def _check(self, block: Block | FeatureBlock) -> None:
        """Refuse what `_update` cannot take; a state of features has its own conditions."""
        if not isinstance(block, Block):
            raise StateError(f"{self.key.kind} reads images, not features")
        height, width = block.pixels.shape[2:]
        if (height, width) != (self.key.height, self.key.width):
            raise SampleError(
                f"{self.key.kind} was begun with images of {self.key.height}x{self.key.width}; "
                f"this block has {height}x{width}"
            )

    @abstractmethod
    def _update(self, block: Any) -> None: ...

    @abstractmethod
    def _copy(self: S) -> S: ...

    @abstractmethod
    def _absorb(self: S, other: S) -> None: ...

    def shifted(self: S, by: int, source: str) -> S:
        """The same images, image i called i + by and said to be from `source`; this state is unchanged.

        So that two sets of fakes can be merged into one.

        Raises:
            StateError: what is remembered of an image depends on its place.
        """
        moved = self._shift(by)
        moved.key = replace(self.key, source=source)
        moved.seen = IndexSet((start + by, stop + by) for start, stop in self.seen.intervals)
        return moved

    def _shift(self: S, by: int) -> S:
        raise StateError(f"states of {self.key.kind} cannot be renumbered")

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that was remembered, in index order, by name; the inverse of `restore`."""

    @abstractmethod
    def restore(self, arrays: Mapping[str, NDArray[Any]], seen: IndexSet) -> None:
        """Fill a fresh state with what `arrays` gave.

        A file may come from anybody: whatever cannot be what this state would have remembered of these
        images is refused, and the state is then as it was.

        Raises:
            StateError: an array is missing, of another shape or dtype than this state's, holds values
                that none of its images can have, or belongs to other images than `seen`.
        """


def stored_array(
    arrays: Mapping[str, NDArray[Any]], name: str, dtype: DTypeLike, shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """One array of a stored state, checked.

    Args:
        arrays: what was stored.
        name: of the array.
        dtype: that it must have.
        shape: that it must have; None for any length.

    Raises:
        StateError: it is missing, of another dtype or shape, or a value is NaN or infinite.
    """
    if name not in arrays:
        raise StateError(f"the array {name!r} is missing")
    array = arrays[name]
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype != np.dtype(dtype):
        lengths = ", ".join("any" if length is None else str(length) for length in shape)
        raise StateError(
            f"the array {name!r} is {array.dtype} {list(array.shape)}, not {np.dtype(dtype)} [{lengths}]"
        )
    if not all_within(array, float(np.finfo(np.float64).max)):
        raise StateError(f"the array {name!r} has values that are not finite")
    return array


def all_within(array: NDArray[Any], bound: float) -> bool:
    """Whether every value is between -bound and bound, and none is NaN; a piece at a time."""
    flat = array.reshape(-1)
    pieces = (flat[start : start + _PIECE] for start in range(0, flat.size, _PIECE))
    return all(-bound <= float(piece.min()) and float(piece.max()) <= bound for piece in pieces)


def stored_blocks(arrays: Mapping[str, NDArray[Any]], seen: IndexSet) -> list[tuple[int, int]]:
    """First and one past the last image of each block, from the array `starts`.

    Raises:
        StateError: the blocks do not make up the images seen.
    """
    starts: list[int] = stored_array(arrays, "starts", np.int64, (None,)).tolist()
    blocks: list[tuple[int, int]] = []
    place, fits = 0, all(start < other for start, other in pairwise(starts))
    for first, stop in seen.intervals:
        begin, place = place, bisect_left(starts, stop, place)
        blocks += pairwise([*starts[begin:place], stop])
        fits &= starts[begin : begin + 1] == [first]
    if not fits or place != len(starts):
        raise StateError(f"the array 'starts' does not cut the {len(seen):,} images seen into blocks")
    return blocks


class Metric(ABC):
    """A frozen set of parameters that makes states and turns them into numbers.

    Attributes:
        name: in data and on the command line.
        two_sided: whether it compares real and fake; otherwise it scores each side by itself.
        equal_counts: whether a two-sided metric needs as many reals as fakes.
        sides: whose images it can use.
        error_choices: what its parameter `error` may be, the default first; empty if it has none.
    """

    name: ClassVar[str]
    two_sided: ClassVar[bool]
    equal_counts: ClassVar[bool] = False
    sides: ClassVar[tuple[Side, ...]] = ("real", "fake")
    error_choices: ClassVar[tuple[str, ...]] = ()

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What is declared of its numbers; of a metric that nobody declared, one number of its name."""
        declaration = METRICS.get(self.name)
        return (output(self.name),) if declaration is None else declaration.outputs

    @property
    def parameters(self) -> dict[str, Any]:
        """The values of all parameters, by name."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @property
    def tap(self) -> Tap | None:
        """The network output it reads, or None for pixels."""
        return None

    @property
    def least(self) -> int:
        """Images of a side below which there is no number."""
        return 2

    def with_network(self, network: str) -> Metric:
        """The same metric, reading another network; one of pixels is returned as it is.

        Raises:
            OptionError: it is defined on one network alone.
        """
        return self

    def with_error(self, over: str) -> Metric:
        """The same metric, its standard errors over what is asked for; itself if it has no such errors.

        Args:
            over: "images", "directions" or "both". A metric that draws no directions takes "both" for
                "images".
        """
        if over == "both" and over not in self.error_choices:
            over = "images"
        return replace(self, error=over) if over in self.error_choices else self  # type: ignore[type-var]

    @property
    def keeps_moments(self) -> bool:
        """Whether a mean and a covariance are all that it remembers of a set."""
        return False

    @property
    def prepared_by(self) -> str:
        """The metric that `pgmetrics stats` has to be asked for, to remember what this one reads."""
        return self.name

    def keeping_rows(self) -> Metric:
        """The same metric, remembering images one by one where it would keep their sums alone."""
        return self

    @abstractmethod
    def with_num_images(self, num_images: int) -> Metric:
        """The same metric, taking that many images of each side."""

    @abstractmethod
    def usable(self, available: int, side: Side) -> int:
        """How many of `available` images of a side can be used.

        Raises:
            SampleError: they are too few to give a number.
        """

    @abstractmethod
    def check_resolution(self, height: int, width: int) -> None:
        """Refuse a size the metric is not defined at.

        Raises:
            SampleError: naming the size.
        """

    @abstractmethod
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
        """An empty state for one side.

        Metrics that remember the same of the same images make states of equal keys, and may share one.

        Args:
            side: "real" or "fake".
            resolution: height and width of the images in pixels.
            seed: of the random numbers, if the metric draws any.
            source: fingerprint of the images, to refuse a merge of unlike ones.
            storage: where large arrays are kept.
            network: fingerprint of the network, for a metric that reads features.
        """

    @abstractmethod
    def compute(self, *, real: State | None, fake: State | None) -> tuple[list[Estimate], list[str]]:
        """The numbers, and sentences a reader of them must know.

        Raises:
            SampleError: too few images.
            StateError: the states do not belong together.
        """

    def influences(self, *, real: State | None, fake: State | None) -> list[Influence]:
        """Of the numbers about the fakes (about the reals, where no fakes are given) that have them.

        Raises:
            SampleError, StateError: as `compute`.
        """
        return []

    def scores(self, *, real: State | None, fake: State | None) -> list[Influence]:
        """A score of each fake for each number: its influence, or what stands for it.

        Exchanging two fakes exchanges their scores and changes no other, so that tests by
        randomization that are made of these scores are exact.

        Raises:
            SampleError, StateError: as `compute`.
        """
        return self.influences(real=real, fake=fake)

    def _key(self, side: Side, resolution: tuple[int, int], seed: int, source: str) -> StateKey:
        self.check_resolution(*resolution)
        # Neither how many images are taken nor what errors are over decides what is remembered of each.
        budgets = ("num_images", "num_pairs", "error")
        parameters = {name: value for name, value in self.parameters.items() if name not in budgets}
        return StateKey(self.name, parameters, side, seed, *resolution, source)


def check_comparable(real: StateKey, fake: StateKey) -> None:
    """Refuse to compare states that differ in more than side and source.

    Raises:
        StateError: naming the difference, both values.
    """
    for name, value in real.to_dict().items():
        other = fake.to_dict()[name]
        if name == "side":
            if (value, other) != ("real", "fake"):
                raise StateError(f"a real and a fake state are compared; these are {value} and {other}")
        elif name != "source" and value != other:
            raise StateError(
                f"real and fake were made differently: {name} is {value} for real and {other} for fake"
            )
