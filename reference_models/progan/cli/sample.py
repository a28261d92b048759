"""The command `progan sample`."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Literal

import click

from pgmetrics.errors import printable

_NOT_DIRECTORIES = (".gif", ".jpeg", ".jpg", ".npy", ".tar", ".webp")

_LARGEST_GRID = 2**16  # images; a grid is in memory at once


@click.command()
@click.argument(
    "checkpoints", nargs=-1, required=True, metavar="CHECKPOINT...", type=click.Path(path_type=Path)
)
@click.option(
    "--num",
    "num_images",
    type=click.IntRange(min=1),
    help="Number of images.  [default: 64, or 8 per row of several]",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the latents and labels."
)
@click.option(
    "--label",
    "labels",
    metavar="NAME",
    multiple=True,
    help="Make images of this class.  [default: classes as frequent as in training]",
)
@click.option(
    "--truncation",
    type=click.FloatRange(0.001, 100),
    metavar="PSI",
    help="Redraw latent values beyond ±PSI from a truncated normal distribution.  [default: none]",
)
@click.option(
    "--at",
    type=click.Choice(["stage", "final"]),
    default="stage",
    show_default=True,
    help="Use the checkpoint's own resolution, or repeat its pixels up to the final one.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Directory, IMAGES.zip, IMAGES.npz, or GRID.png.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda[:N] or mps.")
def sample(
    checkpoints: tuple[Path, ...],
    num_images: int | None,
    seed: int,
    labels: tuple[str, ...],
    truncation: float | None,
    at: Literal["stage", "final"],
    out: Path,
    device: str,
) -> None:
    """Write images of CHECKPOINT as files in a directory or a zip, as an npz, or as one grid.

    The suffix of --out chooses the format. Several checkpoints, or --label more than once, make a grid with a
    row for each, of the same latents; stderr lists the rows.
    """
    from pgmetrics.runtime.devices import pick_device
    from pgmetrics.runtime.files import check_writable
    from reference_models.progan.sampling import export
    from reference_models.progan.sampling import source as samples

    suffix = out.suffix.lower()
    if suffix in _NOT_DIRECTORIES:
        raise click.UsageError(f"--out must end in .png, .zip or .npz, or be a directory; got {suffix}")
    rows = list(product(checkpoints, labels or (None,)))
    if len(rows) > 1 and suffix != ".png":
        raise click.UsageError("several checkpoints or labels make one grid; let --out end in .png")
    if suffix in (".png", ".zip", ".npz"):
        check_writable(out, checkpoints)
    if suffix == ".png" and (num_images or 0) > _LARGEST_GRID:
        raise click.UsageError(
            f"a grid has at most {_LARGEST_GRID:,} images; write more to a directory, .zip or .npz"
        )
    num_images = num_images or (8 if len(rows) > 1 else 64)
    sources = [
        samples.ProGANSource(path, seed, num_images, at, label=label, truncation=truncation)
        for path, label in rows
    ]
    for source in sources:
        source.to(str(pick_device(device)))
    if len(sources) > 1:
        export.save_rows(out, sources, num_images)
        for number, source in enumerate(sources, 1):
            height, width = source.resolution
            click.echo(f"row {number}: {printable(source.name)}, {height} x {width}", err=True)
    elif suffix == ".png":
        export.save_grid(out, sources[0].batch(range(num_images)))
    else:
        write = {".zip": export.save_zip, ".npz": export.save_npz}.get(suffix, export.save_folder)
        write(out, sources[0], num_images)
    click.echo(printable(str(out)))
