"""From options to what an evaluation needs: sources, networks, statistics, cache and device."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgmetrics._version import __version__
from pgmetrics.errors import OptionError, SampleError
from pgmetrics.evaluation.plan import Planner, Progress, check_layers
from pgmetrics.evaluation.presets import PRESETS, Preset
from pgmetrics.features import open_network
from pgmetrics.features.base import FeatureExtractor
from pgmetrics.metrics.base import Metric, Side
from pgmetrics.metrics.registry import METRICS, with_error
from pgmetrics.metrics.registry import metric as find_metric
from pgmetrics.prepared.cache import Cache
from pgmetrics.prepared.statistics import MomentsReals, StoredReals, open_statistics
from pgmetrics.runtime.blocks import block_length
from pgmetrics.runtime.devices import pick_device
from pgmetrics.runtime.spill import DEFAULT_MAX_MEMORY, WORKING_MEMORY, Storage
from pgmetrics.sources.base import ImageSource, sequence, warn_of_left_out
from pgmetrics.sources.resolve import open_source
from pgmetrics.sources.wrappers import Mirrored

logger = logging.getLogger("pgmetrics")

Weights = Mapping[str, str | os.PathLike[str]] | str | os.PathLike[str]
"""A file by the name of its network, or Inception's alone."""


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


def choose_metrics(
    metrics: Sequence[str | Metric], options: Options, error: str | None = None
) -> list[Metric]:
    """Find the metrics that are asked for, with the preset's parameters and the number of images.

    Raises:
        OptionError: no metric is named, or one is named twice.
    """
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
class Setup:
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
            name: describe_source(source, *fed[name]) for name, source in self.sources.items() if name in fed
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


def resolve(
    chosen: Sequence[Metric],
    images: Mapping[str, object | None],
    options: Options,
    *,
    statistics: bool = True,
) -> Setup:
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
        # Before a cache asks for the pixels: devices round otherwise, and one set would have two identities.
        source.to(str(device))
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
    return Setup(
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


def check_choice(
    chosen: Sequence[Metric],
    real: object | None,
    fake: object | None,
    held_out: object | None,
    run: str | None,
) -> None:
    """Refuse a combination of metrics and sets that cannot be scored.

    Raises:
        OptionError: a metric lacks a side that it compares, or a set has no use.
    """
    if run is not None and not (run and run.isprintable()):
        raise OptionError(f"a run's label is a line of text, not {run!r}")
    if real is None and fake is None:
        raise OptionError("neither real nor generated images were given")
    if held_out is not None and not any("held-out" in one.sides for one in chosen):
        users = [name for name, declared in METRICS.items() if "held-out" in declared.load().sides]
        raise OptionError(f"held-out images are for {', '.join(users)}, which was not asked for")
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
        elif name == "custom":
            needing = ", ".join(
                one.name for one in chosen if one.tap is not None and one.tap.network == "custom"
            )
            raise OptionError(
                f"{needing} needs a custom network: --features PATH, or networks={{'custom': ...}}"
            )
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


def describe_source(source: ImageSource, planner: Planner, side: Side) -> dict[str, Any]:
    """Describe a set of images for the provenance."""
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
