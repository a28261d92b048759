"""Resolve the options of an evaluation into metrics, sources, networks, statistics, cache and device."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from pgmetrics.errors import OptionError, SampleError
from pgmetrics.evaluation.options import Options, listed
from pgmetrics.evaluation.presets import PRESETS, Preset
from pgmetrics.features import NETWORKS, open_network
from pgmetrics.features.base import FeatureExtractor
from pgmetrics.metrics.base import Metric, State, Tap
from pgmetrics.metrics.registry import METRICS, find_metrics, with_error
from pgmetrics.prepared.cache import Cache
from pgmetrics.prepared.statistics import MomentsReals, StoredReals, open_statistics
from pgmetrics.runtime.devices import pick_device
from pgmetrics.runtime.spill import WORKING_MEMORY, Storage
from pgmetrics.sources.base import ImageSource, Order, sequence, warn_of_left_out
from pgmetrics.sources.resolve import open_source
from pgmetrics.sources.wrappers import Mirrored

LISTED = ",in listing order"
"""Suffix of the identity of images that are taken in listing order instead of a seeded permutation."""


@dataclass(frozen=True)
class Setup:
    """Everything that is resolved before an evaluation is planned.

    Attributes:
        metrics: the metrics with all their parameters.
        options: the options of the evaluation.
        sources: the image source of each set, by its name: "real", "fake", "held-out", ...
        orders: for each set, the indices of its images in the order of evaluation.
        statistics: stored statistics that replace the real images, or None.
        size: height and width of all images.
        device: the device that computes.
        networks: the feature networks that the metrics use, by name.
        storage: where large arrays are kept.
        cache: the cache of states of real images, or None.
        in_listing_order: whether images are evaluated in listing order. The order decides what a state
            accumulates, so it is part of the state's key.
    """

    metrics: Sequence[Metric]
    options: Options
    sources: Mapping[str, ImageSource]
    orders: Mapping[str, Order]
    statistics: StoredReals | MomentsReals | None
    size: tuple[int, int]
    device: torch.device
    networks: Mapping[str, FeatureExtractor]
    storage: Storage
    cache: Cache | None
    in_listing_order: bool

    def identify(self, state: State, name: str, first: int, stop: int) -> None:
        """Write into a state's key which images it accumulates.

        These are the images at positions first ... stop - 1 of the order of the set `name`. Images without a
        known digest are read to compute it.
        """
        if not state.key.source:
            listed = LISTED if self.in_listing_order else ""
            images = self.sources[name].identity(self.orders[name][first:stop])
            state.key = replace(state.key, source=images + listed)

    def may_cache(self, tap: Tap | None) -> bool:
        """Return whether a key identifies everything that determines a state of this network output.

        States of pixels (`tap` is None) may always be cached.
        """
        return tap is None or self.networks[tap.network].fingerprint_is_whole


def choose_metrics(
    metrics: Sequence[str | Metric], options: Options, error: str | None = None
) -> list[Metric]:
    """Find the requested metrics and set the preset's parameters and the number of images.

    Raises:
        OptionError: no metric is named, a metric is named twice, or `metrics` is not a list.
    """
    metrics = listed(metrics)
    if not metrics:
        raise OptionError("no metric was asked for")
    preset = _preset(options.preset)
    chosen = find_metrics(metrics, preset.metric if preset else None)
    if error is not None:
        if preset:
            raise OptionError(
                f"the preset {options.preset} fixes what errors are over; leave out error={error!r}"
            )
        chosen = with_error(chosen, error)
    names = [metric.name for metric in chosen]
    if len(set(names)) < len(names):
        raise OptionError(f"a metric is asked for twice: {', '.join(names)}")
    n = options.num_images
    return chosen if n is None else [metric.with_num_images(n) for metric in chosen]


def check_choice(
    chosen: Sequence[Metric],
    real: object | None,
    fake: object | None,
    held_out: object | None,
    run: str | None,
) -> None:
    """Refuse a combination of metrics and sets that cannot be scored.

    Raises:
        OptionError: a metric lacks a set that it compares, or no metric uses a given set.
    """
    if run is not None and not (run and run.isprintable()):
        raise OptionError(f"a run's label is a line of text, not {run!r}")
    if real is None and fake is None:
        raise OptionError("neither real nor generated images were given")
    if held_out is not None and not any("held-out" in metric.sides for metric in chosen):
        users = [name for name, declared in METRICS.items() if "held-out" in declared.load().sides]
        raise OptionError(f"held-out images are for {', '.join(users)}, which was not asked for")
    for metric in chosen:
        if metric.two_sided and (real is None or fake is None):
            raise OptionError(f"{metric.name} compares real with generated images; give both")


def resolve(
    chosen: Sequence[Metric],
    images: Mapping[str, object | None],
    options: Options,
    *,
    accept_statistics: bool = True,
) -> Setup:
    """Open the sources and networks, and refuse what cannot be computed before an image is read.

    Args:
        chosen: the metrics that `choose_metrics` returned.
        images: the argument given for each set, by the set's name; None where it was left out.
        options: the options of the evaluation.
        accept_statistics: whether stored statistics may replace the real images.

    Raises:
        SourceError: a source cannot be opened.
        SampleError: a source has too few images, or its image size does not fit the metrics or the
            other sources.
        StateError: statistics cannot be read.
        WeightsError: a network's weights are missing, damaged or another network's.
        OptionError: an option has an invalid value, or conflicts with another option.
    """
    device = pick_device(options.device)
    statistics = open_statistics(images["real"]) if accept_statistics else None
    sources = {
        name: open_source(what, **options.reading)
        for name, what in images.items()
        if what is not None and not (statistics and name == "real")
    }
    warn_of_left_out(sources.values())
    for source in sources.values():
        source.forget_digests()  # an array may have changed since it was last evaluated
        # The cache digests the pixels that a source yields, and devices round differently. Moving the source
        # first keeps one set from having two identities.
        source.to(str(device))
    if options.mirror and statistics:
        raise OptionError(
            f"mirror flips real images, and {statistics.name} holds statistics: "
            "give --mirror where they are made"
        )
    if options.mirror and "real" in sources:
        sources["real"] = Mirrored(sources["real"], options.seed)
    if statistics and not sources:
        raise OptionError(
            f"{statistics.name} holds statistics of real images; give generated ones to compare"
        )
    size = _common_size(sources)
    _check_sides(chosen, sources, size, options.num_images)
    preset, cache = _preset(options.preset), options.cache
    if isinstance(cache, (str, os.PathLike)):
        cache = Cache(cache)
    elif cache is not None and not isinstance(cache, Cache):
        raise OptionError(f"cache is a directory, or None for no cache, not {cache!r}")
    networks = open_networks(chosen, options)
    in_listing_order = preset is not None and preset.order == "listing"
    return Setup(
        chosen,
        options,
        sources,
        {name: _order(source, options.seed, in_listing_order) for name, source in sources.items()},
        statistics,
        size,
        device,
        networks,
        Storage(max(0, options.max_memory - WORKING_MEMORY)),
        cache,
        in_listing_order,
    )


def open_networks(chosen: Sequence[Metric], options: Options) -> dict[str, FeatureExtractor]:
    """Open the networks that the metrics use, in the order of the metrics.

    Raises:
        WeightsError: a network's weights are missing, damaged or another network's.
        OptionError: an option has an invalid value or no effect, or a metric reads a layer that its network
            does not output.
    """
    preset, weights, given = _preset(options.preset), options.weights, options.networks or {}
    files = weights if isinstance(weights, Mapping) else {} if weights is None else {"inception": weights}
    needed = list(dict.fromkeys(metric.tap.network for metric in chosen if metric.tap is not None))
    _check_given(given, needed)
    for name in files:
        if name not in needed:
            raise OptionError(
                f"weights are given for {name}, and the metrics use {', '.join(needed) or 'no network'}"
            )
    arithmetic = {"form": options.form, "precision": options.precision}
    asked = {name: value for name, value in arithmetic.items() if value is not None}
    if preset and asked:
        raise OptionError(f"a preset fixes the network's {' and '.join(asked)}; leave out one or the other")
    if "custom" in needed and "custom" not in given:
        users = [
            metric.name for metric in chosen if metric.tap is not None and metric.tap.network == "custom"
        ]
        raise OptionError(
            f"{', '.join(users)} needs a custom network: --features PATH, or networks={{'custom': ...}}"
        )
    if asked and set(needed) <= set(given):
        raise OptionError(f"{' and '.join(asked)} belong to Inception, which the metrics do not use")
    opened = {}
    for name in needed:
        if name in given:
            opened[name] = given[name]
            continue
        fixed = preset.networks.get(name, {}) if preset else {}
        opened[name] = open_network(
            name,
            weights=files.get(name),
            allow_unverified=options.allow_unverified_weights,
            **{**fixed, **asked},
        )
    _check_layers(chosen, opened)
    return opened


def _check_given(given: object, needed: Sequence[str]) -> None:
    """Refuse networks under names that no metric uses, and modules not yet wrapped as feature extractors."""
    if not isinstance(given, Mapping):
        raise OptionError(f"networks is a dict such as {{'custom': ...}}, not {type(given).__name__}")
    for name, network in given.items():
        if name not in (*needed, *NETWORKS, "custom"):
            raise OptionError(
                f"networks names {name!r}, which no metric uses; a custom network is called 'custom'"
            )
        if not isinstance(network, FeatureExtractor):
            raise OptionError(
                f"networks[{name!r}] is of the type {type(network).__name__} and no feature extractor; "
                "pgmetrics.features.custom_network(...) makes one of a module or function"
            )


def _preset(name: str | None) -> Preset | None:
    if name is not None and name not in PRESETS:
        raise OptionError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return None if name is None else PRESETS[name]


def _order(source: ImageSource, seed: int, in_listing_order: bool) -> Order:
    return source.by_characters if in_listing_order else sequence(source, seed)


def _check_sides(
    chosen: Sequence[Metric],
    sides: Mapping[str, ImageSource],
    size: tuple[int, int],
    num_images: int | None,
) -> None:
    for metric in chosen:
        metric.check_resolution(*size)
    for side, source in sides.items():
        if num_images is not None and side != "held-out" and len(source) < num_images:
            raise SampleError(
                f"{source.name} holds {len(source):,} images; num_images asks for {num_images:,}."
            )


def _check_layers(chosen: Sequence[Metric], networks: Mapping[str, FeatureExtractor]) -> None:
    """Refuse a metric that reads a layer its network does not output, before an image is read."""
    for metric in chosen:
        if metric.tap is not None and metric.tap.layer not in networks[metric.tap.network].layers:
            raise OptionError(
                f"{metric.name} reads the {metric.tap.layer} of the network {metric.tap.network}, "
                f"which gives {', '.join(networks[metric.tap.network].layers)}"
            )


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
