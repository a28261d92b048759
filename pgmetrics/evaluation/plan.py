"""Which metric is fed which images of which side, and the pass that feeds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, PgmetricsError, SampleError, StateError
from pgmetrics.features.base import FeatureExtractor
from pgmetrics.metrics.base import Estimate, Metric, Side, State, Tap
from pgmetrics.metrics.feature_rows import first_not_finite
from pgmetrics.prepared.cache import Cache
from pgmetrics.prepared.statistics import MomentsReals, StoredReals
from pgmetrics.runtime.blocks import Block, FeatureBlock, block_length
from pgmetrics.runtime.files import dump_json
from pgmetrics.runtime.spill import Storage
from pgmetrics.sources import loading
from pgmetrics.sources.base import ImageSource
from pgmetrics.sources.ranges import ByteRange

Progress = Callable[[str, int, int], None]  # what is being done, how much of it, of how much

_Loaded = tuple[int, NDArray[np.uint8]]

_TOGETHER = 4  # blocks that go through a network in one extraction,
_BYTES = 2**25  # unless fewer are that many bytes
_ENDLESS = 10**9  # images that a generator can make
_LISTED = ",in listing order"  # ends the identity of images that are not taken in the permutation


@dataclass(frozen=True)
class Consumer:
    """A state and the part of a side's sequence that it is fed: images first ... stop - 1.

    Attributes:
        reads: the side whose images it is fed.
        name: of what it remembers, on disk and for people.
        ready: whether it was filled from disk and needs no image.
    """

    reads: Side
    name: str
    state: State
    tap: Tap | None
    first: int
    stop: int
    ready: bool

    def overlap(self, start: int, stop: int) -> tuple[int, int]:
        """The part of images start ... stop - 1 that it is fed; empty if the second is not larger."""
        return max(start, self.first), min(stop, self.stop)

    def feed(self, start: int, pixels: torch.Tensor, features: Mapping[Tap, FeatureBlock]) -> None:
        """Give it its part of a block, or of what its network made of one."""
        a, b = self.overlap(start, start + len(pixels))
        if a >= b:
            return
        if self.tap is None:
            self.state.update(Block(a - self.first, pixels[a - start : b - start]))
        else:
            rows = features[self.tap]
            part = rows.features[a - rows.start : b - rows.start]
            self.state.update(FeatureBlock(a - self.first, part))


@dataclass(frozen=True)
class Job:
    """A metric, and the states it will compute from.

    Attributes:
        subject: whom its rows are about.
    """

    metric: Metric
    subject: Side
    real: Consumer | None
    fake: Consumer | None
    held_out: Consumer | None = None

    def compute(self) -> tuple[list[Estimate], list[str]]:
        """The metric's numbers and notes; a refusal names the metric."""
        states = {
            "real": self.real.state if self.real else None,
            "fake": self.fake.state if self.fake else None,
        }
        if self.held_out is not None:
            states["held_out"] = self.held_out.state
        try:
            estimates, notes = self.metric.compute(**states)
            _check_finite(estimates)
            return estimates, notes
        except PgmetricsError as error:
            told = str(error)
            named = told if told.startswith(f"{self.metric.name} ") else f"{self.metric.name}: {told}"
            raise type(error)(named) from error


def _check_finite(estimates: Sequence[Estimate]) -> None:
    """Refuse numbers that are NaN or infinite, which no table could hold.

    Raises:
        SampleError: naming the first of them.
    """
    for estimate in estimates:
        for number, what in ((estimate.value, "value"), (estimate.stderr, "standard error")):
            if number is not None and not isfinite(number):
                at = "" if estimate.level is None else f" at level {estimate.level}"
                raise SampleError(
                    f"the {what} of {estimate.metric}{at} is {number}; features too large for the sums, or "
                    "damaged statistics, make such a number"
                )


