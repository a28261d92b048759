"""One pass over the images, every metric: evaluate(), and swd(), fid(), ... on top of it."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from pgmetrics import __version__, results
from pgmetrics.blocks import block_length
from pgmetrics.cache import Cache
from pgmetrics.devices import pick_device
from pgmetrics.errors import OptionError, SampleError
from pgmetrics.features import open_network
from pgmetrics.features.base import FeatureExtractor
from pgmetrics.metrics.base import Estimate, Metric, Side, State
from pgmetrics.metrics.memorisation import Memorisation
from pgmetrics.metrics.registry import metric as find_metric
from pgmetrics.planning import Job, Planner, Progress, check_layers
from pgmetrics.presets import PRESETS, Preset
from pgmetrics.results import Results
from pgmetrics.sources.base import ImageSource, Mirrored, sequence
from pgmetrics.sources.resolve import open_source
from pgmetrics.statistics import open_statistics
from pgmetrics.storage import DEFAULT_MAX_MEMORY, WORKING_MEMORY, Storage

Weights = Mapping[str, str | os.PathLike[str]] | str | os.PathLike[str]
"""A file by the name of its network, or Inception's alone."""

logger = logging.getLogger("pgmetrics")


def evaluate(
    real: object | None,
    fake: object | None,
    metrics: Sequence[str | Metric] = ("swd", "ms-ssim"),
    *,
    held_out: object | None = None,
    num_images: int | None = None,
    floor: bool = False,
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
        fake: likewise, the generated images. May be None if only the reals are to be scored.
        metrics: names, or metrics with parameters of their own such as
            `SlicedWasserstein(patches_per_image=64)`.
        held_out: real images that training never saw, for memorisation's test against copying.
        num_images: images taken of each side; a source with fewer is refused. By default each
            metric takes its published number, or as many as there are.
        floor: add SWD between two disjoint sets of reals of the same count, `subject` "real": what
            a perfect generator would score. Needs twice as many reals; with fewer it is left out.
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
    compat = _preset(preset)
    chosen = _choose(metrics, num_images, compat)
    _check_choice(chosen, real, fake, held_out, run)
    torch_device = pick_device(device)
    how_to_read: dict[str, Any] = {"resolution": resolution, "resize": resize, "alpha": alpha, "bits": bits}
    given = open_statistics(real)
    specs: dict[Side, object | None] = {"real": None if given else real, "fake": fake, "held-out": held_out}
    sides = {side: open_source(images, **how_to_read) for side, images in specs.items() if images is not None}
    if mirror and given:
        raise OptionError(
            f"mirror flips real images, and {given.name} holds statistics: give --mirror where they are made"
        )
    if mirror and "real" in sides:
        sides["real"] = Mirrored(sides["real"], seed)
    if given and not sides:
        raise OptionError(f"{given.name} holds statistics of real images; give generated ones to compare")
    size = _common_size(sides)
    _check_sides(chosen, sides, size, num_images)
    arithmetic = {"form": form, "precision": precision}
    extractors = _open_networks(chosen, compat, weights, allow_unverified_weights, arithmetic, networks or {})

    storage = Storage(max(0, max_memory - WORKING_MEMORY))
    kept = Cache(cache) if isinstance(cache, (str, os.PathLike)) else cache
    listing = compat is not None and compat.order == "listing"
    planner = Planner(sides, given, size, seed, storage, extractors, kept, num_images, listing)
    jobs, notes = planner.plan(chosen, floor)
    for side, source in sides.items():
        order = np.arange(len(source)) if listing else sequence(source, seed)
        planner.run(side, order, torch_device, workers, progress)

    parameters = {
        "metrics": {one.name: dataclasses.asdict(one) for one in chosen},  # type: ignore[call-overload]
        "num_images": num_images,
        "seed": seed,
        "floor": floor,
        "mirror": mirror,
        "preset": preset,
        "block": block_length(size[0]),
        **how_to_read,
    }
    described = {side: _describe(source) for side, source in sides.items()}
    if given:
        described["real"] = given.describe()
    identity = {
        "parameters": parameters,
        "sources": {side: source["fingerprint"] or source["name"] for side, source in described.items()},
        "networks": {name: extractor.fingerprint for name, extractor in extractors.items()},
        "protocol": protocol,
    }
    label = run or results.run_id(identity)
    rows = []
    for index, job in enumerate(jobs):
        if progress is not None:
            progress(f"computing {job.metric.name}", index, len(jobs))
        estimates, remarks = job.compute()
        notes += [remark for remark in remarks if remark not in notes]
        stamp = _protocol(protocol, preset, job.metric, extractors)
        rows += [_row(label, job, estimate, seed, stamp) for estimate in estimates]
    if progress is not None:
        progress("computing", len(jobs), len(jobs))
    for note in notes:
        logger.warning(note)
    provenance = {
        "parameters": parameters,
        "sources": described,
        "networks": {name: dict(extractor.protocol) for name, extractor in extractors.items()},
        "protocol": protocol,
        "notes": notes,
        "device": _device_name(torch_device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "spilled_bytes": storage.spilled,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
    }
    # The floor comes first, as in the published tables.
    rows.sort(key=lambda row: row["subject"] != "real")
    return Results(tuple(rows), provenance)


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
    compat = _preset(preset)
    chosen = _choose(metrics, num_images, compat)
    torch_device = pick_device(device)
    source = open_source(real, resolution=resolution, resize=resize, alpha=alpha, bits=bits)
    if mirror:
        source = Mirrored(source, seed)
    sides: dict[Side, ImageSource] = {"real": source}
    _check_sides(chosen, sides, source.resolution, num_images)
    arithmetic = {"form": form, "precision": precision}
    extractors = _open_networks(chosen, compat, weights, allow_unverified_weights, arithmetic, networks or {})
    storage = Storage(max(0, max_memory - WORKING_MEMORY))
    listing = compat is not None and compat.order == "listing"
    planner = Planner(sides, None, source.resolution, seed, storage, extractors, in_listing_order=listing)
    states = planner.remember(chosen)
    order = np.arange(len(source)) if listing else sequence(source, seed)
    planner.run("real", order, torch_device, workers, progress)
    about = {
        "source": _describe(source),
        "metrics": [one.name for one in chosen],
        "networks": {name: dict(extractor.protocol) for name, extractor in extractors.items()},
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


def _choose(metrics: Sequence[str | Metric], num_images: int | None, preset: Preset | None) -> list[Metric]:
    if not metrics:
        raise OptionError("no metric was asked for")
    chosen = [preset.metric(one) if preset else find_metric(one) for one in metrics]
    names = [one.name for one in chosen]
    if len(set(names)) < len(names):
        raise OptionError(f"a metric is asked for twice: {', '.join(names)}")
    return chosen if num_images is None else [one.with_num_images(num_images) for one in chosen]


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
    sides: Mapping[Side, ImageSource],
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
    chosen: Sequence[Metric],
    preset: Preset | None,
    weights: Weights | None,
    allow_unverified: bool,
    arithmetic: Mapping[str, str | None],
    given: Mapping[str, FeatureExtractor],
) -> dict[str, FeatureExtractor]:
    """The networks that the metrics tap, in the order of the metrics."""
    files = weights if isinstance(weights, Mapping) else {} if weights is None else {"inception": weights}
    needed = dict.fromkeys(one.tap.network for one in chosen if one.tap is not None)
    for name in files:
        if name not in needed:
            raise OptionError(
                f"weights are given for {name}, and the metrics use {', '.join(needed) or 'no network'}"
            )
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
                name, weights=files.get(name), allow_unverified=allow_unverified, **settings
            )
    if asked and not any(name in opened and name not in given for name in needed):
        raise OptionError(f"{' and '.join(asked)} belong to Inception, which the metrics do not use")
    check_layers(chosen, opened)
    return opened


def _common_size(sides: Mapping[Side, ImageSource]) -> tuple[int, int]:
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
    return f"{protocol}, {preset or networks[metric.tap.network].label}"


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


def _describe(source: ImageSource) -> dict[str, Any]:
    height, width = source.resolution
    return {
        "name": source.name,
        "fingerprint": source.fingerprint,
        "count": len(source),
        "height": height,
        "width": width,
        "notes": dict(source.notes),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
