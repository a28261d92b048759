"""One pass over the images, every metric: evaluate(), and swd(), fid(), ... on top of it."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgmetrics import __version__, results
from pgmetrics.blocks import block_length
from pgmetrics.cache import Cache
from pgmetrics.devices import pick_device
from pgmetrics.errors import OptionError, SampleError
from pgmetrics.features import open_network
from pgmetrics.features.base import FeatureExtractor
from pgmetrics.metrics.base import Estimate, Metric, Side, State
from pgmetrics.metrics.memorisation import Memorisation
from pgmetrics.metrics.registry import METRICS, with_error
from pgmetrics.metrics.registry import metric as find_metric
from pgmetrics.planning import Job, Planner, Progress, check_layers
from pgmetrics.presets import PRESETS, Preset
from pgmetrics.results import Results
from pgmetrics.sources.base import ImageSource, Mirrored, sequence, warn_of_left_out
from pgmetrics.sources.resolve import open_source
from pgmetrics.statistics import MomentsReals, StoredReals, open_statistics
from pgmetrics.storage import DEFAULT_MAX_MEMORY, WORKING_MEMORY, Storage

Weights = Mapping[str, str | os.PathLike[str]] | str | os.PathLike[str]
"""A file by the name of its network, or Inception's alone."""

_NO_OTHER_NUMBER = frozenset({"num_images", "network", "groups", "keep_rows", "error", "names"})
"""Parameters that have a column of their own, or change errors and what is remembered alone."""

logger = logging.getLogger("pgmetrics")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How images are read and metrics computed; each as `evaluate` describes it."""

    num_images: int | None = None
    seed: int = 0
    device: str = "auto"
    workers: int | None = None
    resolution: int | None = None
    resize: str | None = None
    alpha: str | None = None
    bits: int | None = None
    mirror: bool = False
    max_memory: int = DEFAULT_MAX_MEMORY
    preset: str | None = None
    weights: Weights | None = None
    allow_unverified_weights: bool = False
    form: str | None = None
    precision: str | None = None
    networks: Mapping[str, FeatureExtractor] | None = None
    cache: Cache | str | os.PathLike[str] | None = None

    @property
    def reading(self) -> dict[str, Any]:
        """What says how files become images."""
        return {name: getattr(self, name) for name in ("resolution", "resize", "alpha", "bits")}


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
        networks: extractors to use in place of those that the names stand for; "own" is one's own.
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
    chosen = _choose(metrics, options, error)
    # The floor has reals on both sides.
    _check_choice(chosen, real, real if fake is None and floor else fake, held_out, run)
    setting = _settle(chosen, {"real": real, "fake": fake, "held-out": held_out}, options)
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
        stamp = _protocol(protocol, preset, job.metric, setting.networks)
        rows += [_row(label, job, estimate, seed, stamp) for estimate in estimates]
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
    chosen = _choose(metrics, how)
    for fake in fakes:
        _check_choice(chosen, real, fake, None, None)
    setting = _settle(chosen, {"real": real, **dict(zip(called, fakes, strict=True))}, how)
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
        stamp = _protocol(protocol, how.preset, each[0].metric, setting.networks)
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
    chosen = _choose(metrics, options)
    setting = _settle(chosen, {"real": real}, options, statistics=False)
    planner = setting.planner({"real": "real"})
    states = planner.remember(chosen)
    setting.feed(planner, "real", progress)
    for remark in planner.remarks:
        logger.warning(remark)
    about = {
        "source": _describe(setting.sources["real"], planner, "real"),
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
    """Fréchet distance in the features of one's own network; options as in `evaluate`."""
    return evaluate(real, fake, ["fd"], networks={"own": network}, **options)


def versions() -> dict[str, str]:
    """Of everything that can change a number."""
    packages = {"torch-fidelity": "torch_fidelity", "pillow": "PIL", "scipy": "scipy"}
    loaded = {
        name: sys.modules[module].__version__ for name, module in packages.items() if module in sys.modules
    }
    return {
        "pgmetrics": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        **loaded,
    }


def _preset(name: str | None) -> Preset | None:
    if name is not None and name not in PRESETS:
        raise OptionError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return None if name is None else PRESETS[name]


def _choose(metrics: Sequence[str | Metric], options: Options, error: str | None = None) -> list[Metric]:
    if not metrics:
        raise OptionError("no metric was asked for")
    preset = _preset(options.preset)
    chosen = [preset.metric(one) if preset else find_metric(one) for one in metrics]
    if error is not None:
        if preset:
            raise OptionError(
                f"the preset {options.preset} fixes what errors are over; leave out error={error!r}"
            )
        chosen = with_error(chosen, error)
    names = [one.name for one in chosen]
    if len(set(names)) < len(names):
        raise OptionError(f"a metric is asked for twice: {', '.join(names)}")
    n = options.num_images
    return chosen if n is None else [one.with_num_images(n) for one in chosen]


