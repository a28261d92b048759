"""Measure how each metric responds to known faults of growing strength in real images.

    python -m benchmarks.sensitivity --data cifar10-train.zip --weights FILE --out runs/sensitivity

The reference is one set of real images; the generated images are other real images with a fault. A metric
notices a fault if its score differs significantly from that of the unfaulted images, against the same
reference and at the same number of images. The test divides the difference by the combined standard error of
both, with the reference held fixed, and compares it with a normal distribution at --alpha, with Holm's
correction over the strengths. The files in --out are `sensitivity.csv` with every score and test,
`sensitivity.md` with the final table, the plots as PNG and SVG, and `cells/`, from which an interrupted run
resumes.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import erfc, hypot, inf, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

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
from pgmetrics.metrics.outputs import Aim
from pgmetrics.metrics.registry import output
from pgmetrics.runtime import seeding
from pgmetrics.runtime.devices import pick_device
from pgmetrics.runtime.files import write_whole
from pgmetrics.runtime.seeding import Stream
from pgmetrics.sources.base import ImageSource, listed, sequence
from pgmetrics.sources.resolve import open_source
from pgmetrics.sources.wrappers import Wrapped
from pgmetrics.uncertainty.randomization import holm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VERSION = 1  # version of the faults; increase it when one of them changes

Images = NDArray[np.float32]  # [3, H, W] in gray levels


@dataclass(frozen=True)
class Reals:
    """Real images, split into the reference and all others.

    Attributes:
        reference: the images that generated images are compared with.
        others: all other images, in random order.
        seed: seed of the random draws of faults.
    """

    reference: ImageSource
    others: ImageSource
    seed: int

    @property
    def count(self) -> int:
        """Number of images in the reference and in every generated set."""
        return len(self.reference)

    def unfaulted(self) -> ImageSource:
        """Return images without a fault, like those of a perfect generator."""
        return Picked(self.others, np.arange(self.count))


def cut(source: ImageSource, count: int, seed: int) -> Reals:
    """Take the first `count` images of the sequence of a source as reference, the rest as others.

    Raises:
        SampleError: the source has fewer than three times as many images.
    """
    if len(source) < 3 * count:
        raise SampleError(
            f"{source.name} holds {len(source):,} images; a reference, an unfaulted and a third set of "
            f"{count:,} need {3 * count:,}: --counts up to {len(source) // 3} have room"
        )
    order = sequence(source, seed)
    return Reals(Picked(source, order[:count]), Picked(source, order[count:]), seed)


class Distorted(Wrapped):
    """Images changed one by one: image i depends only on image i of the source and on i."""

    def __init__(self, source: ImageSource, change: Callable[[Images, int], Images], name: str) -> None:
        super().__init__(source, f"+{name}")
        self._distort = change

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """Combine the identity of the source, the change, and the indices that it may depend on."""
        return f"{super().identity(indices)},images={listed(indices)}"

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = np.array(super()._read(indices))
        for image, index in zip(images, indices, strict=True):
            changed = self._distort(image.astype(np.float32), index)
            image[:] = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
        return images


class Mixed(Wrapped):
    """Images of one source, replaced by those of another at the marked indices."""

    def __init__(self, source: ImageSource, other: ImageSource, marked: NDArray[np.bool_], name: str) -> None:
        super().__init__(source, f"+{name}")
        self._other = other
        self._marked = marked

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """Combine the identities of both sources and the replaced indices."""
        places = np.asarray(indices, np.int64)
        return (
            f"{super().identity(places)}:{self._other.identity(places[self._marked[places]])}"
            f",images={listed(np.flatnonzero(self._marked[places]))}"
        )

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = np.array(super()._read(indices))
        places = [place for place, index in enumerate(indices) if self._marked[index]]
        if places:
            images[places] = self._other.batch([indices[place] for place in places])
        return images


def blur(reals: Reals, sigma: float) -> ImageSource:
    """Convolve with a Gaussian of `sigma` pixels and mirrored borders."""

    def change(image: Images, _: int) -> Images:
        blurred: Images = ndimage.gaussian_filter(image, (0, sigma, sigma), mode="mirror")
        return blurred

    return Distorted(reals.unfaulted(), change, f"blur={sigma}")


def noise(reals: Reals, sigma: float) -> ImageSource:
    """Add independent normal noise of `sigma` gray levels; every strength scales the same draws."""
    key = seeding.text_key("noise of benchmarks/sensitivity.py")

    def change(image: Images, index: int) -> Images:
        rng = seeding.generator(reals.seed, Stream.SYNTHETIC, *key, index)
        return image + np.float32(sigma) * rng.standard_normal(image.shape, np.float32)

    return Distorted(reals.unfaulted(), change, f"noise={sigma},seed={reals.seed}")


def contrast(reals: Reals, factor: float) -> ImageSource:
    """Scale the distance of every value from mid-gray by `factor`."""

    def change(image: Images, _: int) -> Images:
        return np.float32(127.5) + np.float32(factor) * (image - np.float32(127.5))

    return Distorted(reals.unfaulted(), change, f"contrast={factor}")


def color(reals: Reals, factor: float) -> ImageSource:
    """Scale the distance of every pixel from the gray of its luma (Rec. 601) by `factor`."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]

    def change(image: Images, _: int) -> Images:
        luma = (weights * image).sum(0, keepdims=True)
        return luma + np.float32(factor) * (image - luma)

    return Distorted(reals.unfaulted(), change, f"color={factor}")


