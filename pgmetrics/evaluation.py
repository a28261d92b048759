"""One pass over the images, every metric: evaluate(), and swd() and ms_ssim() on top of it."""

from __future__ import annotations

import dataclasses
import logging
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from pgmetrics import __version__, loading, results
from pgmetrics.blocks import Block, block_length
from pgmetrics.devices import pick_device
from pgmetrics.errors import OptionError, PgmetricsError, SampleError
from pgmetrics.metrics.base import Estimate, Metric, Side, State
from pgmetrics.metrics.registry import metric as find_metric
from pgmetrics.metrics.swd import SlicedWasserstein
from pgmetrics.results import Results
from pgmetrics.sources.base import ImageSource, Mirrored, sequence
from pgmetrics.sources.resolve import open_source
from pgmetrics.storage import DEFAULT_MAX_MEMORY, WORKING_MEMORY, Storage

Progress = Callable[[str, int, int], None]  # what is being done, how much of it, of how much

logger = logging.getLogger("pgmetrics")


def evaluate(
    real: object | None,
    fake: object | None,
    metrics: Sequence[str | Metric] = ("swd", "ms-ssim"),
    *,
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
    protocol: str = "native",
    run: str | None = None,
    progress: Progress | None = None,
) -> Results:
    """Score generated images against real ones; each image is read or generated once for all metrics.

    The same seed gives the same numbers to the bit for any number of workers, any `max_memory` and
    any other metrics beside, on one machine with one set of library versions.

    Args:
        real: where the real images come from: a path, a source specification, an array, a tensor, a
            Dataset, a callable or an `ImageSource`. May be None if no metric compares two sides.
        fake: likewise, the generated images. May be None if only the reals are to be scored.
        metrics: names, or metrics with parameters of their own such as
            `SlicedWasserstein(patches_per_image=64)`.
        num_images: images taken of each side; a source with fewer is refused. By default each
            metric takes its published number, or as many as there are.
        floor: add SWD between two disjoint sets of reals of the same count, `subject` "real": what
            a perfect generator would score. Needs twice as many reals; with fewer it is left out.
        seed: of every random number: image order, patches, directions, mirroring.
        device: "auto" (CUDA if there is one), "cpu", "cuda", "cuda:N" or "mps".
        workers: processes that decode ahead; 0 decodes in this one, None takes one per core.
        resolution, resize: bring both sides to this many pixels by a named policy.
        alpha, bits: what to do with transparency and 16-bit files.
        mirror: flip each real image by a keyed coin, as training with mirroring does.
        max_memory: bytes of memory on top of the interpreter's and libraries'; what descriptors are
            more than it has room for go to a temporary file. Below 1 GiB, all of them do.
        protocol: how the images were made comparable, copied into every row.
        run: label of the rows; by default a digest of everything that determines them.
        progress: called with (what, done, total).

    Returns:
        Rows per metric, level and subject, and the provenance, whose "notes" a reader must know.

    Raises:
        SampleError: too few images, or sizes that do not fit the metrics or each other.
        SourceError: a source cannot be opened or read.
        OptionError: an option has no such value.
    """
    started = time.time()
    chosen = [_with_budget(find_metric(one), num_images) for one in metrics]
    _check_choice(chosen, real, fake, run)
    torch_device = pick_device(device)
    how_to_read: dict[str, Any] = {"resolution": resolution, "resize": resize, "alpha": alpha, "bits": bits}
    sides: dict[Side, ImageSource] = {}
    if real is not None:
        reals = open_source(real, **how_to_read)
        sides["real"] = Mirrored(reals, seed) if mirror else reals
    if fake is not None:
        sides["fake"] = open_source(fake, **how_to_read)
    size = _common_size(sides)
    for one in chosen:
        one.check_resolution(*size)
    if num_images is not None:
        for source in sides.values():
            if len(source) < num_images:
                raise SampleError(
                    f"{source.name} holds {len(source):,} images; num_images asks for {num_images:,}."
                )

    storage = Storage(max(0, max_memory - WORKING_MEMORY))
    jobs, notes = _plan(chosen, sides, size, floor, seed, storage)
    for side, source in sides.items():
        source.to(str(torch_device))
        _pass(
            side,
            source,
            [c for job in jobs for c in job.consumers if c.side == side],
            seed,
            torch_device,
            workers,
            progress,
        )

    parameters = {
        "metrics": {one.name: dataclasses.asdict(one) for one in chosen},  # type: ignore[call-overload]
        "num_images": num_images,
        "seed": seed,
        "floor": floor,
        "mirror": mirror,
        "block": block_length(size[0]),
        **how_to_read,
    }
    described = {side: _describe(source) for side, source in sides.items()}
    identity = {
        "parameters": parameters,
        "sources": {side: source["fingerprint"] for side, source in described.items()},
        "protocol": protocol,
    }
    label = run or results.run_id(identity)
    rows = []
    for index, job in enumerate(jobs):
        if progress is not None:
            progress(f"computing {job.metric.name}", index, len(jobs))
        estimates, remarks = job.compute()
        notes += [remark for remark in remarks if remark not in notes]
        rows += [_row(label, job, estimate, seed, protocol) for estimate in estimates]
    if progress is not None:
        progress("computing", len(jobs), len(jobs))
    for note in notes:
        logger.warning(note)
    provenance = {
        "parameters": parameters,
        "sources": described,
        "protocol": protocol,
        "notes": notes,
        "device": _device_name(torch_device),
        "threads": torch.get_num_threads(),
        "versions": {
            "pgmetrics": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "spilled_bytes": storage.spilled,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
    }
    # The floor comes first, as in the published tables.
    rows.sort(key=lambda row: row["subject"] != "real")
    return Results(tuple(rows), provenance)


def swd(real: object, fake: object, **options: Any) -> Results:
    """Sliced Wasserstein distance per pyramid level, and their mean; options as in `evaluate`."""
    return evaluate(real, fake, ["swd"], **options)


def ms_ssim(fake: object, real: object | None = None, **options: Any) -> Results:
    """MS-SSIM among generated images, and among the reals if given; options as in `evaluate`."""
    return evaluate(real, fake, ["ms-ssim"], **options)


@dataclass(frozen=True)
class _Consumer:
    """A state and the part of a side's sequence that it is fed: images first ... stop - 1."""

    side: Side
    state: State
    first: int
    stop: int

    def feed(self, start: int, pixels: torch.Tensor) -> None:
        a, b = max(start, self.first), min(start + len(pixels), self.stop)
        if a < b:
            self.state.update(Block(a - self.first, pixels[a - start : b - start]))


@dataclass(frozen=True)
class _Job:
    """A metric, and the states it will compute from."""

    metric: Metric
    subject: Side
    real: _Consumer | None
    fake: _Consumer | None

    @property
    def consumers(self) -> list[_Consumer]:
        return [consumer for consumer in (self.real, self.fake) if consumer is not None]

    def compute(self) -> tuple[list[Estimate], list[str]]:
        try:
            return self.metric.compute(
                real=self.real.state if self.real else None, fake=self.fake.state if self.fake else None
            )
        except PgmetricsError as error:
            raise type(error)(f"{self.metric.name}: {error}") from error


def _with_budget(one: Metric, num_images: int | None) -> Metric:
    return one if num_images is None else one.with_num_images(num_images)


def _check_choice(
    chosen: Sequence[Metric], real: object | None, fake: object | None, run: str | None
) -> None:
    if run is not None and not (run and run.isprintable()):
        raise OptionError(f"a run's label is a line of text, not {run!r}")
    if not chosen:
        raise OptionError("no metric was asked for")
    names = [one.name for one in chosen]
    if len(set(names)) < len(names):
        raise OptionError(f"a metric is asked for twice: {', '.join(names)}")
    if real is None and fake is None:
        raise OptionError("neither real nor generated images were given")
    for one in chosen:
        if one.two_sided and (real is None or fake is None):
            raise OptionError(f"{one.name} compares real with generated images; give both")


def _common_size(sides: dict[Side, ImageSource]) -> tuple[int, int]:
    sizes = {side: source.resolution for side, source in sides.items()}
    if len(set(sizes.values())) > 1:
        found = "; ".join(f"{sides[side].name} ({side}) has {h}x{w}" for side, (h, w) in sizes.items())
        raise SampleError(
            f"real and generated images differ in size: {found}. "
            "--resize box|lanczos|bicubic with --resolution N brings both to one size; "
            "a ProGAN stage is enlarged to its final size by progan:PATH,at=final"
        )
    return next(iter(sizes.values()))


def _plan(
    chosen: Sequence[Metric],
    sides: dict[Side, ImageSource],
    size: tuple[int, int],
    floor: bool,
    seed: int,
    storage: Storage,
) -> tuple[list[_Job], list[str]]:
    """Which metric is fed which images of which side."""
    jobs, notes = [], []

    def consumer(
        one: Metric, reads: Side, count: int, first: int = 0, plays: Side | None = None
    ) -> _Consumer:
        state = one.new_state(
            plays or reads, resolution=size, seed=seed, source=sides[reads].fingerprint, storage=storage
        )
        return _Consumer(reads, state, first, first + count)

    for one in chosen:
        counts = {side: _usable(one, source, side) for side, source in sides.items()}
        if not one.two_sided:
            states = {side: consumer(one, side, count) for side, count in counts.items()}
            jobs.append(_Job(one, "fake", states.get("real"), states.get("fake")))
            continue
        n = min(counts.values())
        real = consumer(one, "real", n)
        if floor and isinstance(one, SlicedWasserstein):
            # From an even place on, so that no MS-SSIM pair is torn by the cut.
            second = n + n % 2
            if second + n <= len(sides["real"]):
                jobs.append(_Job(one, "real", real, consumer(one, "real", n, second, plays="fake")))
            else:
                held = len(sides["real"])
                notes.append(
                    f"the floor is left out: it compares two sets of {n:,} real images and "
                    f"{sides['real'].name} holds {held:,}; num_images={held // 2} makes room for it"
                )
        jobs.append(_Job(one, "fake", real, consumer(one, "fake", n)))
    if floor and not any(isinstance(one, SlicedWasserstein) for one in chosen):
        notes.append("the floor is a property of swd, which was not asked for")
    return jobs, notes


def _usable(one: Metric, source: ImageSource, side: Side) -> int:
    try:
        return one.usable(len(source), side)
    except SampleError as error:
        raise SampleError(f"{source.name}: {error}") from error


def _pass(
    side: Side,
    source: ImageSource,
    consumers: Sequence[_Consumer],
    seed: int,
    device: torch.device,
    workers: int | None,
    progress: Progress | None,
) -> None:
    """Read the images that are needed of one side, each once, and hand them round."""
    unique = list({id(consumer.state): consumer for consumer in consumers}.values())
    total = max((consumer.stop for consumer in unique), default=0)
    order = sequence(source, seed)[:total]
    length = block_length(source.resolution[0])
    # Blocks begin anew where a consumer begins, so that each is cut as if it were alone.
    cuts = sorted({consumer.first for consumer in unique} | {total})
    if progress is not None:
        progress(f"{side} images", 0, total)
    for begin, end in pairwise(cuts):
        for start, pixels in loading.blocks(source, order[begin:end], length, workers):
            on_device = torch.from_numpy(pixels).to(device)
            for consumer in unique:
                consumer.feed(begin + start, on_device)
            if progress is not None:
                progress(f"{side} images", begin + start + len(pixels), total)


def _row(run: str, job: _Job, estimate: Estimate, seed: int, protocol: str) -> dict[str, Any]:
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
