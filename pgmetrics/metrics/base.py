"""The contract of a metric: it makes one state per side and computes numbers from the states.

States are fed block by block, and states of different images of a side can be merged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pgmetrics.errors import OptionError, SampleError, StateError
from pgmetrics.metrics.influence import Influence
from pgmetrics.metrics.outputs import Output
from pgmetrics.metrics.registry import METRICS, output
from pgmetrics.runtime.blocks import Block, FeatureBlock, IndexSet
from pgmetrics.runtime.spill import Storage

Side = Literal["real", "fake", "held-out"]
"""A set of images: the reals (the training images), the generated ones, or reals that training never saw."""

_PIECE = 2**20  # values that are checked at once: a few MB, which stay in the cache


@dataclass(frozen=True)
class Estimate:
    """One number of one metric.

    Attributes:
        metric: the number's name in data; a metric may have several numbers, as prdc has four.
        level: height in pixels of the pyramid level; None for the mean over levels and for metrics without
            levels.
        value: value in the metric's raw units.
        stderr: standard error, or None if there is no sound one.
        stderr_kind: source of the standard error: "directions", "pairs", ...; it names a standard deviation
            as such, and the number of groups, parts or directions if they are few.
        subject: "fake", or "real" for a number about the reals themselves.
        n_real, n_fake: number of images used of each side; None for a side that is not used.
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
    """The output of a network that a metric reads.

    Attributes:
        network: "inception", "vgg16" or "custom".
        layer: "features", or "logits" of a classifier without their bias.
    """

    network: str
    layer: str


@dataclass(frozen=True)
class StateKey:
    """Everything that must agree before two states may be merged or compared.

    States of one side can be merged if their keys are equal. A real and a fake state can be compared if
    their keys differ in nothing but side and source.

    Attributes:
        kind: what the state accumulates: "moments" or "rows" of features, or the name of a metric of pixels.
        parameters: the parameters of the metric that decide what is accumulated.
        side: a part of the random key if a metric draws for each side separately.
        seed: seed of all random numbers.
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
        """Return the key as plain values for a file."""
        return {**asdict(self), "parameters": dict(self.parameters)}


S = TypeVar("S", bound="State")


class State(ABC):
    """What a metric accumulates from the images of one side.

    `update` works in place; `merge` makes a new state and changes neither input. Stored arrays are
    never written again, so states may share them.
    """

    movable: ClassVar[bool] = True
    """Whether `shifted` works, because what is stored of an image does not depend on its index.

    A movable state implements `_shift`; other states set this to False.
    """

    def __init__(self, key: StateKey, storage: Storage | None = None) -> None:
        self.key = key
        self.seen = IndexSet()
        self.storage = storage or Storage()

    @property
    def width(self) -> int | None:
        """Number of features per image; None before the first image, and for states of pixels."""
        return None

    def update(self, block: Block | FeatureBlock) -> None:
        """Accumulate the images of a block, or their features.

        Raises:
            StateError: an image of the block was already counted, or the block holds features where the
                state reads pixels, or pixels where it reads features.
            SampleError: the images differ in size from the state's, or the features in number.
        """
        seen = self.seen.union(IndexSet([(block.start, block.stop)]))
        self._check(block)
        self._update(block)
        self.seen = seen

    def merge(self: S, other: S) -> S:
        """Return a state of both sets of images; neither input changes.

        Merging is associative, and merging with a fresh state changes nothing.

        Raises:
            StateError: the states share an image or were made differently.
        """
        for name, value in self.key.to_dict().items():
            other_value = other.key.to_dict()[name]
            if value != other_value:
                raise StateError(
                    f"cannot merge states made differently: {name} is {value} here and {other_value} there"
                )
        merged = self._copy()
        merged.seen = self.seen.union(other.seen)
        merged._absorb(other)
        return merged

    def _check(self, block: Block | FeatureBlock) -> None:
        """Refuse a block that `_update` cannot take; states of features override this."""
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
        """Return a state in which image i has index i + by and the source is `source`; this one stays.

        Comparisons use it to merge two generated sets into one.

        Raises:
            StateError: the state is not `movable`.
        """
        moved = self._shift(by)
        moved.key = replace(self.key, source=source)
        moved.seen = IndexSet((start + by, stop + by) for start, stop in self.seen.intervals)
        return moved

    def _shift(self: S, by: int) -> S:
        raise StateError(f"states of {self.key.kind} cannot be renumbered")

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything accumulated, in index order, by name; `restore` is the inverse."""

    @abstractmethod
    def restore(self, arrays: Mapping[str, NDArray[Any]], seen: IndexSet) -> None:
        """Fill a fresh state with what `arrays` returned.

        The file may come from anybody, so arrays that this state could not have accumulated from such images
        are refused; the state is then unchanged.

        Raises:
            StateError: an array is missing, of another shape or dtype than this state's, holds values
                that none of its images can have, or belongs to other images than `seen`.
        """