@dataclass(frozen=True)
class _Setting:
    """All that is settled before the first image is read.

    Attributes:
        sources: the images, by what they are called: "real", "fake", "held-out", ...
        given: statistics in place of real images.
        size: height and width of all images.
        networks: by name, those that the metrics tap.
    """

    chosen: Sequence[Metric]
    options: Options
    sources: Mapping[str, ImageSource]
    given: StoredReals | MomentsReals | None
    size: tuple[int, int]
    device: torch.device
    networks: Mapping[str, FeatureExtractor]
    storage: Storage
    cache: Cache | None
    in_listing_order: bool

    def planner(self, called: Mapping[Side, str], at_most: int | None = None) -> Planner:
        """A planner of the sides that there are, each by what its source is called."""
        sides = {side: self.sources[name] for side, name in called.items() if name in self.sources}
        return Planner(
            sides,
            {side: self._order(source) for side, source in sides.items()},
            self.given,
            self.size,
            self.options.seed,
            self.storage,
            self.networks,
            self.cache,
            self.options.num_images,
            self.in_listing_order,
            at_most=at_most,
        )

    def _order(self, source: ImageSource) -> NDArray[np.int64]:
        return source.by_characters if self.in_listing_order else sequence(source, self.options.seed)

    def feed(self, planner: Planner, side: Side, progress: Progress | None, name: str | None = None) -> None:
        """Read the images of a side and hand them to the planner's states."""
        told = progress if name is None or progress is None else _named(progress, name)
        planner.run(side, self.device, self.options.workers, told, name)
        source = planner.sides[side]
        for note, count in sorted(source.notes.items()):
            logger.info(f"{source.name}: {count:,} × {note}")

    def parameters(self) -> dict[str, Any]:
        """What decides the numbers, besides images and networks."""
        return {
            "metrics": {one.name: dataclasses.asdict(one) for one in self.chosen},  # type: ignore[call-overload]
            "num_images": self.options.num_images,
            "seed": self.options.seed,
            "mirror": self.options.mirror,
            "preset": self.options.preset,
            "block": block_length(self.size[0]),
            **self.options.reading,
        }

    def described_sources(self, fed: Mapping[str, tuple[Planner, Side]]) -> dict[str, dict[str, Any]]:
        """Every set for the provenance, by what it is called, once its images were read.

        Args:
            fed: the planner that a set was fed by, and the side that it was.
        """
        described = {
            name: _describe(source, *fed[name]) for name, source in self.sources.items() if name in fed
        }
        return {"real": self.given.describe(), **described} if self.given else described

    def circumstances(self, started: float) -> dict[str, Any]:
        """The part of the provenance that says where and when."""
        return {
            "networks": {name: dict(extractor.protocol) for name, extractor in self.networks.items()},
            "device": _device_name(self.device),
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "spilled_bytes": self.storage.spilled,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            "seconds": round(time.time() - started, 3),
        }


def _named(progress: Progress, name: str) -> Progress:
    """The same, telling whose images are meant."""
    return lambda what, done, total: progress(f"{name}: {what}", done, total)


def _settle(
    chosen: Sequence[Metric],
    images: Mapping[str, object | None],
    options: Options,
    *,
    statistics: bool = True,
) -> _Setting:
    """Open the sources and networks, and refuse what cannot be computed before an image is read.

    Args:
        images: what was given for each set, by what it is called; None where none was.
        statistics: whether statistics may stand in place of the real images.
    """
    device = pick_device(options.device)
    given = open_statistics(images["real"]) if statistics else None
    sources = {
        name: open_source(what, **options.reading)
        for name, what in images.items()
        if what is not None and not (given and name == "real")
    }
    warn_of_left_out(sources.values())
    for source in sources.values():
        source.forget_digests()  # an array may have changed since it was last evaluated
    if options.mirror and given:
        raise OptionError(
            f"mirror flips real images, and {given.name} holds statistics: give --mirror where they are made"
        )
    if options.mirror and "real" in sources:
        sources["real"] = Mirrored(sources["real"], options.seed)
    if given and not sources:
        raise OptionError(f"{given.name} holds statistics of real images; give generated ones to compare")
    size = _common_size(sources)
    _check_sides(chosen, sources, size, options.num_images)
    cache = options.cache
    compat = _preset(options.preset)
    return _Setting(
        chosen,
        options,
        sources,
        given,
        size,
        device,
        _open_networks(chosen, compat, options),
        Storage(max(0, options.max_memory - WORKING_MEMORY)),
        Cache(cache) if isinstance(cache, (str, os.PathLike)) else cache,
        compat is not None and compat.order == "listing",
    )