def classes(reals: Reals, kept: float) -> ImageSource:
    """Return other real images of only `kept` classes; a smaller selection is a subset of a larger one.

    Raises:
        SampleError: the images have no classes, or the kept classes have too few images.
    """
    labels, num_classes = reals.others.labels, len(reals.others.label_names)
    if labels is None:
        raise SampleError("classes cannot be dropped: the images have none")
    key = seeding.text_key("classes of benchmarks/sensitivity.py")
    order = seeding.generator(reals.seed, Stream.SYNTHETIC, *key).permutation(num_classes)
    places = np.flatnonzero(np.isin(labels, order[: int(kept)]))
    if len(places) < reals.count:
        raise SampleError(
            f"{int(kept)} of {num_classes} classes have {len(places):,} images beside the reference; "
            f"{reals.count:,} are needed: use --counts up to {len(places)}"
        )
    return Picked(reals.others, places[: reals.count])


def collapse(reals: Reals, distinct: float) -> ImageSource:
    """Return `distinct` unfaulted images, drawn with replacement."""
    key = seeding.text_key("collapse of benchmarks/sensitivity.py")
    # Draw at random: in a fixed cycle the two images of an MS-SSIM pair would never be equal.
    words = seeding.words(reals.seed, Stream.SYNTHETIC, *key, start=0, stop=reals.count, width=4)
    return Picked(reals.others, seeding.below(words[:, 0], int(distinct)))


def copies(reals: Reals, share: float) -> ImageSource:
    """Return unfaulted images, of which `share` are replaced by images of the reference."""
    key = seeding.text_key("copies of benchmarks/sensitivity.py")
    words = seeding.words(reals.seed, Stream.SYNTHETIC, *key, start=0, stop=reals.count, width=4)
    marked = (words[:, 0] >> np.uint64(11)).astype(np.float64) / 2**53 < share
    return Mixed(reals.unfaulted(), reals.reference, marked, f"copies={share},seed={reals.seed}")


def nothing(reals: Reals, draw: float) -> ImageSource:
    """Return other real images without a fault; if a metric notices them, that is a false alarm."""
    first = int(draw) * reals.count
    return Picked(reals.others, np.arange(first, first + reals.count))


@dataclass(frozen=True)
class Fault:
    """A kind of fault in generated images.

    Attributes:
        name: name in data files.
        title: display name with the unit of the strengths.
        strengths: strengths in growing severity.
        quick: strengths of a quick run.
        apply: returns the generated images at a strength.
        new_images: whether the images are changed, so that no cached features exist.
    """

    name: str
    title: str
    strengths: tuple[float, ...]
    quick: tuple[float, ...]
    apply: Callable[[Reals, float], ImageSource]
    new_images: bool = True


