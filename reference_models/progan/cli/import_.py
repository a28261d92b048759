"""The command `progan import`."""

from __future__ import annotations

from pathlib import Path

import click

from pgmetrics.errors import printable


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="CHECKPOINT.safetensors to write."
)
@click.option(
    "--which",
    type=click.Choice(["Gs", "G"]),
    default="Gs",
    show_default=True,
    help="The averaged generator, or the one in training.",
)
@click.option(
    "--license",
    "--licence",
    "licence",
    default="unknown",
    show_default=True,
    help="License of the weights, stored in the checkpoint.",
)
@click.option(
    "--images-shown",
    type=click.IntRange(min=0),
    help="Real images shown in its training.  [default: as its name says, else unknown]",
)
@click.option(
    "--resolution",
    type=click.IntRange(min=4),
    metavar="PIXELS",
    help="Stage at which images are made.  [default: as the file says, else the last that was trained]",
)
def import_command(
    file: Path, out: Path, which: str, licence: str, images_shown: int | None, resolution: int | None
) -> None:
    """Make a checkpoint of FILE, a network of another ProGAN.

    FILE is a pickle of the original implementation, or a PyTorch file of ptrblck, InterFaceGAN, genforce,
    SeFa, gandissect, GAN-zoo, mmgeneration, pro-gan-pth or aladdinpersson, recognized by its content.
    Nothing in it is run.
    """
    from pgmetrics.runtime.files import check_writable
    from reference_models.progan.importers import import_network

    check_writable(out, [file])
    facts, layout = import_network(
        file,
        out,
        which="G" if which == "G" else "Gs",
        licence=licence,
        images_shown=images_shown,
        resolution=resolution,
    )
    r = facts.resolution
    click.echo(f"{layout} layout, {which}: {r} x {r}, alpha {facts.alpha:.2f}", err=True)
    click.echo(printable(str(out)))
