"""One pass over the images, every metric: evaluate(), and swd(), fid(), ... on top of it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pgmetrics import results
from pgmetrics.errors import OptionError
from pgmetrics.evaluation.plan import Planner, Progress
from pgmetrics.evaluation.rows import as_row, row_protocol
from pgmetrics.evaluation.setup import (
    Options,
    Weights,
    check_choice,
    choose_metrics,
    describe_source,
    resolve,
    versions,
)
from pgmetrics.features.base import FeatureExtractor
from pgmetrics.metrics.base import Metric, Side, State
from pgmetrics.prepared.cache import Cache
from pgmetrics.results import Results
from pgmetrics.runtime.spill import DEFAULT_MAX_MEMORY

logger = logging.getLogger("pgmetrics")


@dataclass(frozen=True)
class Observation:
    """What one metric remembers of every set.

    Attributes:
        real: of the real images; None where none were given.
        fakes: of each generated set, in the order they were given, of equally many images.
        protocol: how the metric's numbers are made, as in a row.
    """

    metric: Metric
    real: State | None
    fakes: tuple[State, ...]
    protocol: str


@dataclass(frozen=True)
class Observed:
    """An observation for every metric, how it came about, and what a reader must know of the images."""

    observations: tuple[Observation, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def evaluate(
    real: object | None,
    fake: object | None,
    metrics: Sequence[str | Metric] = ("swd", "ms-ssim"),
    *,
    held_out: object | None = None,
    num_images: int | None = None,
    floor: bool = False,
    error: str | None = None,
    seed: int = 0,
    device: str = "auto",
    workers: int | None = None,
    resolution: int | None = None,
    resize: str | None = None,
    alpha: str | None = None,
    bits: int | None = None,
    mirror: bool = False,
    max_memory: int = DEFAULT_MAX_MEMORY,
    preset: str | None = None,
    weights: Weights | None = None,
    allow_unverified_weights: bool = False,
    form: str | None = None,
    precision: str | None = None,
    networks: Mapping[str, FeatureExtractor] | None = None,
    cache: Cache | str | os.PathLike[str] | None = None,
    protocol: str = "native",
    run: str | None = None,
    progress: Progress | None = None,
) -> Results:
    """Score generated images against real ones; each image is read or generated once for all metrics.

    Each network sees each image once, too, whatever the number of metrics that use it. The same
    seed gives the same numbers to the bit for any number of workers, any `max_memory` and any other
    metrics beside, on one machine with one set of library versions.

    Args:
        real: where the real images come from: a path, a source specification, an array, a tensor, a
            Dataset, a callable or an `ImageSource`; or statistics of them, a `.pgstats` directory or
            an npz of mu and sigma. May be None if no metric compares two sides.
        fake: likewise, the generated images. May be None if only the reals are to be scored, alone or,
            with `floor`, against each other at the number of images that a generator would be asked for.
        metrics: names, or metrics with parameters of their own such as
            `SlicedWasserstein(patches_per_image=64)`.
        held_out: real images that training never saw, for memorisation's test against copying.
        num_images: images taken of each side; a source with fewer is refused. By default each
            metric takes its published number, or as many as there are.
        floor: add what a perfect generator would score, `subject` "real": every metric that compares
            two sides, between two disjoint sets of reals of the fakes' count. Needs twice as many
            reals; with fewer it is left out.
        error: what standard errors are over where a metric has the choice: "images" (how the value varies
            with other images, which comparisons need), "directions" or "both"; as each metric has it by
            default, for swd "directions". Metrics that give no other error are as they were.
        seed: of every random number: image order, patches, directions, mirroring, splits, subsets.
        device: "auto" (CUDA if there is one), "cpu", "cuda", "cuda:N" or "mps".
        workers: processes that decode ahead; 0 decodes in this one, None takes one per core.
        resolution, resize: bring both sides to this many pixels by a named policy.
        alpha, bits: what to do with transparency and 16-bit files.
        mirror: flip each real image by a keyed coin, as training with mirroring does.
        max_memory: bytes of memory on top of the interpreter's and libraries'; what descriptors are
            more than it has room for go to a temporary file. Below 1 GiB, all of them do.
        preset: compute as another tool does: "torch-fidelity", "pytorch-fid", "clean-fid" or
            "torchmetrics"; it fixes the metrics' parameters, the networks and the order of images.
        weights: file of each network's weights by its name, or of Inception's alone; looked for where
            `pgmetrics weights` says if left out.
        allow_unverified_weights: take weights whose SHA-256 is not the published one.
        form: of Inception: "fast" (the default), "plain" or "compiled"; they differ in rounding.
        precision: "float32" (the default) or "bfloat16", which moves the score.
        networks: extractors to use in place of those that the names stand for; "custom" is a custom network.
        cache: directory in which real sides are kept between runs, or None.
        protocol: how the images were made comparable, copied into every row.
        run: label of the rows; by default a digest of everything that determines them.
        progress: called with (what, done, total).

    Returns:
        Rows per metric, level and subject, and the provenance, whose "notes" a reader must know.

    Raises:
        SampleError: too few images, or sizes that do not fit the metrics or each other.
        SourceError: a source cannot be opened or read.
        StateError: statistics cannot be read, or were made differently; both values are named.
        WeightsError: a network's weights are missing, damaged or another network's.
        OptionError: an option has no such value.
    """
    started = time.time()
    options = Options(
        num_images=num_images, seed=seed, device=device, workers=workers, resolution=resolution,
        resize=resize, alpha=alpha, bits=bits, mirror=mirror, max_memory=max_memory, preset=preset,
        weights=weights, allow_unverified_weights=allow_unverified_weights, form=form,
        precision=precision, networks=networks, cache=cache,
    )  # fmt: skip
    chosen = choose_metrics(metrics, options, error)
    # The floor has reals on both sides.
    check_choice(chosen, real, real if fake is None and floor else fake, held_out, run)
    setting = resolve(chosen, {"real": real, "fake": fake, "held-out": held_out}, options)
    planner = setting.planner({"real": "real", "fake": "fake", "held-out": "held-out"})
    jobs, notes = planner.plan(chosen, floor)
    for side in planner.sides:
        setting.feed(planner, side, progress)
    notes += planner.remarks

    parameters = {**setting.parameters(), "floor": floor}
    described = setting.described_sources({side: (planner, side) for side in planner.sides})
    identity = {
        "parameters": parameters,
        "sources": {side: source["fingerprint"] or source["name"] for side, source in described.items()},
        "networks": {name: extractor.fingerprint for name, extractor in setting.networks.items()},
        "protocol": protocol,
    }
    label = run or results.run_id(identity)
    rows = []
    for index, job in enumerate(jobs):
        if progress is not None:
            progress(f"computing {job.metric.name}", index, len(jobs))
        estimates, remarks = job.compute()
        notes += [remark for remark in remarks if remark not in notes]
        stamp = row_protocol(protocol, preset, job.metric, setting.networks)
        rows += [as_row(label, job, estimate, seed, stamp) for estimate in estimates]
    if progress is not None:
        progress("computing", len(jobs), len(jobs))
    for note in notes:
        logger.warning(note)
    provenance = {
        "parameters": parameters,
        "sources": described,
        "protocol": protocol,
        "notes": notes,
        **setting.circumstances(started),
    }
    # The floor comes first, as in the published tables.
    rows.sort(key=lambda row: row["subject"] != "real")
    return Results(tuple(rows), provenance)


def observe(
    real: object | None,
    fakes: Sequence[object],
    metrics: Sequence[str | Metric] = ("swd", "ms-ssim"),
    *,
    names: Sequence[str] | None = None,
    protocol: str = "native",
    progress: Progress | None = None,
    **options: Any,
) -> Observed:
    """What metrics remember of several generated sets and the reals, to compare the sets with each other.

    Each image is read or generated once, the reals too. Of every generated set a metric is given
    the first n images: `num_images` or its published number, or as many as the smallest set has.

    Args:
        real: as in `evaluate`; may be None if no metric compares two sides.
        fakes: the generated sets.
        metrics: names, or metrics with parameters of their own.
        names: what messages call the sets; "fake 1", "fake 2", ... if left out.
        protocol: how the images were made comparable.
        progress: called with (what, done, total).
        options: any of `Options`, as in `evaluate`.

    Raises:
        SampleError, SourceError, StateError, WeightsError, OptionError: as `evaluate`.
    """
    started = time.time()
    how = Options(**options)
    called = [f"fake {number}" for number in range(1, len(fakes) + 1)] if names is None else list(names)
    if not fakes:
        raise OptionError("no generated images were given")
    chosen = choose_metrics(metrics, how)
    for fake in fakes:
        check_choice(chosen, real, fake, None, None)
    setting = resolve(chosen, {"real": real, **dict(zip(called, fakes, strict=True))}, how)
    smallest = min(len(setting.sources[name]) for name in called)
    planners: list[Planner] = []
    jobs = []
    for name in called:
        planner = setting.planner({"real": "real", "fake": name}, at_most=smallest)
        if planners:
            # The reals are the same for every set: one state each, filled by the first planner.
            shared = planners[0].consumers.items()
            planner.consumers.update({key: each for key, each in shared if each.reads == "real"})
        jobs.append(planner.plan(chosen, floor=False)[0])
        planners.append(planner)
    if "real" in setting.sources:
        setting.feed(planners[0], "real", progress)
    for name, planner in zip(called, planners, strict=True):
        setting.feed(planner, "fake", progress, name)
    observations = []
    for each in zip(*jobs, strict=True):
        reals = each[0].real
        filled = tuple(job.fake.state for job in each if job.fake is not None)
        stamp = row_protocol(protocol, how.preset, each[0].metric, setting.networks)
        observations.append(Observation(each[0].metric, reals.state if reals else None, filled, stamp))
    fed: dict[str, tuple[Planner, Side]] = {"real": (planners[0], "real")}
    fed |= {name: (planner, "fake") for name, planner in zip(called, planners, strict=True)}
    provenance = {
        "parameters": setting.parameters(),
        "sources": setting.described_sources(fed),
        "protocol": protocol,
        **setting.circumstances(started),
    }
    notes = tuple(remark for planner in planners for remark in planner.remarks)
    return Observed(tuple(observations), provenance, notes)


def collect(
    real: object,
    metrics: Sequence[str | Metric],
    *,
    num_images: int | None = None,
    seed: int = 0,
    device: str = "auto",
    workers: int | None = None,
    resolution: int | None = None,
    resize: str | None = None,
    alpha: str | None = None,
    bits: int | None = None,
    mirror: bool = False,
    max_memory: int = DEFAULT_MAX_MEMORY,
    preset: str | None = None,
    weights: Weights | None = None,
    allow_unverified_weights: bool = False,
    form: str | None = None,
    precision: str | None = None,
    networks: Mapping[str, FeatureExtractor] | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, State], dict[str, Any]]:
    """What metrics remember of the real images, to be saved with `save_states` and given as `real`.

    Options as in `evaluate`.

    Returns:
        States by the names under which `evaluate` looks for them, and a description for the file.

    Raises:
        SampleError, SourceError, WeightsError, OptionError: as `evaluate`.
    """
    options = Options(
        num_images=num_images, seed=seed, device=device, workers=workers, resolution=resolution,
        resize=resize, alpha=alpha, bits=bits, mirror=mirror, max_memory=max_memory, preset=preset,
        weights=weights, allow_unverified_weights=allow_unverified_weights, form=form,
        precision=precision, networks=networks,
    )  # fmt: skip
    chosen = choose_metrics(metrics, options)
    setting = resolve(chosen, {"real": real}, options, statistics=False)
    planner = setting.planner({"real": "real"})
    states = planner.remember(chosen)
    setting.feed(planner, "real", progress)
    for remark in planner.remarks:
        logger.warning(remark)
    about = {
        "source": describe_source(setting.sources["real"], planner, "real"),
        "metrics": [one.name for one in chosen],
        "networks": {name: dict(extractor.protocol) for name, extractor in setting.networks.items()},
        "preset": preset,
        "versions": versions(),
    }
    return states, about


def swd(real: object, fake: object, **options: Any) -> Results:
    """Sliced Wasserstein distance per pyramid level, and their mean; options as in `evaluate`."""
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
    """Whether training images were copied: AuthPct, and C_T where held-out images are given."""
    return evaluate(real, fake, ["memorisation"], held_out=held_out, **options)


def frechet_distance(real: object, fake: object, network: FeatureExtractor, **options: Any) -> Results:
    """Fréchet distance in the features of a custom network; options as in `evaluate`."""
    return evaluate(real, fake, ["fd"], networks={"custom": network}, **options)
