"""Train a ProGAN, score every stage of its growth, and show what it learned.

    python -m benchmarks.stages --out runs/demo

Stages are scored as the original evaluation does: enlarged to the final resolution by nearest
neighbour and compared with the real images there. Writes into --out: `run/` with the checkpoints,
`stages.csv` and `stages.json` with the numbers, `stages.md` with the table, `samples.png`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgmetrics.errors import PgmetricsError

if TYPE_CHECKING:
    from pgmetrics.results import Results
    from reference_models.progan.config import ProGANConfig

FLOOR, UNTRAINED = "reals", "untrained"


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="New directory.")
@click.option("--data", metavar="SOURCE", help="Training images.  [default: the procedural set]")
@click.option("--preset", default="tiny-32", show_default=True, help="See `progan presets`.")
@click.option(
    "--total-images", type=click.IntRange(min=1), help="Train on this many.  [default: the preset's]"
)
@click.option(
    "--num-images", type=click.IntRange(min=4), default=2048, show_default=True, help="To score with."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def main(
    out: Path, data: str | None, preset: str, total_images: int | None, num_images: int, seed: int
) -> None:
    """Train, score every stage, write table and samples to --out."""
    from reference_models.progan import config as configs

    try:
        if out.exists() and any(out.iterdir()):
            raise PgmetricsError(f"{out} is not empty; remove it or name another --out")
        config = replace(configs.preset(preset), seed=seed)
        if total_images is not None:
            config = replace(config, total_images=total_images)
        source = data or f"synthetic:leaves,resolution={config.resolution},n={max(8192, 2 * num_images)}"
        _train(source, out / "run", config)
        with _quiet():  # the remarks are the same for every stage; they are told once, below
            found = score(source, out / "run", num_images, seed)
        for name in ("stages.csv", "stages.json", "stages.md"):
            found.save(out / name)
        draw(source, out / "run", out / "samples.png", seed)
    except PgmetricsError as error:
        raise click.ClickException(str(error)) from error
    click.echo(found.to_table())
    click.echo(summary(found))
    for note in remarks(found):
        click.echo(f"Note: {note}", err=True)
    click.echo(f"Numbers: {out / 'stages.csv'}   Samples: {out / 'samples.png'}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's warnings on standard error."""
    logger = logging.getLogger("pgmetrics")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _train(source: str, run: Path, config: ProGANConfig) -> None:
    from pgmetrics.sources.resolve import open_source
    from reference_models.progan.progress import TrainingBar, decoding_bar
    from reference_models.progan.train import train

    images = open_source(source, resolution=config.resolution)
    with decoding_bar() as decoded, TrainingBar(config) as report:
        train(images, run, config, decoded=decoded, report=report)


def checkpoints(run: Path) -> list[tuple[str, Path]]:
    """The untrained network and the end of every stage, with a label each."""
    from reference_models.progan.checkpoint import inspect, stage_checkpoints

    stages = [(path, inspect(path).resolution) for path in stage_checkpoints(run)]
    return [(UNTRAINED, run / "untrained.safetensors"), *((f"{side}x{side}", path) for path, side in stages)]


def score(source: str, run: Path, num_images: int, seed: int) -> Results:
    """SWD and MS-SSIM of every stage at the final resolution, the floor first.

    Every checkpoint gets the same latents and patches, so their differences are paired.
    """
    from pgmetrics import evaluate
    from pgmetrics.cli.options import progress_bar
    from pgmetrics.results import Results

    parts = []
    for label, path in checkpoints(run):
        with progress_bar() as progress:
            found = evaluate(
                source,
                f"progan:{path},at=final",
                ["swd", "ms-ssim"],
                num_images=num_images,
                floor=not parts,
                seed=seed,
                protocol="at-final",
                run=label,
                progress=lambda what, done, total, label=label: progress(f"{label}: {what}", done, total),
            )
        if not parts:
            # The reals' own rows are the same beside every checkpoint; they stand once, on top.
            reals = tuple({**row, "run": FLOOR} for row in found.rows if row["subject"] == "real")
            parts.append(Results(reals, found.provenance))
        parts.append(Results(tuple(row for row in found.rows if row["subject"] == "fake"), found.provenance))
    return Results.concat(parts)


def summary(found: Results) -> str:
    """One sentence: how far training came between an untrained network and the floor."""
    average = {
        row["run"]: row["value"] * 1e3
        for row in found.rows
        if row["metric"] == "swd" and row["level"] is None
    }
    last = list(average)[-1]
    text = f"SWD ×10³, average over levels: untrained {average[UNTRAINED]:.1f}, {last} {average[last]:.1f}"
    if FLOOR not in average:
        return text + "; too few real images for the floor."
    gap = (average[UNTRAINED] - average[last]) / (average[UNTRAINED] - average[FLOOR])
    return text + (
        f", floor {average[FLOOR]:.1f}: "
        f"{gap:.0%} of the way from an untrained network to what real images score among themselves."
    )


def remarks(found: Results) -> list[str]:
    """What the evaluations noted, each once."""
    notes = [note for run in found.provenance["runs"].values() for note in run["notes"]]
    return list(dict.fromkeys(notes))


def draw(source: str, run: Path, target: Path, seed: int, columns: int = 16, rows: int = 2) -> None:
    """One PNG: real images, then samples of every stage from the same latents, enlarged alike."""
    import numpy as np
    from PIL import Image, ImageDraw

    from pgmetrics.images import nearest_upscale
    from pgmetrics.sources.base import ImageSource, sequence
    from pgmetrics.sources.resolve import open_source
    from reference_models.progan.sample import image_grid

    def first(images: ImageSource) -> np.ndarray:
        count = min(columns * rows, len(images))
        return images.batch([int(i) for i in sequence(images, seed)[:count]])

    panels: Sequence[tuple[str, np.ndarray]] = [
        ("real", first(open_source(source))),
        *((label, first(open_source(f"progan:{path},at=final"))) for label, path in checkpoints(run)),
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
