r"""Train a ProGAN, score every checkpoint of its growth, and show what it learned.

    python -m benchmarks.stages --out runs/demo
    python -m benchmarks.stages --out runs/cifar --data cifar10-train.zip --preset small-32 \
        --snapshot-images 10000 --metrics swd,ms-ssim,fid,kid --weights inception.pth

This is a small application of `pgmetrics growth` and `pgmetrics report`. The files in --out are `run/` with
the checkpoints and their scores, `stages.csv` and `stages.json` with the numbers, `stages.md` with the
table, `samples.png`, and, if matplotlib is installed, `report.html` and `plots/`.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgmetrics.errors import PgmetricsError
from pgmetrics.runtime.openmp import sleep_while_waiting
from reference_models.progan.model import presets

if TYPE_CHECKING:
    import numpy as np

    from pgmetrics.results import Results
    from reference_models.progan.model.config import ProGANConfig

UNTRAINED = "untrained"


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="New directory.")
@click.option("--data", metavar="SOURCE", help="Training images.  [default: the procedural set]")
@click.option("--preset", default="demo-32", show_default=True, help="See `progan presets`.")
@click.option(
    "--total-images", type=click.IntRange(min=1), help="Train on this many.  [default: the preset's]"
)
@click.option(
    "--snapshot-images", type=click.IntRange(min=1), help="Score that often, beside the ends of phases."
)
@click.option(
    "--num-images", type=click.IntRange(min=4), default=512, show_default=True, help="To score with."
)
@click.option("--metrics", default="swd,ms-ssim", show_default=True, metavar="NAME,…")
@click.option(
    "--protocol",
    "protocols",
    type=click.Choice(["at-final", "at-stage"]),
    multiple=True,
    default=["at-final"],
)
@click.option("--weights", metavar="FILE", help="Of Inception, for metrics that use it.")
@click.option("--allow-unverified-weights", is_flag=True)
@click.option(
    "--no-real-images", is_flag=True, help="Show none of the training images, to pass the results on."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def main(
    out: Path,
    data: str | None,
    preset: str,
    total_images: int | None,
    snapshot_images: int | None,
    num_images: int,
    no_real_images: bool,
    seed: int,
    metrics: str,
    **options: Any,
) -> None:
    """Train, score every checkpoint, write table, samples and page to --out."""
    sleep_while_waiting()
    try:
        if out.exists() and any(out.iterdir()):
            raise PgmetricsError(f"{out} is not empty; remove it or name another --out")
        config = replace(presets.preset(preset), seed=seed)
        if total_images is not None:
            config = replace(config, total_images=total_images)
        source = data or f"synthetic:leaves,resolution={config.resolution},n={max(8192, 2 * num_images)}"
        _train(source, out / "run", config, snapshot_images)
        found = score(source, out / "run", metrics.split(","), num_images=num_images, seed=seed, **options)
        for name in ("stages.csv", "stages.json", "stages.md"):
            found.save(out / name)
        draw(source, out / "run", out / "samples.png", seed, with_reals=not no_real_images)
        page = _report(source, out, show_reals=not no_real_images)
    except PgmetricsError as error:
        raise click.ClickException(str(error)) from error
    click.echo(found.to_table())
    click.echo(summary(found))
    for note in remarks(found):
        click.echo(f"Note: {note}", err=True)
    click.echo(f"Numbers: {out / 'stages.csv'}   Samples: {out / 'samples.png'}   Page: {page}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the warnings of the library on standard error."""
    logger = logging.getLogger("pgmetrics")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _train(source: str, run: Path, config: ProGANConfig, snapshot_images: int | None) -> None:
    from pgmetrics.cli.bars import progress_bar
    from pgmetrics.sources.resolve import open_source
    from reference_models.progan.cli.training_bar import TrainingBar
    from reference_models.progan.training.train import train

    images = open_source(source, resolution=config.resolution)
    with progress_bar(" img") as decoded, TrainingBar(config) as report:
        train(images, run, config, snapshot_images=snapshot_images, decoded=decoded, report=report)


