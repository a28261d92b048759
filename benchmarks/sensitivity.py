"""How each metric answers to known faults of growing strength, put into real images.

    python -m benchmarks.sensitivity --data cifar10-train.zip --weights FILE --out runs/sensitivity

The reference is one set of real images; the generated images are other real images with a fault. A fault
is noticed from the strength on from which the score differs from that of the unfaulted images, against
the same reference and at the same count, by more than chance: the difference divided by the errors of
both, the reference held fixed, is compared with a normal distribution at --alpha, by Holm's correction
over the strengths. Writes into --out: `sensitivity.csv` with every score and test, `sensitivity.md`
with the final table, the plots as PNG and SVG, and `cells/`, from which an interrupted run goes on.
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

VERSION = 1  # of the faults: raise it when one of them changes

Images = NDArray[np.float32]  # [3, H, W] in grey levels


@dataclass(frozen=True)
class Reals:
    """Real images, cut into those that are compared with and the others.

    Attributes:
        reference: the images that generated ones are compared with.
        others: every image that is not among them, in an order without structure.
        seed: of what faults draw.
    """

    reference: ImageSource
    others: ImageSource
    seed: int

    @property
    def count(self) -> int:
        """Images of the reference, and of every generated set."""
        return len(self.reference)

    def unfaulted(self) -> ImageSource:
        """The generated images of a perfect generator."""
        return Picked(self.others, np.arange(self.count))


def cut(source: ImageSource, count: int, seed: int) -> Reals:
    """The first `count` images of a source's sequence as reference, all after them as others.

    Raises:
        SampleError: the source holds fewer than three times as many.
    """
    if len(source) < 3 * count:
        raise SampleError(
            f"{source.name} holds {len(source):,} images; a reference, an unfaulted and a third set of "
            f"{count:,} need {3 * count:,}: --counts up to {len(source) // 3} have room"
        )
    order = sequence(source, seed)
    return Reals(Picked(source, order[:count]), Picked(source, order[count:]), seed)


class Distorted(Wrapped):
    """Images each changed by itself: image i depends on image i of the source and on i alone."""

    def __init__(self, source: ImageSource, change: Callable[[Images, int], Images], name: str) -> None:
        super().__init__(source, f"+{name}")
        self._distort = change

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """That of the images before, the change, and the indices that it may depend on."""
        return f"{super().identity(indices)},images={listed(indices)}"

    def _read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = np.array(super()._read(indices))
        for image, index in zip(images, indices, strict=True):
            changed = self._distort(image.astype(np.float32), index)
            image[:] = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
        return images


class Mixed(Wrapped):
    """Images of one source, those at the marked places from another."""

    def __init__(self, source: ImageSource, other: ImageSource, marked: NDArray[np.bool_], name: str) -> None:
        super().__init__(source, f"+{name}")
        self._other = other
        self._marked = marked

    def identity(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """That of both sources' images and which are the other's."""
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
    """Convolve with a Gaussian of `sigma` pixels, the border mirrored."""

    def change(image: Images, _: int) -> Images:
        blurred: Images = ndimage.gaussian_filter(image, (0, sigma, sigma), mode="mirror")
        return blurred

    return Distorted(reals.unfaulted(), change, f"blur={sigma}")


def noise(reals: Reals, sigma: float) -> ImageSource:
    """Add independent normal noise of `sigma` grey levels: the same draws at every strength, scaled."""
    key = seeding.text_key("noise of benchmarks/sensitivity.py")

    def change(image: Images, index: int) -> Images:
        rng = seeding.generator(reals.seed, Stream.SYNTHETIC, *key, index)
        return image + np.float32(sigma) * rng.standard_normal(image.shape, np.float32)

    return Distorted(reals.unfaulted(), change, f"noise={sigma},seed={reals.seed}")


def contrast(reals: Reals, factor: float) -> ImageSource:
    """Move every value towards mid-grey, to `factor` of its distance."""

    def change(image: Images, _: int) -> Images:
        return np.float32(127.5) + np.float32(factor) * (image - np.float32(127.5))

    return Distorted(reals.unfaulted(), change, f"contrast={factor}")


def color(reals: Reals, factor: float) -> ImageSource:
    """Move every pixel towards the grey of its luma (Rec. 601), to `factor` of its distance."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]

    def change(image: Images, _: int) -> Images:
        luma = (weights * image).sum(0, keepdims=True)
        return luma + np.float32(factor) * (image - luma)

    return Distorted(reals.unfaulted(), change, f"color={factor}")


