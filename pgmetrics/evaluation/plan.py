"""Plan an evaluation: what is computed, from which states, and which images these still need.

A plan is made from a `Setup` before an image is read. It lists the states that are needed of each set, which
of them statistics or the cache fill, and which are left for the pass (`evaluation.engine`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pgmetrics.errors import SampleError, StateError
from pgmetrics.evaluation.engine import Feed
from pgmetrics.evaluation.setup import LISTED, Setup
from pgmetrics.metrics.base import Metric, Side, State, Tap
from pgmetrics.prepared.statistics import MomentsReals, StoredReals
from pgmetrics.runtime.files import dump_json
from pgmetrics.runtime.spill import Storage

_ENDLESS = 10**9  # images that a generator can make
_MOST_TAKEN = 10**8  # images of a set: beyond it, their indices alone take gigabytes, and reading them weeks
_PUBLISHED = 50_000


@dataclass(frozen=True)
class Part(Feed):
    """A state of some images of a set, and where its content comes from.

    Attributes:
        reads: name of the set whose images it is fed, as in the setup.
        name: name of what it accumulates, on disk and in messages.
        ready: whether statistics or the cache filled it, so that no image is left to be read for it.
    """

    reads: str
    name: str
    ready: bool


@dataclass(frozen=True)
class Job:
    """A metric and the states from which it is computed.

    Attributes:
        subject: subject of its rows: "fake", or "real" for the floor.
    """

    metric: Metric
    subject: Side
    real: Part | None
    fake: Part | None
    held_out: Part | None = None


@dataclass(frozen=True)
class Plan:
    """What is computed, and from which states.

    Attributes:
        jobs: by name of the generated set, one job for each metric and subject. Without generated images,
            the jobs about reals have the key that generated images would have.
        parts: every state once.
        scored: by metric, the parts from which its score is computed; its floor may need more.
        notes: sentences about what cannot be computed.
    """

    jobs: Mapping[str, Sequence[Job]]
    parts: Sequence[Part]
    scored: Mapping[str, Sequence[Part]]
    notes: Sequence[str] = ()

    def left(self, name: str) -> list[Part]:
        """Return the parts that still need images of a set."""
        return [part for part in self.parts if part.reads == name and not part.ready]


def plan_evaluation(setup: Setup, fakes: Sequence[str] = ("fake",), *, floor: bool = False) -> Plan:
    """Plan a job for each metric, subject and generated set.

    Without generated images there are only jobs about the reals, with the floor at the number of images that
    would be generated. Several generated sets share the states of the reals; of each set, as many images are
    used as the smallest set has.

    Args:
        setup: the metrics, sets and networks.
        fakes: names of the generated sets.
        floor: whether metrics that compare two sides also compare two disjoint sets of reals.

    Raises:
        SampleError: there are too few images for a metric.
        StateError: the statistics do not hold what a metric needs, or were made differently.
    """
    counts = [len(setup.sources[name]) for name in fakes if name in setup.sources]
    draft = _Draft(setup, min(counts, default=None))
    jobs = {
        name: [job for metric in setup.metrics for job in draft.jobs(metric, name, floor)] for name in fakes
    }
    notes = [draft.no_floor(n, names) for n, names in draft.without_floor.items() if names]
    if floor and not draft.without_floor:
        notes.append("the floor is a property of metrics that compare two sides; none was asked for")
    return Plan(jobs, tuple(draft.parts.values()), draft.scored, notes)


def plan_reals(setup: Setup) -> Plan:
    """Plan the states of the real images that the metrics need, without jobs.

    Raises:
        SampleError: there are too few images for a metric.
    """
    draft = _Draft(setup)
    for metric in setup.metrics:
        draft.scored[metric.name] = [draft.whole(metric, "real")]
    return Plan({}, tuple(draft.parts.values()), draft.scored)


def check_width(setup: Setup, plan: Plan, tap: Tap, width: int) -> None:
    """Refuse statistics whose number of features differs from that of the first images.

    Raises:
        StateError: the numbers differ; the message names both.
    """
    if setup.statistics is None:
        return
    for state in (part.state for part in plan.parts if part.ready and part.tap == tap):
        if state.width is not None and state.width != width:
            raise StateError(
                f"{setup.statistics.name} holds statistics of {state.width:,} features; "
                f"{setup.networks[tap.network].label} gives {width:,}, so another network made them"
            )


@dataclass
class _Draft:
    """A plan under construction.

    Attributes:
        at_most: the largest number of images used of each generated set: the size of the smallest set.
        parts: states by everything that decides their content; metrics that accumulate the same share one.
        without_floor: by number of images, the metrics for whose floor there are too few reals.
    """

    setup: Setup
    at_most: int | None = None
    parts: dict[str, Part] = field(default_factory=dict)
    scored: dict[str, list[Part]] = field(default_factory=dict)
    without_floor: dict[int, list[str]] = field(default_factory=dict)

    def jobs(self, metric: Metric, fake: str, floor: bool) -> list[Job]:
        """Return a metric's jobs about a generated set and, for the floor, about the reals."""
        has_fakes = fake in self.setup.sources
        if not metric.two_sided:
            real = self.whole(metric, "real") if self._has_real(metric) else None
            jobs = [Job(metric, "fake", real, self.whole(metric, fake) if has_fakes else None)]
        else:
            held_out = None
            if "held-out" in metric.sides and "held-out" in self.setup.sources:
                held_out = self.whole(metric, "held-out")
            pair = self._pair(metric, fake) if has_fakes else None
            jobs = self._floor(metric, pair, held_out) if floor else []
            jobs += [Job(metric, "fake", *pair, held_out)] if pair else []
        for job in jobs:
            # The floor of a metric reads more reals than its score does, which is what a reader compares.
            if job.subject == "fake" or not has_fakes:
                parts = [part for part in (job.real, job.fake, job.held_out) if part is not None]
                self.scored.setdefault(metric.name, []).extend(parts)
        return jobs

    def whole(self, metric: Metric, name: str) -> Part:
        """Return the state of all images of a set that a metric uses."""
        if name == "real" and self.setup.statistics:
            return self._stored(metric, self.setup.statistics)
        return self._part(metric, name, self._usable(metric, name))

    def _has_real(self, metric: Metric) -> bool:
        """Whether a metric of one set can score the reals; statistics without its state do not count."""
        statistics = self.setup.statistics
        return statistics.holds(self._name(metric)) if statistics else "real" in self.setup.sources

    def _pair(self, metric: Metric, fake: str) -> tuple[Part, Part]:
        if not metric.equal_counts:
            return self.whole(metric, "real"), self.whole(metric, fake)
        if statistics := self.setup.statistics:
            real = self._stored(metric, statistics)
            n, available = len(real.state.seen), self._usable(metric, fake)
            if available < n:
                raise SampleError(
                    f"{metric.name} needs equally many images; {statistics.name} holds {n:,} and "
                    f"{self.setup.sources[fake].name} gives {available:,}: make the statistics with "
                    f"--num-images {available}"
                )
            return real, self._part(metric, fake, n)
        n = min(self._usable(metric, "real"), self._usable(metric, fake))
        return self._part(metric, "real", n), self._part(metric, fake, n)

    def _floor(self, metric: Metric, pair: tuple[Part, Part] | None, held_out: Part | None) -> list[Job]:
        """Return the job that compares two disjoint sets of reals, each as large as those of the score."""
        n = pair[1].stop if pair else metric.usable(_ENDLESS, "fake")
        left_out = self.without_floor.setdefault(n, [])
        # The second set starts at an even index, so that it does not split a pair of MS-SSIM.
        second = n + n % 2
        if self.setup.statistics or second + n > len(self.setup.sources["real"]):
            left_out.append(metric.name)
            return []
        halves = self._part(metric, "real", n), self._part(metric, "real", n, second, plays="fake")
        return [Job(metric, "real", *halves, held_out)]

    def no_floor(self, n: int, metrics: Sequence[str]) -> str:
        """Say why metrics that use n images have no floor."""
        floor = f"the floor is left out ({', '.join(metrics)})"
        if statistics := self.setup.statistics:
            return f"{floor}: it needs real images, and {statistics.name} holds statistics"
        real = self.setup.sources["real"]
        return (
            f"{floor}: it compares two sets of {n:,} real images and {real.name} holds "
            f"{len(real):,}; num_images={len(real) // 2} makes room for it"
        )

    def _stored(self, metric: Metric, statistics: StoredReals | MomentsReals) -> Part:
        name = self._name(metric)
        if name not in self.parts:
            source = statistics.source(name)
            listed = source.endswith(LISTED)
            if listed != self.setup.in_listing_order and statistics.knows_images:
                made, asked = ("listing", "permutation") if listed else ("permutation", "listing")
                raise StateError(
                    f"{statistics.name} was made differently: its images are in the order of the {made}, "
                    f"the {asked} was asked for (a preset takes the listing)"
                )
            state = statistics.fill(name, self._new_state(metric, "real", source), metric)
            self._check_count(metric, statistics, len(state.seen))
            self.parts[name] = Part(state, metric.tap, 0, len(state.seen), "real", name, ready=True)
        return self.parts[name]

    def _check_count(self, metric: Metric, statistics: StoredReals | MomentsReals, held: int) -> None:
        """Refuse statistics of another number of images than was asked for; an npz does not hold it."""
        num_images = self.setup.options.num_images
        if num_images is None or not held:
            return
        wanted = metric.usable(num_images, "real")
        if held != wanted:
            raise StateError(
                f"{statistics.name} holds {held:,} images for {metric.name}; "
                f"num_images={num_images} takes {wanted:,}"
            )

    def _part(self, metric: Metric, name: str, count: int, first: int = 0, plays: Side | None = None) -> Part:
        """Return a state of images first ... first + count - 1 of a set, from the cache if it holds one."""
        setup, stop = self.setup, first + count
        state = self._new_state(metric, plays or _side(name), storage=setup.storage)
        kind = _state_name(state, metric.tap)
        identity = dump_json([kind, name, [first, stop], state.key.to_dict()], sort_keys=True)
        if identity not in self.parts:
            cache = setup.cache if name == "real" and setup.may_cache(metric.tap) else None
            cached = False
            if cache is not None and cache.takes(state):
                # The cache identifies images by content, which is otherwise digested while they are read.
                setup.identify(state, name, first, stop)
                cached = cache.fetch(kind, state, (first, stop))
            self.parts[identity] = Part(state, metric.tap, first, stop, name, kind, ready=cached)
        return self.parts[identity]

    def _new_state(
        self, metric: Metric, side: Side, source: str = "", storage: Storage | None = None
    ) -> State:
        network = self.setup.networks[metric.tap.network].fingerprint if metric.tap else ""
        return metric.new_state(
            side,
            resolution=self.setup.size,
            seed=self.setup.options.seed,
            source=source,
            storage=storage,
            network=network,
        )

    def _name(self, metric: Metric) -> str:
        return _state_name(self._new_state(metric, "real"), metric.tap)

    def _usable(self, metric: Metric, name: str) -> int:
        source, side = self.setup.sources[name], _side(name)
        held = len(source)
        if side == "fake" and self.at_most is not None:
            held = min(held, self.at_most)
        try:
            taken = metric.usable(held, side)
        except SampleError as error:
            raise SampleError(f"{source.name}: {error}") from error
        if taken > _MOST_TAKEN:
            raise SampleError(
                f"{source.name} has {held:,} images, and {metric.name} would take {taken:,} of them; at "
                f"most {_MOST_TAKEN:,} are taken: num_images={_PUBLISHED} takes the first"
            )
        return taken


def _side(name: str) -> Side:
    """Return the side of a set: every set that is neither the reals nor held out is a generated one."""
    return "real" if name == "real" else "held-out" if name == "held-out" else "fake"


def _state_name(state: State, tap: Tap | None) -> str:
    """Return the name of a state: `swd`, `moments-inception-features`, `rows-inception-logits`."""
    return state.key.kind if tap is None else f"{state.key.kind}-{tap.network}-{tap.layer}"