FAULTS = (
    Fault("blur", "blur, σ in pixels", (0.3, 0.4, 0.6, 1), (0.5, 1), blur),
    Fault("noise", "noise, σ in grey levels", (2, 4, 8), (8, 32), noise),
    Fault("contrast", "contrast kept", (0.75, 0.5, 0.25), (0.75, 0.4), contrast),
    Fault("color", "color kept", (0.5, 0.25, 0), (0.5, 0), color),
    Fault("classes", "classes kept", (9, 7, 5, 2), (3, 1), classes),
    Fault("collapse", "distinct images", (256, 64, 16, 4), (16, 2), collapse, new_images=False),
    Fault("copies", "share copied from the reference", (0.05, 0.1, 0.25, 0.5), (0.25, 1), copies, False),
    Fault("nothing", "no fault: other real images", (1,), (1,), nothing),
)
NAMES_OF_FAULTS = tuple(fault.name for fault in FAULTS)


@dataclass(frozen=True)
class Cell:
    """The scores of a fault at one strength; strength None means no fault."""

    fault: str
    strength: float | None
    scores: tuple[SetScore, ...]


@dataclass(frozen=True)
class Answer:
    """One score of a fault at one strength, compared with the score of the unfaulted images.

    Attributes:
        fault, strength: the fault and its strength.
        metric, level, num_images: as in `SetScore`.
        value, stderr: score of the faulted images and its standard error.
        unfaulted, unfaulted_error: score of the unfaulted images at the same count against the same
            reference, and its standard error.
        z: difference divided by the combined standard error; None without standard errors.
        p_value: p-value of the difference with Holm's correction over the strengths; None without z.
        noticed: whether the p-value is at most alpha; None without p-value.
        better: whether the score changed as if the images were better; None if the metric has no direction.
    """

    fault: str
    strength: float
    metric: str
    level: int | None
    num_images: int
    value: float
    stderr: float | None
    unfaulted: float
    unfaulted_error: float | None
    z: float | None
    p_value: float | None
    noticed: bool | None
    better: bool | None


def measure(
    reals: Reals,
    faults: Sequence[tuple[Fault, float]],
    scorer: SetScorer,
    cells: CellFiles,
) -> list[Cell]:
    """Score the unfaulted images and every fault at every strength; finished cells are read from disk."""
    todo: list[tuple[str, float | None, Callable[[], ImageSource], float]] = [
        ("unfaulted", None, reals.unfaulted, 2)
    ]
    for fault, strength in faults:
        # Images that need no forward pass of a network take a small fraction of the time.
        work = 1.0 if fault.new_images else 0.15
        todo.append((fault.name, strength, lambda f=fault, s=strength: f.apply(reals, s), work))
    named = [(f"{name}-{strength:g}" if strength is not None else name) for name, strength, *_ in todo]
    kept = [cells.get(name) for name in named]
    clock = Clock(sum(work for (*_, work), scores in zip(todo, kept, strict=True) if scores is None))
    found, reference = [], None
    for (fault_name, strength, images, work), cell, scores in zip(todo, named, kept, strict=True):
        if scores is None:
            with clock.step(cell, work):
                if reference is None:
                    reference = scorer.states(reals.reference, "real")
                scores = scorer.scores(reference, scorer.states(images(), "fake"))
            cells.put(cell, scores)
        found.append(Cell(fault_name, strength, tuple(scores)))
    return found


def answers(cells: Sequence[Cell], alpha: float) -> list[Answer]:
    """Compare every score with that of the unfaulted images, and test the difference."""
    unfaulted = {_key(score): score for cell in cells if cell.strength is None for score in cell.scores}
    found = []
    for fault in dict.fromkeys(cell.fault for cell in cells if cell.strength is not None):
        ladder = [cell for cell in cells if cell.fault == fault]
        for key, without in unfaulted.items():
            scores = [next(score for score in cell.scores if _key(score) == key) for cell in ladder]
            found += _tested(ladder, scores, without, alpha)
    return found


def _key(score: SetScore) -> tuple[str, int | None, int]:
    return score.metric, score.level, score.num_images


