"""Compute metrics in one pass over the images: evaluate(), and swd(), fid(), ... on top of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pgmetrics import results
from pgmetrics.errors import OptionError
from pgmetrics.evaluation import provenance
from pgmetrics.evaluation.engine import run_pass
from pgmetrics.evaluation.options import CollectOptions, EvaluateOptions, Options, takes_options
from pgmetrics.evaluation.plan import Part, Plan, check_width, plan_evaluation, plan_reals
from pgmetrics.evaluation.rows import as_row, compute, row_protocol
from pgmetrics.evaluation.setup import Setup, check_choice, choose_metrics, resolve
from pgmetrics.features.base import FeatureExtractor
from pgmetrics.metrics.base import Metric, State
from pgmetrics.metrics.registry import DEFAULT
from pgmetrics.prepared.cache import Cache
from pgmetrics.results import Results
from pgmetrics.runtime.progress import Progress

if TYPE_CHECKING:
    from typing_extensions import Unpack


logger = logging.getLogger("pgmetrics")


@dataclass(frozen=True)
class Observation:
    """The states of one metric for every set.

    Attributes:
        metric: the metric.
        real: the state of the real images; None if none were given.
        fakes: the state of each generated set, in the order given; all hold equally many images.
        protocol: how the metric's numbers are computed, as in a row.
    """

    metric: Metric
    real: State | None
    fakes: tuple[State, ...]
    protocol: str


@dataclass(frozen=True)
class Observed:
    """An observation for every metric, their provenance, and notes about the images."""

    observations: tuple[Observation, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@takes_options(EvaluateOptions)
def evaluate(
    real: object | None,
    fake: object | None,
    metrics: Sequence[str | Metric] = DEFAULT,
    *,
    held_out: object | None = None,
    floor: bool = False,
    error: str | None = None,
    protocol: str = "native",
    run: str | None = None,
    progress: Progress | None = None,
    **options: Unpack[EvaluateOptions],
) -> Results:
    """Score generated images against real ones; each image is read or generated once for all metrics.

    Each feature network runs once per image, shared by all metrics that use it. The same seed gives the
    same numbers to the bit regardless of workers, `max_memory` and the other metrics, on one machine with
    one set of library versions.

    Args:
        real: where the real images come from: a path, a source specification, an array, a tensor, a
            Dataset, a callable or an `ImageSource`; or statistics of them: a `.pgstats` directory, what
            `collect` returned, or an npz of mu and sigma. May be None if no metric compares two sides.
        fake: likewise, the generated images. May be None if only the reals are to be scored, alone or,
            with `floor`, against each other at the number of images that a generator would be asked for.
        metrics: names, or metrics with parameters of their own such as
            `SlicedWasserstein(patches_per_image=64)`.
        held_out: real images that training never saw, for memorisation's test against copying.
        floor: add what a perfect generator would score, `subject` "real": every metric that compares two
            sides is also computed between two disjoint sets of reals, each with the number of images of the
            fakes. This needs twice as many reals; with fewer, the floor is left out.
        error: source of the standard errors, for metrics that have the choice: "images" (resampling images,
            which comparisons need), "directions" or "both". By default each metric has its own, for swd
            "directions". Other metrics are not affected.
        protocol: how the images were made comparable, copied into every row.
        run: label of the rows; by default a digest of everything that determines them.
        progress: called with (what, done, total).
        options: any of `Options`.

    Returns:
        Rows per metric, level and subject, and the provenance, whose "notes" a reader of the rows must know.

    Raises:
        SampleError: too few images, or sizes that do not fit the metrics or each other.
        SourceError: a source cannot be opened or read.
        StateError: statistics cannot be read, or were made differently; both values are named.
        WeightsError: a network's weights are missing, damaged or another network's.
        OptionError: an option has no such value, or there is no such option.
    """
    started = time.time()
    settings = Options(**options)
    chosen = choose_metrics(metrics, settings, error)
    # The floor has reals on both sides.
    check_choice(chosen, real, real if fake is None and floor else fake, held_out, run)
    setup = resolve(chosen, {"real": real, "fake": fake, "held-out": held_out}, settings)
    plan = plan_evaluation(setup, floor=floor)
    notes = [*plan.notes, *_feed(setup, plan, progress)]

    parameters = {**provenance.parameters(setup), "floor": floor}
    sources = provenance.described_sources(setup, plan)
    label = run or _label(setup, parameters, sources, protocol)
    rows = []
    jobs = plan.jobs["fake"]
    for index, job in enumerate(jobs):
        if progress is not None:
            progress(f"computing {job.metric.name}", index, len(jobs))
        estimates, remarks = compute(job)
        notes += [remark for remark in remarks if remark not in notes]
        stamp = row_protocol(protocol, settings.preset, job.metric, setup.networks)
        rows += [as_row(label, job, estimate, settings.seed, stamp) for estimate in estimates]
    if progress is not None:
        progress("computing", len(jobs), len(jobs))
    for note in notes:
        logger.warning(note)
    # The floor comes first, as in the published tables.
    rows.sort(key=lambda row: row["subject"] != "real")
    about = {"parameters": parameters, "sources": sources, "protocol": protocol, "notes": notes}
    return Results(tuple(rows), {**about, **provenance.circumstances(setup, started)})


@takes_options(EvaluateOptions)
def observe(
    real: object | None,
    fakes: Sequence[object],
    metrics: Sequence[str | Metric] = DEFAULT,
    *,
    names: Sequence[str] | None = None,
    protocol: str = "native",
    progress: Progress | None = None,
    **options: Unpack[EvaluateOptions],
) -> Observed:
    """Accumulate the states of several generated sets and the reals, to compare the sets with each other.

    Each image is read or generated once, the reals too. A metric uses the first n images of every generated
    set: n is `num_images` or its published number, but at most the size of the smallest set.

    Args:
        real: as in `evaluate`; may be None if no metric compares two sides.
        fakes: the generated sets.
        metrics: names, or metrics with parameters of their own.
        names: names of the sets in messages; by default "fake 1", "fake 2", ...
        protocol: how the images were made comparable.
        progress: called with (what, done, total).
        options: any of `Options`.

    Raises:
        SampleError, SourceError, StateError, WeightsError, OptionError: as `evaluate`.
    """
    started = time.time()
    settings = Options(**options)
    called = [f"fake {number}" for number in range(1, len(fakes) + 1)] if names is None else list(names)
    if not fakes:
        raise OptionError("no generated images were given")
    chosen = choose_metrics(metrics, settings)
    for fake in fakes:
        check_choice(chosen, real, fake, None, None)
    setup = resolve(chosen, {"real": real, **dict(zip(called, fakes, strict=True))}, settings)
    plan = plan_evaluation(setup, called)
    notes = _feed(setup, plan, progress)
    observations = []
    for jobs in zip(*(plan.jobs[name] for name in called), strict=True):
        metric, reals = jobs[0].metric, jobs[0].real
        states = tuple(job.fake.state for job in jobs if job.fake is not None)
        stamp = row_protocol(protocol, settings.preset, metric, setup.networks)
        observations.append(Observation(metric, reals.state if reals else None, states, stamp))
    about = {
        "parameters": provenance.parameters(setup),
        "sources": provenance.described_sources(setup, plan),
        "protocol": protocol,
        **provenance.circumstances(setup, started),
    }
    return Observed(tuple(observations), about, tuple(notes))


@takes_options(CollectOptions)
def collect(
    real: object,
    metrics: Sequence[str | Metric],
    *,
    progress: Progress | None = None,
    **options: Unpack[CollectOptions],
) -> tuple[dict[str, State], dict[str, Any]]:
    """Accumulate the states of the real images, for `evaluate` to take as `real`, now or from a file.

    `save_statistics` writes the file.

    Args:
        real: the images, as in `evaluate`.
        metrics: names, or metrics with parameters of their own.
        progress: called with (what, done, total).
        options: any of `Options` but `cache`.

    Returns:
        States by the names under which `evaluate` looks for them, and a description for the file.

    Raises:
        SampleError, SourceError, WeightsError, OptionError: as `evaluate`.
    """
    settings = Options(**options)
    setup = resolve(choose_metrics(metrics, settings), {"real": real}, settings, accept_statistics=False)
    plan = plan_reals(setup)
    for note in _feed(setup, plan, progress):
        logger.warning(note)
    about = {
        "source": provenance.describe_source(setup, plan, "real"),
        "metrics": [metric.name for metric in setup.metrics],
        "networks": provenance.networks(setup),
        "preset": settings.preset,
        "versions": provenance.versions(),
    }
    return {part.name: part.state for part in plan.parts}, about


def _feed(setup: Setup, plan: Plan, progress: Progress | None) -> list[str]:
    """Read the images that states still need, set by set, and store states in the cache.

    Returns:
        Notes about the images, one sentence each.
    """
    remarks = []
    for name, source in setup.sources.items():
        left = plan.left(name)
        remarks += run_pass(
            source,
            setup.orders[name],
            left,
            device=setup.device,
            networks=setup.networks,
            workers=setup.options.workers,
            called=name,
            check=partial(check_width, setup, plan),
            progress=None if progress is None else partial(progress, _images(name)),
        )
        for part in left:
            setup.identify(part.state, name, part.first, part.stop)
        if name == "real" and setup.cache is not None:
            _keep(setup, setup.cache, left)
        for note, count in sorted(source.notes.items()):
            logger.info(f"{source.name}: {count:,} × {note}")
    return remarks


def _images(name: str) -> str:
    """Return the name of a set's images in progress reports; a set with another name is a generated one."""
    return f"{name} images" if name in ("real", "fake", "held-out") else f"{name}: fake images"


