"""Commands that compute metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pgmetrics.cli.options import progress_bar, reading, running, say, writing

if TYPE_CHECKING:
    from pgmetrics.metrics.base import Metric

_REAL = "Real images: a directory, zip, npz, … (see pgmetrics --help)."
_FAKE = "Generated images: the same, or a ProGAN checkpoint."


@click.command()
@click.option("--real", required=True, metavar="SOURCE", help=_REAL)
@click.option("--fake", required=True, metavar="SOURCE", help=_FAKE)
@click.option(
    "--floor", is_flag=True, help="Add the row real against real at the same count; needs twice the reals."
)
@click.option(
    "--patches",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="7x7 patches per image and level.",
)
@click.option(
    "--directions",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Random directions per repeat.",
)
@click.option(
    "--repeats", type=click.IntRange(min=1), default=4, show_default=True, help="Fresh sets of directions."
)
@running
@reading
@writing
def swd(patches: int, directions: int, repeats: int, **options: Any) -> None:
    """Sliced Wasserstein distance between --real and --fake, per pyramid level and on average.

    Lower is better; compare with the floor, never with values of another number of images. Images
    below 16 pixels are refused.
    """
    from pgmetrics.metrics.swd import SlicedWasserstein

    _score([SlicedWasserstein(patches_per_image=patches, directions=directions, repeats=repeats)], **options)


@click.command("ms-ssim")
@click.option("--fake", metavar="SOURCE", help=_FAKE)
@click.option(
    "--real", metavar="SOURCE", help="Real images, scored among themselves: the diversity to compare with."
)
@running
@reading
@writing
def ms_ssim(**options: Any) -> None:
    """Mean MS-SSIM of pairs of images of one set; high means little diversity.

    Nothing is compared between --fake and --real: each is scored by itself.
    """
    if not options["fake"] and not options["real"]:
        raise click.UsageError("give --fake, --real or both")
    _score(["ms-ssim"], **options)


@click.command()
@click.option("--real", metavar="SOURCE", help=_REAL)
@click.option("--fake", metavar="SOURCE", help=_FAKE)
@click.option(
    "--metrics",
    default="swd,ms-ssim",
    show_default=True,
    metavar="NAME,…",
    help="Which metrics, separated by commas.",
)
@click.option(
    "--floor", is_flag=True, help="Add SWD of real against real at the same count; needs twice the reals."
)
@running
@reading
@writing
def evaluate(metrics: str, **options: Any) -> None:
    """Score --fake against --real with several metrics, reading or generating each image once."""
    _score([name.strip() for name in metrics.split(",") if name.strip()], **options)


def _score(metrics: Sequence[str | Metric], format_: str, out: str | None, **options: Any) -> None:
    from pgmetrics.evaluation import evaluate
    from pgmetrics.results import check_destination

    if out is not None:
        check_destination(out)
    with progress_bar() as progress:
        found = evaluate(metrics=metrics, progress=progress, **options)
    if out is not None:
        found.save(out)
    say(found.to_text(format_))