def _tested(
    ladder: Sequence[Cell], scores: Sequence[SetScore], without: SetScore, alpha: float
) -> list[Answer]:
    """Test one score of one fault at all strengths, in growing order."""
    steps = [_z(score, without) for score in scores]
    sound = [z for z in steps if z is not None]
    corrected = iter(holm([erfc(abs(z) / sqrt(2)) for z in sound]))
    aim = output(without.metric).better.aim
    found = []
    for cell, score, z in zip(ladder, scores, steps, strict=True):
        p_value = None if z is None else next(corrected)
        rose = score.value > without.value
        found.append(
            Answer(
                cell.fault,
                cell.strength or 0.0,
                *_key(score),
                score.value,
                score.stderr,
                without.value,
                without.stderr,
                z,
                p_value,
                None if p_value is None else p_value <= alpha,
                rose == (aim is Aim.HIGHER) if aim in (Aim.LOWER, Aim.HIGHER) else None,
            )
        )
    return found


def _z(score: SetScore, without: SetScore) -> float | None:
    """Return the difference in units of its standard error, with the reference held fixed.

    Under the null hypothesis both sets are draws of real images from the same distribution. The reference is
    shared, so its randomness changes both scores alike, and only that of the generated images remains. Shared
    images between both sets, or images that a fault repeats, do not matter: the error has to be valid only
    without a fault.
    """
    if score.stderr is None or without.stderr is None:
        return None
    difference, error = score.value - without.value, hypot(score.stderr, without.stderr)
    if error == 0:
        return 0.0 if difference == 0 else np.copysign(inf, difference)
    return difference / error


def threshold(ladder: Sequence[Answer]) -> Answer | None:
    """Return the weakest strength that is noticed together with all stronger ones, or None."""
    found = None
    for answer in reversed(ladder):
        if not answer.noticed:
            break
        found = answer
    return found


