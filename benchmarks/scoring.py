"""Score several sets of images against one set of reals; used by noise_floor.py and sensitivity.py."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgmetrics import (
    PRDC,
    FeatureBlock,
    FrechetInceptionDistance,
    InceptionScore,
    KernelInceptionDistance,
    Memorisation,
    MultiScaleSSIM,
    OptionError,
    SlicedWasserstein,
)
from pgmetrics.evaluation.engine import Feed, run_pass
from pgmetrics.features import FeatureExtractor, open_network
from pgmetrics.metrics.base import Metric, Side, State
from pgmetrics.metrics.feature_rows import FeatureRowsState
from pgmetrics.metrics.influence import Influence
from pgmetrics.metrics.registry import output
from pgmetrics.runtime.devices import pick_device
from pgmetrics.runtime.files import dump_json, parse_json, sha256, write_whole, written_atomically
from pgmetrics.runtime.spill import Storage
from pgmetrics.sources.base import ImageSource
from pgmetrics.sources.wrappers import Chosen
from pgmetrics.uncertainty.intervals import stderr

Command = TypeVar("Command", bound=Callable[..., object])

PIXEL_METRICS: tuple[Metric, ...] = (SlicedWasserstein(), MultiScaleSSIM())
FEATURE_METRICS: tuple[Metric, ...] = (
    # Use feature rows instead of moments: other metrics need them anyway, and they give the error of FID.
    FrechetInceptionDistance(keep_rows=True),
    KernelInceptionDistance(),
    InceptionScore(),
    PRDC(),
    Memorisation(),
)

REPORTED = [
    number.name
    for metric in (*PIXEL_METRICS, *FEATURE_METRICS)
    for number in metric.outputs
    if number.is_score
]
"""Numbers that are reported, in this order."""

DESCRIPTOR_MEMORY = 2**31  # bytes of SWD descriptors kept in memory


@dataclass(frozen=True)
class SetScore:
    """One score of a set of images against the reals.

    Attributes:
        metric, level: as in results.
        num_images: images per side.
        value: the score in raw units.
        stderr: standard error over the generated images with the reals held fixed, or None. Two sets of
            equal quality, scored against the same reals, differ by this source of variation alone.
    """

    metric: str
    level: int | None
    num_images: int
    value: float
    stderr: float | None

    @property
    def label(self) -> str:
        """Display name: `SWD 32`, `SWD Avg`, `FID`."""
        return label(self.metric, self.level)


def label(metric: str, level: int | None) -> str:
    """Return the display name of a score."""
    number = output(metric)
    return f"{number.title} {level or 'Avg'}" if number.by_level else number.title


def order_of_columns(scores: Iterable[SetScore]) -> list[tuple[str, int | None]]:
    """Return the scores that occur, metric by metric; levels of SWD finest first, their mean last."""
    found = {(score.metric, score.level) for score in scores}
    return sorted(found, key=lambda one: (REPORTED.index(one[0]), -(one[1] or 0)))


@dataclass(frozen=True)
class SetScorer:
    """Update states with sets of images, and compute scores from the states of two sides.

    Attributes:
        metrics: metrics with their published parameters.
        counts: numbers of images to score, each from the beginning of a set.
        networks: the feature networks of the metrics, by name.
        resolution: height and width of all images.
        seed: seed of patches, directions and splits.
        device: device that computes.
        workers: processes that decode.
    """

    metrics: Sequence[Metric]
    counts: Sequence[int]
    networks: Mapping[str, FeatureExtractor]
    resolution: tuple[int, int]
    seed: int = 0
    device: str = "cpu"
    workers: int = 0

    def states(self, images: ImageSource, side: Side) -> dict[tuple[str, int], State]:
        """Return the state of each metric after the first n images, by (name, n), from one pass."""
        storage = Storage(DESCRIPTOR_MEMORY)
        shared: dict[str, Feed] = {}
        states = {}
        for one in self.metrics:
            network = self.networks[one.tap.network].fingerprint if one.tap else ""
            for count in self.counts:
                state = one.new_state(
                    side,
                    resolution=self.resolution,
                    seed=self.seed,
                    source=images.fingerprint,
                    storage=storage,
                    network=network,
                )
                # Metrics whose states have equal keys share one, as in an evaluation.
                identity = dump_json([state.key.to_dict(), count], sort_keys=True)
                states[one.name, count] = shared.setdefault(identity, Feed(state, one.tap, 0, count)).state
        run_pass(
            images,
            np.arange(len(images)),
            list(shared.values()),
            device=torch.device(self.device),
            networks=self.networks,
            workers=self.workers,
        )
        return states

    def scores(
        self, real: Mapping[tuple[str, int], State], fake: Mapping[tuple[str, int], State]
    ) -> list[SetScore]:
        """Compute every score at every count from the states of both sides."""
        found = []
        for one in self.metrics:
            for count in self.counts:
                sides = {
                    "real": real[one.name, count] if one.two_sided else None,
                    "fake": fake[one.name, count],
                }
                estimates, _ = one.compute(**sides)
                errors = _errors(one, sides)
                for estimate in estimates:
                    place = estimate.metric, estimate.level
                    if estimate.metric in REPORTED:
                        error = errors.get(place, estimate.stderr)
                        found.append(SetScore(*place, count, estimate.value, error))
        return found


def _errors(one: Metric, sides: Mapping[str, State | None]) -> dict[tuple[str, int | None], float | None]:
    """Return standard errors with the reals held fixed, where `compute` does not give them."""
    if isinstance(one, PRDC):
        return _jackknife(one, sides)
    if isinstance(one, SlicedWasserstein):
        # A quarter of the directions gives the errors within 2 %, four times as fast.
        one = replace(one, repeats=1)
    return {(found.metric, found.level): _given_reals(found) for found in one.influences(**sides)}


def _given_reals(influence: Influence) -> float | None:
    """Return the standard error over the generated images with the reals held fixed."""
    if influence.fake is None:
        return None
    if influence.real is None:
        return stderr(influence)
    # The influences split the interaction of a generated and a real image in halves between both; with the
    # reals fixed, all of it belongs to the generated image. This error also counts half of the interaction
    # of two generated images too much, so it is conservative.
    return float(np.std(influence.fake, ddof=1)) / sqrt(len(influence.fake))


def _jackknife(
    one: PRDC, sides: Mapping[str, State | None], groups: int = 10
) -> dict[tuple[str, int | None], float | None]:
    """Errors of recall and coverage with the reals held fixed, by leaving out each tenth of the fakes.

    Unlike precision and density, these two are not means over the fakes. As for any jackknife, the expected
    estimate is never too small (Efron and Stein 1981): for recall it was 1.2 to 2 times the truth on normal
    draws, where the deviation over the reals with the fakes held fixed was 0.8 to 1.15 times.
    """
    fakes = sides["fake"]
    assert isinstance(fakes, FeatureRowsState)
    rows = fakes.rows()
    both = replace(one, names=("recall", "coverage"))
    values = []
    for group in range(groups):
        part = FeatureRowsState(fakes.key)
        kept = torch.from_numpy(np.delete(rows, np.s_[group::groups], axis=0))
        part.update(FeatureBlock(0, kept.to(fakes.device)))
        values.append([estimate.value for estimate in both.compute(real=sides["real"], fake=part)[0]])
    errors = np.std(values, axis=0) * sqrt(groups - 1)
    return {(name, None): float(error) for name, error in zip(both.names, errors, strict=True)}


class Remembering(FeatureExtractor):
    """Cache the features of a network by image, so that each image passes through it once.

    Attributes:
        forwards: number of images that passed through the network.
    """

    def __init__(self, network: FeatureExtractor, most: int = 60_000) -> None:
        """Cache the features of the last `most` images, 12 kB each for Inception."""
        self._network = network
        self._most = most
        self._rows: dict[bytes, dict[str, Tensor]] = {}
        self.forwards = 0
        self.name, self.layers, self.length = network.name, network.layers, network.length
        self.fingerprint, self.protocol, self.label = network.fingerprint, network.protocol, network.label

    def to(self, device: str) -> None:
        self._network.to(device)

    def _forward(self, pixels: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        return self._network._forward(pixels, layers)

    def extract(self, pixels: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the same features as the network, from the cache where possible."""
        keys = [hashlib.blake2b(image.tobytes()).digest() for image in pixels.cpu().numpy()]
        unseen = {key: place for place, key in enumerate(keys) if key not in self._rows}
        found = {key: self._rows[key] for key in keys if key in self._rows}
        if unseen:
            # Extract every layer at once, since a later call may need the others.
            made = self._network.extract(pixels[list(unseen.values())], self.layers)
            for place, key in enumerate(unseen):
                found[key] = {layer: rows[place] for layer, rows in made.items()}
            self.forwards += len(unseen)
            self._rows |= {key: found[key] for key in unseen}
            while len(self._rows) > self._most:
                del self._rows[next(iter(self._rows))]
        return {layer: torch.stack([found[key][layer] for key in keys]) for layer in layers}


