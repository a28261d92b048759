"""Draw the picture at the top of README.md: samples of a growing ProGAN, and its falling SWD to the reals.

    python -m benchmarks.picture

Draws docs/images/growth-light.svg and growth-dark.svg from the committed run in
benchmarks/results/progan-cifar10: its scores (stages.csv) and its samples (samples.png).
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

ROOT = Path(__file__).parents[1]
RUN = ROOT / "benchmarks" / "results" / "progan-cifar10"
IMAGES = ROOT / "docs" / "images"
SIDE = 32
"""Pixels of a sample in samples.png, whose rows are the untrained network and the end of each stage."""
COLUMNS = 9
ENLARGE = 3


@dataclass(frozen=True)
class Colors:
    """The colors of text, secondary text, thin lines, the score of the reals, and the curve."""

    ink: str
    muted: str
    rule: str
    real: str
    curve: str


THEMES = {
    "light": Colors(ink="#1b1f24", muted="#56616d", rule="#d0d7de", real="#2a7348", curve="#1b4f91"),
    "dark": Colors(ink="#e7ebef", muted="#a3afbb", rule="#39434e", real="#79c795", curve="#8ab4f0"),
}


@dataclass(frozen=True)
class CheckpointScore:
    """SWD ×10³ of one checkpoint, averaged over levels, with its standard error over images.

    Attributes:
        images_shown: images shown, in thousands; 0 before training.
        resolution: resolution of the stage; None before training.
        ends_stage: whether it is the last checkpoint of its stage, rather than the end of a fade.
    """

    images_shown: float
    resolution: int | None
    value: float
    stderr: float
    ends_stage: bool


def read_scores(path: Path) -> tuple[float, list[CheckpointScore]]:
    """Read the score of reals against reals, and the scores of the checkpoints in order of training."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "swd" and not row["level"]]
    floor = next(1e3 * float(row["value"]) for row in rows if row["subject"] == "real")
    checkpoints = [row for row in rows if row["subject"] == "fake"]
    # A label is IMAGES-HxW, such as 0000015040-4x4, or "untrained".
    parts = [row["run"].partition("-") for row in checkpoints]
    sides = [int(stage.partition("x")[0]) if stage else None for _, _, stage in parts]
    scores = [
        CheckpointScore(
            images_shown=int(images) / 1000 if stage else 0.0,
            resolution=side,
            value=1e3 * float(row["value"]),
            stderr=1e3 * float(row["stderr"]),
            ends_stage=side != following,
        )
        for row, (images, _, stage), side, following in zip(
            checkpoints, parts, sides, [*sides[1:], 0], strict=True
        )
    ]
    return floor, scores


def draw(floor: float, scores: list[CheckpointScore], samples: Image.Image, colors: Colors) -> Figure:
    """Draw samples on the left, one row per stage, and the curve on the right."""
    settings = {
        "font.size": 12,
        "text.color": colors.ink,
        "axes.labelcolor": colors.ink,
        "axes.edgecolor": colors.rule,
        "xtick.color": colors.muted,
        "ytick.color": colors.muted,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(12.2, 4.1))
        left = figure.add_axes((0.115, 0.03, 0.43, 0.86))
        right = figure.add_axes((0.595, 0.15, 0.4, 0.74))
        _draw_samples(left, [score for score in scores if score.ends_stage], samples)
        _draw_curve(right, floor, scores, colors)
        for axes, title in (
            (left, "Samples at the end of each stage"),
            (right, "Distance to the real images (SWD ×10³)"),
        ):
            axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=colors.ink)
    return figure


def _draw_samples(axes: Axes, ends: list[CheckpointScore], samples: Image.Image) -> None:
    pixels = np.asarray(samples.convert("RGB"))[: SIDE * len(ends), : SIDE * COLUMNS]
    enlarged = pixels.repeat(ENLARGE, axis=0).repeat(ENLARGE, axis=1)
    axes.imshow(enlarged, interpolation="none", aspect="auto", extent=(0, COLUMNS, len(ends), 0))
    axes.axis("off")
    for row, end in enumerate(ends):
        stage = "untrained" if end.resolution is None else f"{end.resolution} × {end.resolution}"
        axes.text(-0.15, row + 0.5, stage, ha="right", va="center", fontsize=13)


def _draw_curve(axes: Axes, floor: float, scores: list[CheckpointScore], colors: Colors) -> None:
    ends = [score for score in scores if score.ends_stage]
    fades = [score for score in scores if not score.ends_stage]
    axes.plot(
        [score.images_shown for score in scores],
        [score.value for score in scores],
        color=colors.muted,
        linewidth=0.8,
        linestyle=":",
    )
    axes.plot(
        [score.images_shown for score in fades],
        [score.value for score in fades],
        "o",
        color=colors.muted,
        markersize=5,
        markerfacecolor="none",
        label="end of a fade: a new layer has just been added",
    )
    axes.errorbar(
        [score.images_shown for score in ends],
        [score.value for score in ends],
        yerr=[score.stderr for score in ends],
        fmt="o-",
        color=colors.curve,
        linewidth=2,
        markersize=7,
        label="end of a stage",
    )
    axes.axhline(
        floor,
        color=colors.real,
        linewidth=1.5,
        linestyle=(0, (5, 3)),
        label=f"real images against other real images: {floor:.1f}",
    )
    for score in ends:
        stage = "untrained" if score.resolution is None else f"{score.resolution} × {score.resolution}"
        axes.annotate(
            f"{stage}: {score.value:.0f}",
            (score.images_shown, score.value),
            xytext=(10, -4) if score in (ends[0], ends[-1]) else (0, -20),
            ha="left" if score in (ends[0], ends[-1]) else "center",
            textcoords="offset points",
            fontweight="bold",
        )
    axes.legend(loc="upper right", frameon=False, fontsize=11, borderaxespad=0)
    axes.set_facecolor("none")
    axes.set_ylim(0, 240)
    axes.set_yticks(range(0, 200, 50))
    axes.set_xlim(-3, 146)
    axes.set_xticks(range(0, 120, 20))
    axes.set_xlabel("images shown in training, thousands")
    axes.grid(axis="y", color=colors.rule, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=IMAGES, help="[default: docs/images]"
)
def main(out: Path) -> None:
    """Draw the picture for light and dark pages."""
    floor, scores = read_scores(RUN / "stages.csv")
    with Image.open(RUN / "samples.png") as samples:
        for theme, colors in THEMES.items():
            figure = draw(floor, scores, samples, colors)
            path = out / f"growth-{theme}.svg"
            # The same input gives the same file.
            with matplotlib.rc_context({"svg.hashsalt": "growth"}):
                figure.savefig(path, transparent=True, metadata={"Date": None})
            click.echo(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    sys.exit(main())
