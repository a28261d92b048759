"""Score real images against other real images with every metric, at growing numbers of images.

    python -m benchmarks.noise_floor --data cifar10-train.zip --weights FILE --out runs/noise-floor

At each size several disjoint pairs of sets are scored. Their mean is the noise floor, the score of a perfect
generator, and their spread is its random variation. The floor of SWD and FID is above 0 and falls with the
number of images, so scores at different numbers of images cannot be compared. Two generators whose scores
differ by less than the last table states may be equally good. The files in --out are `noise_floor.csv` with
every draw, `noise_floor.md` with the tables, the plots as PNG and SVG, and `cells/`, from which an
interrupted run resumes.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from benchmarks.scoring import (
    COLORS,
    FEATURE_METRICS,
    PIXEL_METRICS,
    CellFiles,
    Clock,
    Picked,
    SetScore,
    SetScorer,
    even_numbers,
    inception_options,
    label,
    open_inception,
    order_of_columns,
    put_into,
    running_options,
    save_figures,
    writing_options,
)
from pgmetrics import PgmetricsError, SampleError
from pgmetrics.features import FeatureExtractor
from pgmetrics.metrics.base import Metric
from pgmetrics.metrics.registry import output
from pgmetrics.runtime.devices import pick_device
from pgmetrics.runtime.files import write_whole
from pgmetrics.sources.base import ImageSource, sequence
from pgmetrics.sources.resolve import open_source

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZES = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
QUICK_SIZES = (24, 48, 96)

LAWS = {"swd": -0.5, "fid": -1.0}
"""Metrics whose floor is all bias, and the power of n by which it falls in the end."""

LAWS_IN_WORDS = {-0.5: "n^(−1/2)", -1.0: "1/n"}

Z = 2.576
"""99 % of a normal distribution lie within as many standard deviations."""


@dataclass(frozen=True)
class Floor:
    """One score of real images against other real images at one size.

    Attributes:
        metric, level, num_images: as in `SetScore`.
        values: scores of the disjoint draws.
        stderr: root mean square of the standard errors of the draws; None if they have none.
    """

    metric: str
    level: int | None
    num_images: int
    values: tuple[float, ...]
    stderr: float | None

    @property
    def mean(self) -> float:
        """Mean over the draws."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the draws; None for a single draw."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    @property
    def shown(self) -> float | None:
        """Difference that two equally good sets against the same reals exceed with probability 1 %."""
        return None if self.stderr is None else Z * sqrt(2) * self.stderr


