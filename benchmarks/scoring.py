"""Sets of images scored against one set of reals: what noise_floor.py and sensitivity.py share."""

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
    # From rows instead of moments: they are there for the other metrics, and tell its error.
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

DESCRIPTOR_MEMORY = 2**31  # bytes of SWD's descriptors that stay in memory


@dataclass(frozen=True)
class SetScore:
    """One number of one metric about one set of images against the reals.

    Attributes:
        metric, level: as in results.
        num_images: on each side.
        value: in raw units.
        stderr: over the generated images, the reals held fixed, or None. What two sets of equal quality,
            scored against the same reals, differ by comes from this part of the chance alone.
    """

    metric: str
    level: int | None
    num_images: int
    value: float
    stderr: float | None

    @property
    def label(self) -> str:
        """What people call it: `SWD 32`, `SWD Avg`, `FID`."""
        return label(self.metric, self.level)


def label(metric: str, level: int | None) -> str:
    """What people call a number."""
    number = output(metric)
    return f"{number.title} {level or 'Avg'}" if number.by_level else number.title


def order_of_columns(scores: Iterable[SetScore]) -> list[tuple[str, int | None]]:
    """The numbers that occur, metric by metric, SWD's levels finest first and their mean last."""
    found = {(score.metric, score.level) for score in scores}
    return sorted(found, key=lambda one: (REPORTED.index(one[0]), -(one[1] or 0)))


@dataclass(frozen=True)
class SetScorer:
    """Fills states with sets of images and turns two sides into scores.

    Attributes:
        metrics: each with its published parameters.
        counts: how many images of each set are scored, the first n of it.
        networks: by name, those that the metrics read.
        resolution: height and width of all images.
        seed: of patches, directions and splits.
        device: of the computation.
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
        """What each metric remembers of the first n images, by its name and n; one pass for all."""
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
                # Metrics that remember alike share a state, as in an evaluation.
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
        """Every number at every count, from the states of both sides."""
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
    """Standard errors with the reals held fixed, by number and level, where `compute` gives none."""
    if isinstance(one, PRDC):
        return _jackknife(one, sides)
    if isinstance(one, SlicedWasserstein):
        # A quarter of the directions tells the errors within 2 %, four times as fast.
        one = replace(one, repeats=1)
    return {(found.metric, found.level): _given_reals(found) for found in one.influences(**sides)}


def _given_reals(influence: Influence) -> float | None:
    """The standard error over the generated images, the reals held fixed."""
    if influence.fake is None:
        return None
    if influence.real is None:
        return stderr(influence)
    # The error of both sides counts half of what an image of either does together with one of the
    # other; with the reals held, all of it is the generated image's. What is too much here is half of
    # what two generated images do together: the error is on the safe side.
    return float(np.std(influence.fake, ddof=1)) / sqrt(len(influence.fake))


def _jackknife(
    one: PRDC, sides: Mapping[str, State | None], groups: int = 10
) -> dict[tuple[str, int | None], float | None]:
    """Errors of recall and coverage with the reals held fixed, by leaving out each tenth of the fakes.

    These two are no means over the fakes, as precision and density are. Like any jackknife it is never too
    small in the mean (Efron and Stein 1981): of recall it was 1.2 to 2 times the truth on normal draws,
    where the deviation over the reals, with the fakes held fixed, was 0.8 to 1.15 times.
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
    """A network that takes an image it has seen through no second time; its rows are the same bits.

    Attributes:
        forwards: images that went through the network.
    """

    def __init__(self, network: FeatureExtractor, most: int = 60_000) -> None:
        """Remember the rows of the last `most` images, 12 kB each for Inception."""
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
        """As the network's own."""
        keys = [hashlib.blake2b(image.tobytes()).digest() for image in pixels.cpu().numpy()]
        unseen = {key: place for place, key in enumerate(keys) if key not in self._rows}
        found = {key: self._rows[key] for key in keys if key in self._rows}
        if unseen:
            # Every layer at once, for the one that is not asked for now may be soon.
            made = self._network.extract(pixels[list(unseen.values())], self.layers)
            for place, key in enumerate(unseen):
                found[key] = {layer: rows[place] for layer, rows in made.items()}
            self.forwards += len(unseen)
            self._rows |= {key: found[key] for key in unseen}
            while len(self._rows) > self._most:
                del self._rows[next(iter(self._rows))]
        return {layer: torch.stack([found[key][layer] for key in keys]) for layer in layers}


class Picked(Chosen):
    """Images of a source by their places; an evaluation takes them in the order given."""

    def __init__(self, source: ImageSource, places: NDArray[np.int64] | Sequence[int]) -> None:
        super().__init__(source, np.asarray(places, np.int64))
        self.shuffled = False


class CellFiles:
    """Finished cells of a table on disk, so that an interrupted run goes on where it stopped.

    They lie in a folder that stands for the settings: other settings never meet them.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        text = dump_json(settings, indent=1, sort_keys=True)
        self.path = out / "cells" / sha256(text.encode()).hexdigest()[:16]
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / "settings.json", (text + "\n").encode())

    def get(self, name: str) -> list[SetScore] | None:
        """The scores of a finished cell."""
        try:
            rows = parse_json((self.path / f"{name}.json").read_text())
        except FileNotFoundError:
            return None
        return [SetScore(**row) for row in rows]

    def put(self, name: str, scores: Sequence[SetScore]) -> None:
        """Keep a cell, whole or not at all."""
        write_whole(
            self.path / f"{name}.json",
            (dump_json([asdict(score) for score in scores], indent=1) + "\n").encode(),
        )


class Clock:
    """Tells on standard error what was done and about how long the rest will take.

    Attributes:
        left: work that is still to be done, in whatever unit.
    """

    def __init__(self, work: float) -> None:
        self.left = work
        self._done = 0.0
        self._seconds = 0.0

    @contextmanager
    def step(self, name: str, work: float) -> Iterator[None]:
        """Time a piece of the work."""
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
    """Inception by its name if there is a weights file, else nothing: metrics of features are left out."""
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
    """An option that takes numbers of images on each side, such as 512,2048."""

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
    """Options that `open_inception` takes, but for the device."""
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
    """Options that say how the work is done."""
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
    """Options that say where tables and figures go."""
    for option in (
        click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True),
        click.option(
            "--docs", type=click.Path(path_type=Path, exists=True), help="Put tables and plots there, too."
        ),
    ):
        command = option(command)
    return command


def save_figures(figures: Mapping[str, Any], out: Path, docs: Path | None) -> None:
    """Write figures by name into a folder, and into the images beside a document if one is given."""
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
    """Replace what stands in a Markdown file between `<!-- name -->` and `<!-- end of name -->`.

    Raises:
        OptionError: the file has no such place.
    """
    before, begin, rest = document.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    if not begin or not end:
        raise OptionError(
            f"{document} has no place for the table: <!-- {name} --> ... <!-- end of {name} -->"
        )
    write_whole(document, f"{before}{begin}\n{text}\n{end}{after}".encode())