def score(source: str, run: Path, metrics: Sequence[str], **options: Any) -> Results:
    """Score reals against reals, the untrained network, and every checkpoint.

    Raises:
        PgmetricsError: a checkpoint cannot be scored.
    """
    from pgmetrics.cli.bars import progress_bar
    from pgmetrics.growth import score_run

    with progress_bar() as progress, _quiet():  # warnings are printed once, at the end

        def report(what: str, done: int, total: int) -> None:
            progress("scoring", done, total)

        found, skipped = score_run(
            run, source, metrics, untrained=True, error="images", progress=report, **options
        )
    for path, reason in skipped:
        raise PgmetricsError(f"{path} cannot be scored: {reason}")
    return found


def stages(run: Path) -> list[tuple[str, Path]]:
    """Select the untrained network and the end of every stage, each with a label."""
    from reference_models.progan.model.checkpoint import inspect, stage_checkpoints

    ends = [(path, inspect(path).resolution) for path in stage_checkpoints(run)]
    return [(UNTRAINED, run / "untrained.safetensors"), *((f"{side}x{side}", path) for path, side in ends)]


def summary(found: Results) -> str:
    """Return a sentence about how far training came from the untrained network towards the noise floor."""
    protocol = found.rows[0]["protocol"]
    average = {
        row["run"]: row["value"] * 1e3
        for row in found.rows
        if (row["metric"], row["level"], row["protocol"]) == ("swd", None, protocol)
    }
    if UNTRAINED not in average:
        return f"{len(found.provenance['runs'])} items scored."
    last = list(average)[-1]
    text = f"SWD ×10³, average over levels: untrained {average[UNTRAINED]:.1f}, {last} {average[last]:.1f}"
    floor = next((value for label, value in average.items() if label.startswith("reals-")), None)
    if floor is None:
        return text + "; too few real images for the floor."
    gap = (average[UNTRAINED] - average[last]) / (average[UNTRAINED] - floor)
    return text + (
        f", floor {floor:.1f}: "
        f"{gap:.0%} of the way from an untrained network to what real images score among themselves."
    )


def remarks(found: Results) -> list[str]:
    """Return the distinct warnings of the evaluations."""
    notes = [note for run in found.provenance["runs"].values() for note in run["notes"]]
    return list(dict.fromkeys(notes))


def _report(source: str, out: Path, show_reals: bool) -> str:
    """Write page and plots, and print where they are, or why there are none."""
    if importlib.util.find_spec("matplotlib") is None:
        return "none; it needs pip install 'pgmetrics[report]'"
    from pgmetrics.report.page import write_report
    from pgmetrics.report.plots import save_plots
    from pgmetrics.report.run_curves import read_growth

    write_report(out / "run", out / "report.html", real=source if show_reals else None, show_reals=show_reals)
    save_plots(read_growth(out / "run"), out / "plots", "png")
    return str(out / "report.html")


def draw(
    source: str, run: Path, target: Path, seed: int, with_reals: bool = True, columns: int = 16, rows: int = 2
) -> None:
    """Draw real images, then samples of every stage from the same latents, at the same size, as one PNG."""
    from PIL import Image, ImageDraw

    from pgmetrics.runtime.images import nearest_upscale
    from pgmetrics.sources.base import ImageSource, sequence
    from pgmetrics.sources.resolve import open_source
    from reference_models.progan.sampling.export import image_grid

    def first(images: ImageSource) -> np.ndarray:
        count = min(columns * rows, len(images))
        return images.batch([int(i) for i in sequence(images, seed)[:count]])

    panels: list[tuple[str, np.ndarray]] = [
        *([("real", first(open_source(source)))] if with_reals else []),
        *((label, first(open_source(f"progan:{path},at=final"))) for label, path in stages(run)),
    ]
    side = panels[0][1].shape[2]
    scale = max(1, 64 // side)
    margin = 80
    grids = [image_grid(nearest_upscale(pixels, scale), columns) for _, pixels in panels]
    gap = 8
    width = margin + max(grid.shape[1] for grid in grids)
    sheet = Image.new("RGB", (width, sum(grid.shape[0] + gap for grid in grids) - gap), "white")
    pen = ImageDraw.Draw(sheet)
    top = 0
    for (label, _), grid in zip(panels, grids, strict=True):
        sheet.paste(Image.fromarray(grid), (margin, top))
        pen.text((6, top + grid.shape[0] // 2 - 6), label, fill="black")
        top += grid.shape[0] + gap
    sheet.save(target)


if __name__ == "__main__":
    sys.exit(main())