def draws(size: int, images: int, most: int) -> list[tuple[int, int]]:
    """Return for each draw where its two sides begin among the images; all sides are disjoint."""
    return [(2 * k * size, (2 * k + 1) * size) for k in range(min(most, images // (2 * size)))]


def run(
    source: ImageSource,
    out: Path,
    networks: Mapping[str, FeatureExtractor],
    *,
    sizes: Sequence[int],
    network_images: int,
    most: int = 4,
    seed: int = 0,
    device: str = "auto",
    workers: int = 0,
) -> list[Floor]:
    """Score every draw that `out` does not hold yet.

    Args:
        source: real images.
        out: directory of finished draws.
        networks: feature networks by name; metrics whose network is missing are left out.
        sizes: numbers of images per side.
        network_images: the largest number of images for a network; larger sizes are scored without the
            metrics of networks.
        most: the largest number of draws per size.
        seed: seed of the order of the images and of the metrics.
        device: device that computes.
        workers: processes that decode.

    Raises:
        SampleError: there are fewer images than the smallest size needs.
    """
    if len(source) < 2 * min(sizes):
        raise SampleError(
            f"{source.name} holds {len(source):,} images; two sets of {min(sizes):,} need "
            f"{2 * min(sizes):,}: --sizes up to {len(source) // 2} have room"
        )
    settings = {
        "images": source.fingerprint,
        "networks": {name: network.fingerprint for name, network in networks.items()},
        "seed": seed,
    }
    todo = []
    for size in sizes:
        for metrics, room, kind in (
            (PIXEL_METRICS, len(source), "pixels"),
            (FEATURE_METRICS if networks else (), min(network_images, len(source)), "features"),
        ):
            todo += [(size, places, metrics, kind) for places in draws(size, room, most) if metrics]
    scores = _score_all(source, todo, networks, CellFiles(out, settings), seed, device, workers)
    return floors(scores)


def _score_all(
    source: ImageSource,
    todo: Sequence[tuple[int, tuple[int, int], Sequence[Metric], str]],
    networks: Mapping[str, FeatureExtractor],
    cells: CellFiles,
    seed: int,
    device: str,
    workers: int,
) -> list[SetScore]:
    """Return the scores of every draw; those of finished draws are read from disk."""
    order = sequence(source, seed)
    names = [f"{kind}-{size}-{first}" for size, (first, _), _, kind in todo]
    kept = [cells.get(name) for name in names]
    # The forward pass of a network takes about forty times as long as SWD per image.
    clock = Clock(sum(map(_work, todo, [scores is not None for scores in kept])))
    found = []
    for (size, (first, second), metrics, kind), name, scores in zip(todo, names, kept, strict=True):
        if scores is None:
            with clock.step(name, _work((size, (first, second), metrics, kind), False)):
                scorer = SetScorer(
                    metrics, (size,), networks, source.resolution, seed, str(pick_device(device)), workers
                )
                real, fake = (Picked(source, order[place : place + size]) for place in (first, second))
                scores = scorer.scores(scorer.states(real, "real"), scorer.states(fake, "fake"))
            cells.put(name, scores)
        found += scores
    return found


def _work(job: tuple[int, tuple[int, int], Sequence[Metric], str], finished: bool) -> float:
    size, _, _, kind = job
    return 0.0 if finished else size * (3.0 if kind == "features" else 1.0)


def floors(scores: Sequence[SetScore]) -> list[Floor]:
    """Group the draws by score and size, in the order of the tables."""
    found = []
    for metric, level in order_of_columns(scores):
        mine = [score for score in scores if (score.metric, score.level) == (metric, level)]
        for size in sorted({score.num_images for score in mine}):
            of_size = [score for score in mine if score.num_images == size]
            error = _root_mean_square([score.stderr for score in of_size])
            found.append(Floor(metric, level, size, tuple(score.value for score in of_size), error))
    return found


def _root_mean_square(values: Sequence[float | None]) -> float | None:
    if any(value is None for value in values):
        return None
    return float(np.sqrt(np.mean(np.square(np.array(values, float)))))


def exponent(ladder: Sequence[Floor]) -> float | None:
    """Fit the power of n with which a floor falls, by least squares on logarithms; None below three sizes."""
    if len(ladder) < 3 or any(floor.mean <= 0 for floor in ladder):
        return None
    slope = np.polyfit(np.log([f.num_images for f in ladder]), np.log([f.mean for f in ladder]), 1)[0]
    return float(slope)


def tables(found: Sequence[Floor]) -> str:
    """Return Markdown tables: the floor of every score by size, then the differences it can resolve."""
    sizes = sorted({floor.num_images for floor in found})
    head = [
        "| images on each side | " + " | ".join(f"{size:,}" for size in sizes) + " |",
        "|:--|" + "--:|" * len(sizes),
    ]
    means = ["Real against real: mean of the draws, ± standard deviation between them", "", *head]
    shown = [
        "Two generators scored against the same reals differ by more than this once in a hundred times "
        "if they are equally good",
        "",
        *head,
    ]
    for metric, level in order_of_columns(found):
        ladder = {f.num_images: f for f in found if (f.metric, f.level) == (metric, level)}
        name = f"{label(metric, level)} {output(metric).unit}".rstrip()
        fall = exponent(list(ladder.values())) if metric in LAWS else None
        law = "" if fall is None else f" (∝ n^{fall:.2f})".replace("-", "−")
        means.append(f"| {name}{law} | " + " | ".join(_mean(ladder.get(size)) for size in sizes) + " |")
        shown.append(f"| {name} | " + " | ".join(_shown(ladder.get(size)) for size in sizes) + " |")
    return "\n".join([*means, "", *shown]) + "\n"


def _mean(floor: Floor | None) -> str:
    if floor is None:
        return ""
    scale = output(floor.metric).scale
    spread = "" if floor.deviation is None else f" ± {floor.deviation * scale:.2g}"
    return f"{floor.mean * scale:.4g}{spread}"


def _shown(floor: Floor | None) -> str:
    if floor is None:
        return ""
    return "?" if floor.shown is None else f"{floor.shown * output(floor.metric).scale:.2g}"


def to_csv(found: Sequence[Floor]) -> str:
    """Return CSV with a row of raw values per draw; errors are root mean squares over the draws of a size."""
    columns = ("metric", "level", "num_images", "draw", "value", "stderr")
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for floor in found:
        shared = {name: value for name, value in asdict(floor).items() if name in columns}
        writer.writerows({**shared, "draw": i, "value": value} for i, value in enumerate(floor.values))
    return text.getvalue()


def draw_floors(found: Sequence[Floor]) -> Figure:
    """Plot a panel per metric: every draw, their mean, and for SWD and FID the expected power law."""
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(floor.metric for floor in found))
    columns = min(5, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(2.7 * columns, 2.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, metric in zip(grid, metrics, strict=False):
        _floor_panel(axes, [floor for floor in found if floor.metric == metric])
    for axes in grid[len(metrics) :]:
        axes.set_visible(False)
    figure.supxlabel("images on each side", fontsize=9)
    figure.suptitle("Real against real: each draw, their mean, ± standard error over images", fontsize=9)
    return figure


def _floor_panel(axes: Axes, found: Sequence[Floor]) -> None:
    metric = found[0].metric
    scale = output(metric).scale
    for color, (_, level) in zip(COLORS, order_of_columns(found), strict=False):
        ladder = [floor for floor in found if floor.level == level]
        sizes = np.array([floor.num_images for floor in ladder], float)
        means = np.array([floor.mean for floor in ladder]) * scale
        for floor in ladder:
            axes.plot(
                [floor.num_images] * len(floor.values), np.array(floor.values) * scale,
                ".", color=color, ms=3, alpha=0.5,
            )  # fmt: skip
        errors = np.array([floor.stderr or 0.0 for floor in ladder]) * scale
        axes.errorbar(sizes, means, errors, color=color, lw=1, capsize=2, label=label(metric, level))
        if metric in LAWS:
            law = means[-1] * (sizes / sizes[-1]) ** LAWS[metric]
            axes.plot(sizes, law, ":", color=color, lw=1)
    _size_axis(axes, found)
    title = output(metric).heading
    if metric in LAWS:
        axes.set_yscale("log")
        title += f"; dotted: {LAWS_IN_WORDS[LAWS[metric]]}"
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    if output(metric).by_level:
        axes.legend(fontsize=6, frameon=False)


def _size_axis(axes: Axes, found: Sequence[Floor]) -> None:
    sizes = sorted({floor.num_images for floor in found})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes], rotation=45)


def draw_errors(found: Sequence[Floor]) -> Figure:
    """Plot standard errors by number of images on logarithmic axes, each relative to its first value."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.subplots()
    whole = [(metric, level) for metric, level in order_of_columns(found) if level is None]
    styles = [(color, line) for line in ("-", "--") for color in COLORS]
    for (color, line), (metric, level) in zip(styles, whole, strict=False):
        ladder = [f for f in found if (f.metric, f.level) == (metric, level) and f.stderr]
        if ladder:
            errors = np.array([floor.stderr for floor in ladder], float)
            axes.plot(
                [floor.num_images for floor in ladder], errors / errors[0], line,
                color=color, lw=1.2, marker="o", ms=3, label=label(metric, level),
            )  # fmt: skip
    sizes = np.array(sorted({floor.num_images for floor in found}), float)
    for power, name in ((-0.5, "n^(−1/2)"), (-1.0, "1/n")):
        axes.plot(sizes, (sizes / sizes[0]) ** power, ":", color="grey", lw=1)
        axes.annotate(name, (sizes[-1], (sizes[-1] / sizes[0]) ** power), fontsize=8, color="grey")
    _size_axis(axes, found)
    axes.set_yscale("log")
    axes.set_xlabel("images on each side", fontsize=9)
    axes.set_ylabel("standard error over images, of that at the first size", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False, ncols=2)
    return figure


@click.command()
@click.option("--data", metavar="SOURCE", required=True, help="Real images.")
@inception_options
@even_numbers("--sizes", "128 … 16384")
@click.option(
    "--network-images",
    type=click.IntRange(min=40),
    default=8192,
    show_default=True,
    help="That go through Inception at most.",
)
@click.option("--draws", "most", type=click.IntRange(min=1), default=4, show_default=True, help="Of a size.")
@running_options
@click.option("--quick", is_flag=True, help="Few images: whether it runs, not what it finds.")
@writing_options
def main(out: Path, data: str, docs: Path | None, quick: bool, **options: Any) -> None:
    """Score real images against other real ones, at growing numbers of them."""
    try:
        source = open_source(data)
        networks = open_inception(
            options["weights"], options["allow_unverified_weights"], options["precision"], options["device"]
        )
        found = run(
            source,
            out,
            networks,
            sizes=options["sizes"] or (QUICK_SIZES if quick else SIZES),
            **{key: options[key] for key in ("network_images", "most", "seed", "device", "workers")},
        )
        report(found, out, docs)
    except PgmetricsError as error:
        raise click.ClickException(str(error)) from error


def report(found: Sequence[Floor], out: Path, docs: Path | None) -> None:
    """Print the tables; write tables, draws and plots."""
    text = tables(found)
    click.echo(text, nl=False)
    write_whole(out / "noise_floor.csv", to_csv(found).encode())
    write_whole(out / "noise_floor.md", text.encode())
    figures = {"noise-floor": draw_floors(found), "noise-floor-errors": draw_errors(found)}
    if docs is not None:
        put_into(docs, "tables of noise floor", text)
    save_figures(figures, out, docs)


if __name__ == "__main__":
    sys.exit(main())