class Picked(Chosen):
    """Images of a source at given indices; an evaluation takes them in this order."""

    def __init__(self, source: ImageSource, places: NDArray[np.int64] | Sequence[int]) -> None:
        super().__init__(source, np.asarray(places, np.int64))
        self.shuffled = False


class CellFiles:
    """Finished cells of a table on disk, from which an interrupted run resumes.

    Each combination of settings has its own folder, so cells of other settings are never read.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        text = dump_json(settings, indent=1, sort_keys=True)
        self.path = out / "cells" / sha256(text.encode()).hexdigest()[:16]
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / "settings.json", (text + "\n").encode())

    def get(self, name: str) -> list[SetScore] | None:
        """Return the scores of a finished cell, or None if it is not finished."""
        try:
            rows = parse_json((self.path / f"{name}.json").read_text())
        except FileNotFoundError:
            return None
        return [SetScore(**row) for row in rows]

    def put(self, name: str, scores: Sequence[SetScore]) -> None:
        """Write a cell atomically."""
        write_whole(
            self.path / f"{name}.json",
            (dump_json([asdict(score) for score in scores], indent=1) + "\n").encode(),
        )


class Clock:
    """Report finished steps and the estimated remaining time on standard error.

    Attributes:
        left: remaining work, in any unit.
    """

    def __init__(self, work: float) -> None:
        self.left = work
        self._done = 0.0
        self._seconds = 0.0

    @contextmanager
    def step(self, name: str, work: float) -> Iterator[None]:
        """Time a step that does part of the work."""
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        self._done += work
        self._seconds += seconds
        self.left -= work
        minutes = self._seconds / self._done * self.left / 60
        click.echo(f"{name}: {seconds:.1f} s; about {minutes:.1f} min left", err=True)


def open_inception(
    weights: Path | None, allow_unverified: bool, precision: str | None, device: str
) -> dict[str, FeatureExtractor]:
    """Return Inception by its name, or nothing without a weights file, which leaves out feature metrics."""
    if weights is None:
        if precision is not None:
            raise OptionError("--precision belongs to Inception, which needs --weights")
        return {}
    settings = {} if precision is None else {"precision": precision}
    network = open_network("inception", weights=weights, allow_unverified=allow_unverified, **settings)
    network.to(str(pick_device(device)))
    return {"inception": Remembering(network)}


COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by the color-blind, too (Okabe and Ito)."""