def final_table(found: Sequence[Answer], faults: Sequence[Fault]) -> str:
    """Return a Markdown table of the strength from which each metric notices each fault."""
    counts = sorted({answer.num_images for answer in found})
    shown = [fault for fault in faults if any(answer.fault == fault.name for answer in found)]
    columns = order_of_columns(found)
    lines = [
        "| | " + " | ".join(fault.title for fault in shown) + " |",
        "|:--|" + "--:|" * len(shown),
        "| *tried* | " + " | ".join(_tried(fault, found) for fault in shown) + " |",
    ]
    for metric, level in columns:
        cells = []
        for fault in shown:
            ladders = [
                [
                    a
                    for a in found
                    if (a.fault, a.metric, a.level, a.num_images) == (fault.name, metric, level, count)
                ]
                for count in counts
            ]
            cells.append(" · ".join(map(_noticed_from, ladders)))
        lines.append(f"| {label(metric, level)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _tried(fault: Fault, found: Sequence[Answer]) -> str:
    strengths = dict.fromkeys(answer.strength for answer in found if answer.fault == fault.name)
    return " ".join(f"{strength:g}" for strength in strengths)


def _noticed_from(ladder: Sequence[Answer]) -> str:
    if any(answer.noticed is None for answer in ladder):
        return "?"
    first = threshold(ladder)
    if first is None:
        return "–"
    if first.fault == "nothing":
        return "alarm"
    return f"{first.strength:g}{'⁺' if first.better else ''}"


def caption(counts: Sequence[int], alpha: float) -> str:
    """Return the legend of the final table."""
    return (
        f"Noticed from this strength on, with {' · '.join(f'{count:,}' for count in counts)} images on each "
        f"side; – not at any strength tried; ⁺ the metric moved as if the images had become better. "
        f"Two-sided normal test of the difference from unfaulted images, Holm over the strengths, "
        f"α = {alpha:g}.\n"
    )


def to_csv(found: Sequence[Answer]) -> str:
    """Return CSV with the raw values of every comparison."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(asdict(found[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(answer) for answer in found)
    return text.getvalue()


PIXEL_PANELS: tuple[tuple[str, ...], ...] = (("swd",), ("ms-ssim",))
FEATURE_PANELS = (("fid",), ("kid",), ("is",), ("precision", "recall"), ("density", "coverage"), ("authpct",))


def draw_curves(
    found: Sequence[Answer], faults: Sequence[Fault], panels: Sequence[tuple[str, ...]], count: int
) -> Figure:
    """Plot scores by growing strength, with a column per fault and a row per metric."""
    from matplotlib.figure import Figure

    shown = [
        fault for fault in faults if fault.name != "nothing" and any(a.fault == fault.name for a in found)
    ]
    figure = Figure(figsize=(2.6 * len(shown), 2.1 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), len(shown), sharey="row", squeeze=False)
    for row, (metrics, axes_row) in enumerate(zip(panels, grid, strict=True)):
        for fault, axes in zip(shown, axes_row, strict=True):
            mine = [
                a for a in found if a.fault == fault.name and a.num_images == count and a.metric in metrics
            ]
            _panel(axes, mine)
            if row == 0:
                axes.set_title(fault.title, fontsize=9)
        axes_row[0].set_ylabel(", ".join(output(metric).heading for metric in metrics), fontsize=9)
        axes_row[-1].legend(fontsize=7, frameon=False)
    figure.suptitle(
        f"{count:,} images on each side, ± standard error; filled: noticed; "
        "band: what chance alone does to unfaulted images (99 %)",
        fontsize=9,
    )
    return figure


def _panel(axes: Axes, found: Sequence[Answer]) -> None:
    """Plot lines over equally spaced strengths, the unfaulted images first."""
    for color_of_line, (metric, level) in zip(COLORS, order_of_columns(found), strict=False):
        ladder = [a for a in found if (a.metric, a.level) == (metric, level)]
        scale = output(metric).scale
        without = ladder[0].unfaulted * scale
        places = np.arange(1, len(ladder) + 1)
        values = np.array([a.value for a in ladder]) * scale
        errors = np.array([a.stderr or 0.0 for a in ladder]) * scale
        axes.plot([0, *places], [without, *values], color=color_of_line, lw=1, label=label(metric, level))
        axes.errorbar(places, values, errors, color=color_of_line, fmt="none", elinewidth=1, capsize=2)
        noticed = np.array([bool(a.noticed) for a in ladder])
        for marked, face in ((noticed, color_of_line), (~noticed, "white")):
            axes.plot(places[marked], values[marked], "o", color=color_of_line, mfc=face, ms=4)
        axes.set_xticks([0, *places], ["none", *(f"{a.strength:g}" for a in ladder)], fontsize=7)
        own = ladder[0].unfaulted_error
        if own is not None:
            half = 2.576 * sqrt(2) * own * scale
            axes.axhspan(without - half, without + half, color=color_of_line, alpha=0.15, lw=0)
    axes.tick_params(axis="y", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def draw_overview(found: Sequence[Answer], faults: Sequence[Fault], count: int) -> Figure:
    """Plot a cell per metric and strength, colored by the change of the score in standard errors."""
    from matplotlib.colors import SymLogNorm
    from matplotlib.figure import Figure

    mine = {(a.metric, a.level, a.fault, a.strength): a for a in found if a.num_images == count}
    rows = order_of_columns(found)
    columns = [
        (fault, strength)
        for fault in faults
        for strength in dict.fromkeys(a.strength for a in found if a.fault == fault.name)
    ]
    field = np.full((len(rows), len(columns)), np.nan)
    figure = Figure(figsize=(2.5 + 0.34 * len(columns), 1.8 + 0.28 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for i, (metric, level) in enumerate(rows):
        for j, (fault, strength) in enumerate(columns):
            answer = mine[metric, level, fault.name, strength]
            if answer.z is not None:
                field[i, j] = min(abs(answer.z), 1e3) * (-1 if answer.better else 1)
            if answer.noticed:
                axes.plot(j, i, "o", color="black", ms=3)
    shown = axes.imshow(field, cmap="RdBu_r", norm=SymLogNorm(3, vmin=-300, vmax=300, base=10), aspect="auto")
    axes.set_yticks(range(len(rows)), [label(*row) for row in rows], fontsize=8)
    axes.set_xticks(
        range(len(columns)), [f"{strength:g}" for _, strength in columns], fontsize=7, rotation=90
    )
    place = 0
    for fault in faults:
        width = sum(1 for one, _ in columns if one is fault)
        if width:
            axes.text(place + (width - 1) / 2, -0.8, fault.name, ha="center", fontsize=8)
            axes.axvline(place + width - 0.5, color="white", lw=3)
            place += width
    bar = figure.colorbar(shown, ax=axes, shrink=0.9)
    bar.set_label("difference in standard errors: red worse, blue better", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    axes.set_xlabel(f"strength; {count:,} images on each side; dot: noticed", fontsize=8)
    return figure


def run(
    source: ImageSource,
    out: Path,
    networks: Mapping[str, FeatureExtractor],
    *,
    counts: Sequence[int],
    faults: Sequence[tuple[Fault, float]],
    seed: int = 0,
    device: str = "auto",
    workers: int = 0,
) -> list[Cell]:
    """Measure every cell that `out` does not hold yet.

    Raises:
        SampleError: there are too few images, or they do not allow one of the faults.
    """
    reals = cut(source, max(counts), seed)
    metrics: list[Metric] = [*PIXEL_METRICS, *(FEATURE_METRICS if networks else ())]
    scorer = SetScorer(metrics, counts, networks, source.resolution, seed, str(pick_device(device)), workers)
    settings = {
        "version": VERSION,
        "images": source.fingerprint,
        "metrics": {metric.name: metric.parameters for metric in metrics},
        "networks": {name: network.fingerprint for name, network in networks.items()},
        "counts": list(counts),
        "seed": seed,
    }
    return measure(reals, faults, scorer, CellFiles(out, settings))


def plan(source: ImageSource, names: Sequence[str], quick: bool) -> list[tuple[Fault, float]]:
    """Return the named faults, or all, with their strengths, except those that the images do not allow."""
    num_classes = len(source.label_names)
    return [
        (fault, strength)
        for fault in FAULTS
        for strength in (fault.quick if quick else fault.strengths)
        if (not names or fault.name in names) and (fault.name != "classes" or strength < num_classes)
    ]


@click.command()
@click.option("--data", metavar="SOURCE", required=True, help="Real images; folders in it are classes.")
@inception_options
@even_numbers("--counts", "512,2048")
@click.option("--fault", "names", multiple=True, type=click.Choice(NAMES_OF_FAULTS), help="All, if left out.")
@click.option("--alpha", type=click.FloatRange(0, 1, True, True), default=0.01, show_default=True)
@running_options
@click.option("--quick", is_flag=True, help="Few images and strengths: whether it runs, not what it finds.")
@writing_options
def main(out: Path, data: str, names: tuple[str, ...], quick: bool, alpha: float, **options: Any) -> None:
    """Put known faults into real images and tell which metric notices which."""
    try:
        counts = options["counts"] or ((32, 64) if quick else (512, 2048))
        networks = open_inception(
            options["weights"], options["allow_unverified_weights"], options["precision"], options["device"]
        )
        source = open_source(data)
        faults = plan(source, names, quick)
        if source.labels is None:
            click.echo("the images have no classes: none are dropped", err=True)
        cells = run(
            source,
            out,
            networks,
            counts=counts,
            faults=faults,
            **{key: options[key] for key in ("seed", "device", "workers")},
        )
        report(answers(cells, alpha), counts, alpha, out, options["docs"])
    except PgmetricsError as error:
        raise click.ClickException(str(error)) from error


def report(
    found: Sequence[Answer], counts: Sequence[int], alpha: float, out: Path, docs: Path | None
) -> None:
    """Print the final table; write table, scores and plots."""
    table = f"{final_table(found, FAULTS)}\n{caption(counts, alpha)}"
    click.echo(table, nl=False)
    write_whole(out / "sensitivity.csv", to_csv(found).encode())
    write_whole(out / "sensitivity.md", table.encode())
    figures = {
        "sensitivity-pixels": draw_curves(found, FAULTS, PIXEL_PANELS, max(counts)),
        "sensitivity-overview": draw_overview(found, FAULTS, max(counts)),
    }
    if any(answer.metric == "fid" for answer in found):
        figures["sensitivity-features"] = draw_curves(found, FAULTS, FEATURE_PANELS, max(counts))
    if docs is not None:
        put_into(docs, "table of sensitivity", table)
    save_figures(figures, out, docs)


if __name__ == "__main__":
    sys.exit(main())