def classes(reals: Reals, kept: float) -> ImageSource:
    """Other real images of `kept` of the classes alone; fewer classes are a part of more.

    Raises:
        SampleError: those classes have too few images.
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
    """`distinct` of the unfaulted images, drawn again and again."""
    key = seeding.text_key("collapse of benchmarks/sensitivity.py")
    # In any fixed turn two images of an MS-SSIM pair would never be the same.
    words = seeding.words(reals.seed, Stream.SYNTHETIC, *key, start=0, stop=reals.count, width=4)
    return Picked(reals.others, seeding.below(words[:, 0], int(distinct)))


def copies(reals: Reals, share: float) -> ImageSource:
    """Unfaulted images, `share` of which are replaced by images of the reference itself."""
    key = seeding.text_key("copies of benchmarks/sensitivity.py")
    words = seeding.words(reals.seed, Stream.SYNTHETIC, *key, start=0, stop=reals.count, width=4)
    marked = (words[:, 0] >> np.uint64(11)).astype(np.float64) / 2**53 < share
    return Mixed(reals.unfaulted(), reals.reference, marked, f"copies={share},seed={reals.seed}")


def nothing(reals: Reals, draw: float) -> ImageSource:
    """Other real images without a fault: what is noticed here is a false alarm."""
    first = int(draw) * reals.count
    return Picked(reals.others, np.arange(first, first + reals.count))


@dataclass(frozen=True)
class Fault:
    """One way in which generated images go wrong.

    Attributes:
        name: in data.
        title: for people, with the unit of the strengths.
        strengths: in growing severity.
        quick: those of a quick run.
        apply: makes the generated images of a strength.
        new_images: whether its images are new to the network, and so take time.
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
    """A fault at one strength, and what the metrics say about it; no fault at all is strength None."""

    fault: str
    strength: float | None
    scores: tuple[SetScore, ...]


@dataclass(frozen=True)
class Answer:
    """One number of one metric about one fault at one strength, beside the unfaulted images' number.

    Attributes:
        fault, strength: what was done to the images.
        metric, level, num_images: as in `SetScore`.
        value, stderr: of the faulted images.
        unfaulted, unfaulted_error: value of the unfaulted images, at the same count and against the same
            reference, and its error.
        z: difference divided by the errors of both; None where there is none.
        p_value: of a difference that large by chance, corrected by Holm over the strengths.
        noticed: whether that is at most alpha.
        better: whether the metric moved as if the images were better; None where it has no direction.
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
    """Scores of the unfaulted images and of every fault at every strength; finished cells are read."""
    todo: list[tuple[str, float | None, Callable[[], ImageSource], float]] = [
        ("unfaulted", None, reals.unfaulted, 2)
    ]
    for fault, strength in faults:
        # An image that passes no network takes a small part of the time of one that does.
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
    """Every score beside that of the unfaulted images, tested."""
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
    """One metric's answers to one fault, by growing strength."""
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
    """The difference in its standard errors, the reference held fixed.

    Without a fault both sets are alike draws of real images and the reference is the same, so
    that its chance moves both values alike and only the generated images' own remains. That both
    share images, or that a fault repeats some, does not matter: the error must hold where there is no fault.
    """
    if score.stderr is None or without.stderr is None:
        return None
    difference, error = score.value - without.value, hypot(score.stderr, without.stderr)
    if error == 0:
        return 0.0 if difference == 0 else np.copysign(inf, difference)
    return difference / error


def threshold(ladder: Sequence[Answer]) -> Answer | None:
    """The weakest strength that is noticed together with all stronger ones, or None."""
    found = None
    for answer in reversed(ladder):
        if not answer.noticed:
            break
        found = answer
    return found


def final_table(found: Sequence[Answer], faults: Sequence[Fault]) -> str:
    """Markdown: from what strength on each metric notices each fault, at each number of images."""
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
    """What the final table's signs mean."""
    return (
        f"Noticed from this strength on, with {' · '.join(f'{count:,}' for count in counts)} images on each "
        f"side; – not at any strength tried; ⁺ the metric moved as if the images had become better. "
        f"Two-sided normal test of the difference from unfaulted images, Holm over the strengths, "
        f"α = {alpha:g}.\n"
    )


def to_csv(found: Sequence[Answer]) -> str:
    """Every answer, raw values."""
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
    """A column for each fault and a row for each metric: the score by growing strength."""
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
    """Lines over the strengths as ordinals, the unfaulted images first."""
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
    """A field for each metric and strength, colored by how far the score moved in its errors."""
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
        SampleError: too few images, or a fault that they do not allow.
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
    """The faults of those names, or all, with their strengths; without those that the images do not allow."""
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
    """Print the final table; write it, the scores and the plots."""
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