@dataclass
class Planner:
    """Makes each state once, from whatever the side was given as.

    Attributes:
        sides: the image sources.
        orders: of each side, its images in the order in which they are evaluated.
        given: statistics in place of real images.
        size: height and width of all images.
        networks: by name, those that the metrics tap.
        cache: of real sides.
        num_images: that were asked for of each side, or None.
        in_listing_order: whether images are taken as they are listed, which decides what a state
            remembers and so belongs to its key.
        at_most: generated images that may be used, where those of another set are fewer.
        remarks: sentences about the images that `run` has read, such as a value range that cannot be right.
    """

    sides: Mapping[Side, ImageSource]
    orders: Mapping[Side, NDArray[np.int64]]
    given: StoredReals | MomentsReals | None
    size: tuple[int, int]
    seed: int
    storage: Storage
    networks: Mapping[str, FeatureExtractor]
    cache: Cache | None = None
    num_images: int | None = None
    in_listing_order: bool = False
    at_most: int | None = None
    consumers: dict[str, Consumer] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    _read_by: dict[str, list[Consumer]] = field(default_factory=dict)  # by metric

    def plan(self, chosen: Sequence[Metric], floor: bool) -> tuple[list[Job], list[str]]:
        """A job for each metric and subject, and sentences about what could not be done.

        Without generated images there are only the jobs about the reals, the floor at the number of
        images that generated ones would have.
        """
        jobs: list[Job] = []
        without_floor: dict[int, list[str]] = {}
        for one in chosen:
            if not one.two_sided:
                states = {side: self._whole(one, side) for side in self._scored_sides(one)}
                jobs.append(Job(one, "fake", states.get("real"), states.get("fake")))
                continue
            held_out = None
            if "held-out" in one.sides and "held-out" in self.sides:
                held_out = self._whole(one, "held-out")
            real, fake = self._pair(one) if "fake" in self.sides else (None, None)
            if floor:
                n = fake.stop if fake else one.usable(_ENDLESS, "fake")
                halves = self._halves(one, n)
                jobs += [Job(one, "real", *halves, held_out)] if halves else []
                without_floor.setdefault(n, []).extend([] if halves else [one.name])
            if fake is not None:
                jobs.append(Job(one, "fake", real, fake, held_out))
        for job in jobs:
            # The floor of a metric reads more reals than its score does, which is what a reader compares.
            if job.subject == "fake" or "fake" not in self.sides:
                self._note(job.metric, job.real, job.fake, job.held_out)
        notes = [self._no_floor(n, names) for n, names in without_floor.items() if names]
        if floor and not without_floor:
            notes.append("the floor is a property of metrics that compare two sides; none was asked for")
        return jobs, notes

    def remember(self, chosen: Sequence[Metric]) -> dict[str, State]:
        """Empty states of the real side, by name, that `run` will fill."""
        consumers = [self._whole(one, "real") for one in chosen]
        for one, consumer in zip(chosen, consumers, strict=True):
            self._note(one, consumer)
        return {consumer.name: consumer.state for consumer in consumers}

    def _note(self, one: Metric, *consumers: Consumer | None) -> None:
        self._read_by.setdefault(one.name, []).extend(c for c in consumers if c is not None)

    def identities(self, side: Side) -> dict[str, Any]:
        """What identifies the images that were taken of a side, in the order of the listing.

        So that it does not depend on the seed where all images are taken.

        Returns:
            `fingerprint`, of all that any metric was given; `metrics`, of those that a metric was given, by
            its name, where they are others than all.
        """
        every = self._listed(side, list(self.consumers.values()))
        of_metrics = {name: self._listed(side, consumers) for name, consumers in self._read_by.items()}
        others = {name: images for name, images in of_metrics.items() if images not in ("", every)}
        return {"fingerprint": every, **({"metrics": others} if others else {})}

    def _listed(self, side: Side, consumers: Sequence[Consumer]) -> str:
        parts = {(c.first, c.stop) for c in consumers if c.reads == side}
        if not parts:
            return ""
        order = self.orders[side]
        taken = np.concatenate([order[first:stop] for first, stop in sorted(parts)])
        return self.sides[side].identity(np.unique(taken))

    def _images(self, side: Side, first: int, stop: int) -> str:
        """What identifies the images that a state is fed, in that order."""
        listed = _LISTED if self.in_listing_order else ""
        return self.sides[side].identity(self.orders[side][first:stop]) + listed

    def new_state(self, one: Metric, side: Side, source: str, storage: Storage | None = None) -> State:
        """A fresh state of a metric for a side."""
        network = self.networks[one.tap.network].fingerprint if one.tap else ""
        return one.new_state(
            side, resolution=self.size, seed=self.seed, source=source, storage=storage, network=network
        )

    def _scored_sides(self, one: Metric) -> list[Side]:
        """The sides that a metric of one set scores; statistics that do not hold it are passed over."""
        scored: list[Side] = [side for side in self.sides if side != "held-out"]
        if self.given and self.given.holds(self._name(one)):
            scored.insert(0, "real")
        return scored

    def _name(self, one: Metric) -> str:
        return state_name(self.new_state(one, "real", ""), one.tap)

    def _whole(self, one: Metric, side: Side) -> Consumer:
        if side == "real" and self.given:
            return self._stored(one)
        return self._consumer(one, side, self._usable(one, side))

    def _pair(self, one: Metric) -> tuple[Consumer, Consumer]:
        if not one.equal_counts:
            return self._whole(one, "real"), self._whole(one, "fake")
        if self.given:
            real = self._stored(one)
            n, available = len(real.state.seen), self._usable(one, "fake")
            if available < n:
                raise SampleError(
                    f"{one.name} needs equally many images; {self.given.name} holds {n:,} and "
                    f"{self.sides['fake'].name} gives {available:,}: make the statistics with "
                    f"--num-images {available}"
                )
            return real, self._consumer(one, "fake", n)
        n = min(self._usable(one, "real"), self._usable(one, "fake"))
        return self._consumer(one, "real", n), self._consumer(one, "fake", n)

    def _halves(self, one: Metric, n: int) -> tuple[Consumer, Consumer] | None:
        """States of two disjoint sets of n reals, or None if there are too few."""
        # From an even place on, so that no MS-SSIM pair is torn by the cut.
        second = n + n % 2
        if self.given or second + n > len(self.sides["real"]):
            return None
        return self._consumer(one, "real", n), self._consumer(one, "real", n, second, plays="fake")

    def _no_floor(self, n: int, names: Sequence[str]) -> str:
        floor = f"the floor is left out ({', '.join(names)})"
        if self.given:
            return f"{floor}: it needs real images, and {self.given.name} holds statistics"
        held = len(self.sides["real"])
        return (
            f"{floor}: it compares two sets of {n:,} real images and {self.sides['real'].name} holds "
            f"{held:,}; num_images={held // 2} makes room for it"
        )

    def _stored(self, one: Metric) -> Consumer:
        assert self.given is not None
        name = self._name(one)
        if name not in self.consumers:
            source = self.given.source(name)
            if source.endswith(_LISTED) != self.in_listing_order and self.given.knows_images:
                made, asked = (
                    ("listing", "permutation") if source.endswith(_LISTED) else ("permutation", "listing")
                )
                raise StateError(
                    f"{self.given.name} was made differently: its images are in the order of the {made}, "
                    f"the {asked} was asked for (a preset takes the listing)"
                )
            fresh = self.new_state(one, "real", source)
            state = self.given.fill(name, fresh, one.name)
            self._check_count(one, len(state.seen))
            self.consumers[name] = Consumer("real", name, state, one.tap, 0, len(state.seen), ready=True)
        return self.consumers[name]

    def _check_count(self, one: Metric, held: int) -> None:
        """Refuse statistics of another number of images than was asked for; an npz does not say."""
        if self.num_images is None or not held:
            return
        wanted = one.usable(self.num_images, "real")
        if held != wanted:
            raise StateError(
                f"{self.given.name if self.given else ''} holds {held:,} images for {one.name}; "
                f"num_images={self.num_images} takes {wanted:,}"
            )

    def _consumer(
        self, one: Metric, reads: Side, count: int, first: int = 0, plays: Side | None = None
    ) -> Consumer:
        """A state for images first ... first + count - 1 of a side; metrics that remember alike share it."""
        state = self.new_state(one, plays or reads, "", self.storage)
        name, part = state_name(state, one.tap), (first, first + count)
        identity = dump_json([name, reads, part, state.key.to_dict()], sort_keys=True)
        if identity not in self.consumers:
            cache = self.cache if reads == "real" and self._may_be_kept(one.tap) else None
            cached = False
            if cache is not None and cache.takes(state):
                self._identify(state, reads, part)
                cached = cache.fetch(name, state, part)
            self.consumers[identity] = Consumer(reads, name, state, one.tap, *part, ready=cached)
        return self.consumers[identity]

    def _identify(self, state: State, side: Side, part: tuple[int, int]) -> None:
        """Write into a state's key of which images it is.

        Before they are read only where the cache has to be asked: while they are read they are digested, too.
        """
        if not state.key.source:
            state.key = replace(state.key, source=self._images(side, *part))

    def _may_be_kept(self, tap: Tap | None) -> bool:
        """Whether a key stands for all that made a state."""
        return tap is None or self.networks[tap.network].fingerprint_is_whole

    def _usable(self, one: Metric, side: Side) -> int:
        source = self.sides[side]
        held = len(source)
        if side == "fake" and self.at_most is not None:
            held = min(held, self.at_most)
        try:
            return one.usable(held, side)
        except SampleError as error:
            raise SampleError(f"{source.name}: {error}") from error

    def run(
        self,
        side: Side,
        device: torch.device,
        workers: int | None,
        progress: Progress | None,
        called: str | None = None,
    ) -> None:
        """Read the images that are needed of one side, each once, and hand them round.

        Args:
            side: whose images.
            device: of the computation.
            workers: processes that decode ahead.
            progress: called with (what, done, total).
            called: names the set in remarks, beside its source's name; the side if left out.
        """
        source, order = self.sides[side], self.orders[side]
        hungry = [c for c in self.consumers.values() if c.reads == side and not c.ready]
        total = max((consumer.stop for consumer in hungry), default=0)
        if not total:
            return
        found = ByteRange(f"{source.name} ({called or side})")
        source.to(str(device))
        for network in {c.tap.network for c in hungry if c.tap}:
            self.networks[network].to(str(device))
        length = block_length(source.resolution[0])
        # Blocks begin anew where a consumer begins, so that each is cut as if it were alone.
        cuts = sorted({consumer.first for consumer in hungry} | {total})
        together = _TOGETHER if any(consumer.tap for consumer in hungry) else 1
        if progress is not None:
            progress(f"{side} images", 0, total)
        for begin, end in pairwise(cuts):
            loaded = loading.blocks(source, order[begin:end], length, workers)
            for blocks in _several(loaded, together):
                place = begin + blocks[0][0]
                for _, decoded in blocks:
                    found.add(decoded)
                on_device = [torch.from_numpy(pixels).to(device) for _, pixels in blocks]
                pixels = on_device[0] if len(on_device) == 1 else torch.cat(on_device)
                features = self._features(hungry, place, pixels, source, order)
                for pixels in on_device:
                    for consumer in hungry:
                        consumer.feed(place, pixels, features)
                    place += len(pixels)
                    if progress is not None:
                        progress(f"{side} images", place, total)
        for consumer in hungry:
            self._identify(consumer.state, side, (consumer.first, consumer.stop))
        self.remarks += source.take_remarks() + ([warning] if (warning := found.remark()) else [])
        if side == "real" and self.cache is not None:
            for consumer in hungry:
                if self._may_be_kept(consumer.tap):
                    self.cache.keep(consumer.name, consumer.state, (consumer.first, consumer.stop))
            passed_over = {c.tap.network for c in hungry if c.tap and not self._may_be_kept(c.tap)}
            for network in sorted(passed_over):
                self.cache.decline(self.networks[network].label)

    def _features(
        self,
        consumers: Sequence[Consumer],
        start: int,
        pixels: torch.Tensor,
        source: ImageSource,
        order: NDArray[np.int64],
    ) -> dict[Tap, FeatureBlock]:
        """One forward of each network that anybody taps, over the images that somebody needs."""
        wanted: dict[str, set[Tap]] = {}
        spans: dict[str, list[tuple[int, int]]] = {}
        for consumer in consumers:
            a, b = consumer.overlap(start, start + len(pixels))
            if consumer.tap is not None and a < b:
                wanted.setdefault(consumer.tap.network, set()).add(consumer.tap)
                spans.setdefault(consumer.tap.network, []).append((a, b))
        found = {}
        for network, taps in wanted.items():
            a, b = min(a for a, _ in spans[network]), max(b for _, b in spans[network])
            layers = sorted(tap.layer for tap in taps)
            rows = self.networks[network].extract(pixels[a - start : b - start], layers)
            for tap in taps:
                block = FeatureBlock(a, rows[tap.layer])
                bad = first_not_finite(block)
                if bad is not None:
                    raise SampleError(
                        f"{source.name}: the {network} {tap.layer} of {source.called(int(order[bad]))} "
                        "are not finite; the network or the image is broken"
                    )
                self._check_width(tap, block.features.shape[1])
                found[tap] = block
        return found

    def _check_width(self, tap: Tap, width: int) -> None:
        """Refuse statistics of another network's features as soon as the first images tell."""
        if self.given is None:
            return
        read = (c.state for c in self.consumers.values() if c.ready and c.tap == tap)
        for state in read:
            if state.width is not None and state.width != width:
                raise StateError(
                    f"{self.given.name} holds statistics of {state.width:,} features; "
                    f"{self.networks[tap.network].label} gives {width:,}, so another network made them"
                )


def _several(blocks: Iterator[_Loaded], together: int) -> Iterator[list[_Loaded]]:
    """Blocks of a sequence, a few at a time: at the end of each extraction some cores have nothing to do."""
    several: list[_Loaded] = []
    for block in blocks:
        several.append(block)
        if len(several) == together or sum(pixels.nbytes for _, pixels in several) >= _BYTES:
            yield several
            several = []
    if several:
        yield several


def state_name(state: State, tap: Tap | None) -> str:
    """What a state remembers, in a word: `swd`, `moments-inception-features`, `rows-inception-logits`."""
    return state.key.kind if tap is None else f"{state.key.kind}-{tap.network}-{tap.layer}"


def check_layers(chosen: Sequence[Metric], networks: Mapping[str, FeatureExtractor]) -> None:
    """Refuse a metric that asks a network for what it does not give, before an image is read.

    Raises:
        OptionError: naming the metric, the network and what it gives.
    """
    for one in chosen:
        if one.tap is not None and one.tap.layer not in networks[one.tap.network].layers:
            raise OptionError(
                f"{one.name} reads the {one.tap.layer} of the network {one.tap.network}, "
                f"which gives {', '.join(networks[one.tap.network].layers)}"
            )
