"""The contract of a metric: one state per side, fed block by block, merged, computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import inf, sqrt
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pgmetrics.blocks import Block, FeatureBlock, IndexSet
from pgmetrics.errors import SampleError, StateError
from pgmetrics.storage import Storage

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
class Influence:
    """How far each image of a set moves a value, to first order: the von Mises expansion.

    The value of slightly other sets is about the value plus, for each side, the mean of the influence
    over that side's images; so the variance of the influence over the number of images is the value's.

    Attributes:
        metric: the number's name in data.
        level: as in `Estimate`.
        real, fake: float64 [n], of every image of the side in index order, with a mean of 0 (MS-SSIM:
            of every pair); None for a side that takes no part, or whose part is not known.
        halves: the same of all images, but with the derivative taken at the images of even places alone,
            then at those of odd places alone; None where there are none.
        batches: where no influence is known, the number's values for B disjoint parts of the images, for
            each of P ways to part them: float64 [P, B]; None otherwise.
        bias: how far the finite number of images moves the value, as far as it is estimated; else 0.
    """

    metric: str
    level: int | None
    real: NDArray[np.float64] | None
    fake: NDArray[np.float64] | None
    halves: tuple[Influence, Influence] | None = None
    batches: NDArray[np.float64] | None = None
    bias: float = 0.0

    def variance(self, least_share: float = 0.0) -> float:
        """The variance of the number over sets of so many images.

        The sum over the sides of var(influence) / n counts what a pair of images does together twice,
        and what three do thrice: between equal distributions, where SWD and FID have no first order, it
        is twice too large. What single images do alone is the part of the influences that other sets
        of images would give, too. Influences whose derivatives were taken at either half of the images
        tell how large that part is: their correlation r is the part's share at half the images, and
        2 r / (1 + r) its share at all of them. The variance is that part and half of the rest, which
        is right to the second order.

        The share scatters around 0 where there is no first order. A value that is small by chance then
        comes with a small share, so that negative ones would make its error too small just where it
        must not be. A difference is not so tied to its error, which negative shares keep right on
        average.

        Of batches it is their variance over their number: right if the number's variance goes with the
        inverse of the number of images.

        Args:
            least_share: of the first order, from -1 to 0; smaller ones are raised to it.

        Raises:
            SampleError: a side has fewer than 2 images.

        Source: that such a sum is never too small in the mean is Efron and Stein 1981; the variance as
        the mean covariance of derivatives at sets that share from none to all of their images is the
        covariance identity of Houdré and Pérez-Abreu 1995, here by the trapezoidal rule; the share at
        twice the length is Spearman's and Brown's of 1910; batch means are Schmeiser 1982.
        """
        if self.batches is not None:
            of_parts: NDArray[np.float64] = np.var(self.batches, axis=1, ddof=1)
            return float(of_parts.mean()) / len(self.batches[0])
        both = sum(self._variances())
        if self.halves is None:
            return both
        return both * (1 + max(self._share_of_first_order(*self.halves), least_share)) / 2

    def degrees_of_freedom(self) -> float:
        """How many squares of normal numbers the variance is as uncertain as, less their mean: Student's.

        Of one side of n images n - 1, of two what Satterthwaite 1946 gives them; of batches those of all ways
        to part the images, which are as good as independent of each other.

        Raises:
            SampleError: as `variance`.
        """
        if self.batches is not None:
            ways, parts = self.batches.shape
            return float(ways * (parts - 1))
        sides = [side for side in (self.real, self.fake) if side is not None]
        return pooled_degrees_of_freedom(self._variances(), [len(side) - 1 for side in sides])

    def _variances(self) -> list[float]:
        return [_covariance([side], [side]) for side in (self.real, self.fake) if side is not None]

    @staticmethod
    def _share_of_first_order(even: Influence, odd: Influence) -> float:
        def covariance(one: Influence, other: Influence) -> float:
            # Around each half's own mean: what the halves' means have in common, the derivatives have.
            return sum(
                _covariance([x[::2], x[1::2]], [y[::2], y[1::2]])
                for x, y in ((one.real, other.real), (one.fake, other.fake))
                if x is not None and y is not None
            )

        spread = sqrt(covariance(even, even) * covariance(odd, odd))
        if spread == 0:
            return 1.0
        r = covariance(even, odd) / spread
        return 2 * r / (1 + max(r, 0.0))


def pooled_degrees_of_freedom(variances: Sequence[float], degrees: Sequence[float]) -> float:
    """Degrees of freedom of a sum of variances that are estimated independently of each other.

    Args:
        variances: at least 0, at least one of them.
        degrees: of freedom of each; infinite for one that is known.

    Source: Satterthwaite 1946; Welch 1947.
    """
    total = sum(variances)
    if total == 0:
        return min(degrees)
    # Shares, since squares of tiny variances are 0.
    inverse = sum((variance / total) ** 2 / of for variance, of in zip(variances, degrees, strict=True))
    return 1 / inverse if inverse > 0 else inf


def _covariance(parts: Sequence[NDArray[np.float64]], others: Sequence[NDArray[np.float64]]) -> float:
    """Of two influences, each around its mean over every part of the images, over the number of images."""
    n = sum(map(len, parts))
    if n <= len(parts):
        raise SampleError(f"an error over images needs at least {len(parts) + 1} of them, not {n}")
    products = (float((x - x.mean()) @ (y - y.mean())) for x, y in zip(parts, others, strict=True))
    return sum(products) / (n - len(parts)) / n


@dataclass(frozen=True)
class Tap:
    """Where a metric listens in: a network and what of its outputs.

    Attributes:
        network: "inception", "vgg16" or "own".
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
    """

    name: ClassVar[str]
    two_sided: ClassVar[bool]
    equal_counts: ClassVar[bool] = False

    @property
    def tap(self) -> Tap | None:
        """The network output it reads, or None for pixels."""
        return None

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
        randomisation that are made of these scores are exact.

        Raises:
            SampleError, StateError: as `compute`.
        """
        return self.influences(real=real, fake=fake)

    def _key(self, side: Side, resolution: tuple[int, int], seed: int, source: str) -> StateKey:
        self.check_resolution(*resolution)
        # Neither how many images are taken nor what errors are over decides what is remembered of each.
        budgets = ("num_images", "num_pairs", "error")
        parameters = {
            name: value
            for name, value in asdict(self).items()  # type: ignore[call-overload]
            if name not in budgets
        }
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