def even_numbers(option: str, usual: str) -> Callable[[Command], Command]:
    """Return an option that takes numbers of images per side, such as 512,2048."""

    def parsed(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        try:
            numbers = tuple(sorted({int(part) for part in value.split(",")}))
        except ValueError:
            raise click.BadParameter(
                f"{value!r} is no list of numbers such as 512,2048", ctx, param
            ) from None
        if numbers[0] < 20 or any(number % 2 for number in numbers):
            raise click.BadParameter("each number is even and at least 20", ctx, param)
        return numbers

    return click.option(option, callback=parsed, metavar="N,N,…", help=f"Per side.  [default: {usual}]")


def inception_options(command: Command) -> Command:
    """Add the options of `open_inception` except the device."""
    for option in (
        click.option("--precision", type=click.Choice(["float32", "bfloat16"]), help="Of Inception."),
        click.option("--allow-unverified-weights", is_flag=True, help="Such as random ones."),
        click.option(
            "--weights", type=click.Path(path_type=Path), help="Inception's; else SWD and MS-SSIM alone."
        ),
    ):
        command = option(command)
    return command


def running_options(command: Command) -> Command:
    """Add the options --workers, --device and --seed."""
    for option in (
        click.option(
            "--workers", type=click.IntRange(min=0), default=0, show_default=True, help="That decode."
        ),
        click.option("--device", default="auto", show_default=True),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
    ):
        command = option(command)
    return command


def writing_options(command: Command) -> Command:
    """Add the options that set where tables and figures are written."""
    for option in (
        click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True),
        click.option(
            "--docs", type=click.Path(path_type=Path, exists=True), help="Put tables and plots there, too."
        ),
    ):
        command = option(command)
    return command


def save_figures(figures: Mapping[str, Any], out: Path, docs: Path | None) -> None:
    """Write figures by name to a folder and, if a document is given, to the folder `images` next to it."""
    for folder in (out, *([docs.parent / "images"] if docs else [])):
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            _save_figure(figure, folder, name)


def _save_figure(figure: Any, out: Path, name: str) -> None:
    """Write a figure as PNG and SVG; equal figures give equal files."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": name}):
        for suffix, about in (("svg", {"Date": None}), ("png", {"Software": None})):
            with written_atomically(out / f"{name}.{suffix}") as aside:
                figure.savefig(aside, format=suffix, metadata=about, dpi=110, bbox_inches="tight")


def put_into(document: Path, name: str, text: str) -> None:
    """Replace the text of a Markdown file between `<!-- name -->` and `<!-- end of name -->`.

    Raises:
        OptionError: the file does not contain these comments.
    """
    before, begin, rest = document.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    if not begin or not end:
        raise OptionError(
            f"{document} has no place for the table: <!-- {name} --> ... <!-- end of {name} -->"
        )
    write_whole(document, f"{before}{begin}\n{text}\n{end}{after}".encode())
