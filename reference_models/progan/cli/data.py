"""The command `progan data`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pgmetrics.cli.bars import progress_bar
from pgmetrics.errors import printable


@click.command()
@click.argument("source", metavar="SRC")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory of the levels.")
@click.option("--resolution", type=click.IntRange(min=4), help="Side of the images.  [default: as they are]")
@click.option(
    "--resize", metavar="POLICY", help="Resize images of other sizes: crop-box, crop-lanczos, box, …"
)
@click.option("--crop", is_flag=True, help="Crop images that are not square to their center.")
@click.option(
    "--mirror/--no-mirror",
    default=None,
    help="Whether training flips half of them.  [default: the preset decides]",
)
@click.option(
    "--gray", "--grey", "grey", is_flag=True, help="Store one channel; images in color are refused."
)
@click.option(
    "--alpha",
    type=click.Choice(["white", "black", "drop"]),
    help="How to resolve transparency; refused otherwise.",
)
@click.option("--bits", type=click.Choice(["8"]), help="Scale 16-bit images to this many bits.")
@click.option("--workers", type=click.IntRange(min=0), help="Decoding processes.  [default: one per core]")
def data(
    source: str,
    out: Path,
    resolution: int | None,
    resize: str | None,
    crop: bool,
    mirror: bool | None,
    grey: bool,
    alpha: str | None,
    bits: str | None,
    workers: int | None,
) -> None:
    """Decode the images of SRC once, at every level of growth, and print the directory.

    After an interruption the same command resumes. On a complete directory it compares every file with its
    checksum. Classes from folders or from dataset.json are stored, too.
    """
    from pgmetrics.sources.base import warn_of_left_out, warn_of_no_classes
    from pgmetrics.sources.resolve import open_source
    from reference_models.progan.data import level_files, prepare

    if resize is not None and crop:
        raise click.UsageError("--resize crop-box and the like crop already; give either --resize or --crop")
    images = open_source(
        source, resolution=resolution, resize=resize, alpha=alpha, bits=None if bits is None else int(bits)
    )
    warn_of_left_out([images])
    warn_of_no_classes(images)
    complete = os.path.isfile(out / level_files.MANIFEST)
    with progress_bar(" img") as report:
        prepare.prepare(
            images,
            out,
            channels=1 if grey else 3,
            crop=crop,
            mirror=mirror,
            workers=workers,
            report=report,
        )
    for note, count in sorted(images.take_notes().items()):
        click.echo(f"note: {note}: {count:,}", err=True)
    if complete:
        with progress_bar("B", scale=True) as report:
            prepare.verify(out, report)
        click.echo(f"{printable(str(out))} is complete, and every checksum holds", err=True)
    click.echo(printable(str(out)))