def _check_choice(
    chosen: Sequence[Metric],
    real: object | None,
    fake: object | None,
    held_out: object | None,
    run: str | None,
) -> None:
    if run is not None and not (run and run.isprintable()):
        raise OptionError(f"a run's label is a line of text, not {run!r}")
    if real is None and fake is None:
        raise OptionError("neither real nor generated images were given")
    if held_out is not None and not any(isinstance(one, Memorisation) for one in chosen):
        raise OptionError("held-out images are for memorisation, which was not asked for")
    for one in chosen:
        if one.two_sided and (real is None or fake is None):
            raise OptionError(f"{one.name} compares real with generated images; give both")


def _check_sides(
    chosen: Sequence[Metric],
    sides: Mapping[str, ImageSource],
    size: tuple[int, int],
    num_images: int | None,
) -> None:
    for one in chosen:
        one.check_resolution(*size)
    for side, source in sides.items():
        if num_images is not None and side != "held-out" and len(source) < num_images:
            raise SampleError(
                f"{source.name} holds {len(source):,} images; num_images asks for {num_images:,}."
            )


def _open_networks(
    chosen: Sequence[Metric], preset: Preset | None, options: Options
) -> dict[str, FeatureExtractor]:
    """The networks that the metrics tap, in the order of the metrics."""
    weights, given = options.weights, options.networks or {}
    files = weights if isinstance(weights, Mapping) else {} if weights is None else {"inception": weights}
    needed = dict.fromkeys(one.tap.network for one in chosen if one.tap is not None)
    for name in files:
        if name not in needed:
            raise OptionError(
                f"weights are given for {name}, and the metrics use {', '.join(needed) or 'no network'}"
            )
    arithmetic = {"form": options.form, "precision": options.precision}
    asked = {key: value for key, value in arithmetic.items() if value is not None}
    if preset and asked:
        raise OptionError(f"a preset fixes the network's {' and '.join(asked)}; leave out one or the other")
    opened = {}
    for name in needed:
        if name in given:
            opened[name] = given[name]
        elif name == "own":
            own = ", ".join(one.name for one in chosen if one.tap is not None and one.tap.network == "own")
            raise OptionError(f"{own} needs one's own network: --features PATH, or networks={{'own': ...}}")
        else:
            settings = {**(preset.networks.get(name, {}) if preset else {}), **asked}
            opened[name] = open_network(
                name,
                weights=files.get(name),
                allow_unverified=options.allow_unverified_weights,
                **settings,
            )
    if asked and not any(name in opened and name not in given for name in needed):
        raise OptionError(f"{' and '.join(asked)} belong to Inception, which the metrics do not use")
    check_layers(chosen, opened)
    return opened


def _common_size(sides: Mapping[str, ImageSource]) -> tuple[int, int]:
    sizes = {side: source.resolution for side, source in sides.items()}
    if len(set(sizes.values())) > 1:
        found = "; ".join(f"{sides[side].name} ({side}) has {h}x{w}" for side, (h, w) in sizes.items())
        raise SampleError(
            f"the images differ in size: {found}. "
            "--resize box|lanczos|bicubic with --resolution N brings them to one size; "
            "a ProGAN stage is enlarged to its final size by progan:PATH,at=final"
        )
    return next(iter(sizes.values()))


def _protocol(
    protocol: str, preset: str | None, metric: Metric, networks: Mapping[str, FeatureExtractor]
) -> str:
    """How a number was made, in a few words: for a metric of features the network belongs to it."""
    if metric.tap is None:
        return protocol
    usual = PRESETS[preset].metrics if preset else {name: kind() for name, kind in METRICS.items()}
    changed = _changed(metric, usual[metric.name]) if metric.name in usual else []
    return ", ".join([protocol, preset or networks[metric.tap.network].label, *changed])


def _changed(metric: Metric, usual: Metric) -> list[str]:
    """The parameters that make another number of a metric, where they are not the usual ones."""
    mine, its = (dataclasses.asdict(one) for one in (metric, usual))  # type: ignore[call-overload]
    return [
        f"{name}={value}"
        for name, value in mine.items()
        if name not in _NO_OTHER_NUMBER and name in its and value != its[name]
    ]


def _row(run: str, job: Job, estimate: Estimate, seed: int, protocol: str) -> dict[str, Any]:
    subject, n_real, n_fake = estimate.subject, estimate.n_real, estimate.n_fake
    if job.subject == "real":
        # The floor: both sets are reals, and no generated image took part.
        subject, n_fake = "real", None
    return {
        "run": run,
        "subject": subject,
        "metric": estimate.metric,
        "level": estimate.level,
        "value": estimate.value,
        "stderr": estimate.stderr,
        "stderr_kind": estimate.stderr_kind,
        "n_real": n_real,
        "n_fake": n_fake,
        "seed": seed,
        "protocol": protocol,
    }


def _describe(source: ImageSource, planner: Planner, side: Side) -> dict[str, Any]:
    height, width = source.resolution
    return {
        "name": source.name,
        **planner.identities(side),
        "count": len(source),
        "height": height,
        "width": width,
        "notes": dict(source.notes),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