def stored_array(
    arrays: Mapping[str, NDArray[Any]], name: str, dtype: DTypeLike, shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """Return an array of a stored state after checking it.

    Args:
        arrays: the stored arrays.
        name: name of the array.
        dtype: the required dtype.
        shape: the required shape; None stands for any length.

    Raises:
        StateError: the array is missing or has another dtype or shape, or a value is NaN or infinite.
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
    """Whether every value is between -bound and bound, and none is NaN; checked piece by piece."""
    flat = array.reshape(-1)
    pieces = (flat[start : start + _PIECE] for start in range(0, flat.size, _PIECE))
    return all(-bound <= float(piece.min()) and float(piece.max()) <= bound for piece in pieces)


def stored_blocks(arrays: Mapping[str, NDArray[Any]], seen: IndexSet) -> list[tuple[int, int]]:
    """Return (start, stop) of each block, from the array `starts`.

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
        name: its name in data and on the command line.
        two_sided: whether it compares real and fake images; otherwise it scores each side by itself.
        equal_counts: whether a two-sided metric needs as many reals as fakes.
        sides: the sides whose images it can use.
        error_choices: the values of its parameter `error`, the default first; empty if it has no such
            parameter.

    The parameters `num_images`, `num_pairs` and `error` do not change what a state stores of an image, so
    that `_key` leaves them out of the state's key.
    """

    name: ClassVar[str]
    two_sided: ClassVar[bool]
    equal_counts: ClassVar[bool] = False
    sides: ClassVar[tuple[Side, ...]] = ("real", "fake")
    error_choices: ClassVar[tuple[str, ...]] = ()

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The declarations of its numbers; an undeclared metric has one number of its own name."""
        declaration = METRICS.get(self.name)
        return (output(self.name),) if declaration is None else declaration.outputs

    @property
    def parameters(self) -> dict[str, Any]:
        """The values of all parameters, by name."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @property
    def tap(self) -> Tap | None:
        """The network output that it reads, or None for pixels."""
        return None

    @property
    def least(self) -> int:
        """The fewest images of a side from which it can be computed; `usable` refuses fewer."""
        return 2

    def with_network(self, network: str) -> Metric:
        """Return the metric on another network; a metric of pixels is returned unchanged.

        Raises:
            OptionError: the metric is defined on one network only.
        """
        return self

    def giving(self, numbers: Sequence[str]) -> Metric:
        """The same metric, giving some of its numbers alone.

        Raises:
            OptionError: it always gives all of its numbers, or has no such number.
        """
        raise OptionError(f"{', '.join(numbers)} comes with {self.name}: ask for {self.name}")

    def with_error(self, over: str) -> Metric:
        """Return the metric with another source of its standard errors; unchanged if it has no such choice.

        Args:
            over: "images", "directions" or "both". A metric that draws no directions takes "both" as
                "images".
        """
        if over == "both" and over not in self.error_choices:
            over = "images"
        return replace(self, error=over) if over in self.error_choices else self  # type: ignore[type-var]

    @property
    def keeps_moments(self) -> bool:
        """Whether its state is a mean and a covariance, which files of other tools hold, too."""
        return False

    @property
    def prepared_by(self) -> str:
        """The metric to pass to `pgmetrics stats` so that the statistics hold what this metric reads."""
        return self.name

    def keeping_rows(self) -> Metric:
        """Return the metric in a form that stores every image's row; unchanged if it does so already."""
        return self

    @abstractmethod
    def with_num_images(self, num_images: int) -> Metric:
        """Return the metric with another number of images of each side."""

    @abstractmethod
    def usable(self, available: int, side: Side) -> int:
        """Return how many of `available` images of a side the metric uses.

        Raises:
            SampleError: there are too few images to compute it.
        """

    @abstractmethod
    def check_resolution(self, height: int, width: int) -> None:
        """Refuse an image size for which the metric is not defined.

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
        """Return an empty state for one side.

        Metrics that accumulate the same values make states with equal keys, and may share one state.

        Args:
            side: one of `sides`.
            resolution: height and width of the images in pixels.
            seed: seed of the random numbers, if the metric draws any.
            source: fingerprint of the images; states of different sources do not merge.
            storage: where large arrays are stored.
            network: fingerprint of the network, for a metric of features.
        """

    @abstractmethod
    def compute(self, *, real: State | None, fake: State | None) -> tuple[list[Estimate], list[str]]:
        """Return the numbers, and notes that a reader of the numbers must know, one sentence each.

        Raises:
            SampleError: there are too few images.
            StateError: a state is missing, or the states cannot be compared.
        """

    def influences(self, *, real: State | None, fake: State | None) -> list[Influence]:
        """Return the influences of the numbers about the fakes, or about the reals if no fakes are given.

        Numbers without influences are left out.

        Raises:
            SampleError, StateError: as `compute`.
        """
        return []

    def scores(self, *, real: State | None, fake: State | None) -> list[Influence]:
        """Return a score of every fake image for each number: its influence, or a substitute.

        Exchanging two fakes exchanges their scores and changes no other score, so that randomization tests on
        these scores are exact.

        Raises:
            SampleError, StateError: as `compute`.
        """
        return self.influences(real=real, fake=fake)

    def _key(self, side: Side, resolution: tuple[int, int], seed: int, source: str) -> StateKey:
        self.check_resolution(*resolution)
        # Neither the number of images nor the source of errors changes what is stored of an image.
        budgets = ("num_images", "num_pairs", "error")
        parameters = {name: value for name, value in self.parameters.items() if name not in budgets}
        return StateKey(self.name, parameters, side, seed, *resolution, source)


def check_comparable(real: StateKey, fake: StateKey) -> None:
    """Refuse to compare states that differ in more than side and source.

    Raises:
        StateError: the states differ in more; the message names the setting and both values.
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