def _keep(setup: Setup, cache: Cache, parts: Sequence[Part]) -> None:
    """Store the filled states of the reals in the cache, except those whose key is incomplete."""
    for part in parts:
        if setup.may_cache(part.tap):
            cache.keep(part.name, part.state, (part.first, part.stop))
    for network in sorted({part.tap.network for part in parts if part.tap and not setup.may_cache(part.tap)}):
        cache.decline(setup.networks[network].label)


def _label(setup: Setup, parameters: Mapping[str, Any], sources: Mapping[str, Any], protocol: str) -> str:
    """Return a digest of everything that determines the rows."""
    identity = {
        "parameters": parameters,
        "sources": {side: source["fingerprint"] or source["name"] for side, source in sources.items()},
        "networks": {name: extractor.fingerprint for name, extractor in setup.networks.items()},
        "protocol": protocol,
    }
    return results.run_id(identity)


def swd(real: object, fake: object, **options: Any) -> Results:
    """Sliced Wasserstein distance per pyramid level, and the mean over levels; options as in `evaluate`."""
    return evaluate(real, fake, ["swd"], **options)


def ms_ssim(fake: object, real: object | None = None, **options: Any) -> Results:
    """MS-SSIM among generated images, and among the reals if given; options as in `evaluate`."""
    return evaluate(real, fake, ["ms-ssim"], **options)


def fid(real: object, fake: object, **options: Any) -> Results:
    """Fréchet Inception distance; options as in `evaluate`."""
    return evaluate(real, fake, ["fid"], **options)


def inception_score(fake: object, real: object | None = None, **options: Any) -> Results:
    """Inception score of generated images, and of the reals if given; options as in `evaluate`."""
    return evaluate(real, fake, ["is"], **options)


def kid(real: object, fake: object, **options: Any) -> Results:
    """Kernel Inception distance; options as in `evaluate`."""
    return evaluate(real, fake, ["kid"], **options)


def prdc(real: object, fake: object, **options: Any) -> Results:
    """Precision, recall, density and coverage; options as in `evaluate`."""
    return evaluate(real, fake, ["prdc"], **options)


def memorisation(real: object, fake: object, held_out: object | None = None, **options: Any) -> Results:
    """AuthPct and, with held-out images, C_T: were training images copied? Options as in `evaluate`."""
    return evaluate(real, fake, ["memorisation"], held_out=held_out, **options)


def frechet_distance(real: object, fake: object, network: FeatureExtractor, **options: Any) -> Results:
    """Fréchet distance in the features of a custom network; options as in `evaluate`."""
    return evaluate(real, fake, ["fd"], networks={"custom": network}, **options)
