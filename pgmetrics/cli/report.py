"""The commands that make the page about a scored run, and its plots."""

from __future__ import annotations

import click

from pgmetrics.cli.bars import progress_bar
from pgmetrics.cli.delivery import keep
from pgmetrics.cli.options import say
from pgmetrics.errors import printable


@click.command()
@click.argument("run", metavar="RUN", type=click.Path())
@click.option("--out", required=True, metavar="FILE", help="The page: one .html file that needs no other.")
@click.option(
    "--real",
    metavar="SOURCE",
    help="The real images, shown beside the samples and searched for their neighbors.  [default: none]",
)
@click.option(
    "--loader",
    metavar="MODULE:NAME",
    help="The --loader that the run was scored with, if it was; the one that RUN names is never run.",
)
@click.option(
    "--no-real-images", is_flag=True, help="Show none: no reals beside the samples, no nearest neighbors."
)
@click.option(
    "--samples",
    type=click.IntRange(min=1, max=256),
    default=32,
    show_default=True,
    help="Images in a grid.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of the samples.  [default: that of the scores]")
@click.option("--series", metavar="ID", help="Which series of the store.  [default: the one written last]")
def report(
    run: str,
    out: str,
    real: str | None,
    loader: str | None,
    no_real_images: bool,
    samples: int,
    seed: int | None,
    series: str | None,
) -> None:
    """Make one HTML page about RUN, a directory that `pgmetrics growth` has scored.

    Headline per stage, every metric against the images shown, samples beside real images, nearest
    real neighbors, all numbers, and how they were made.
    """
    if no_real_images and real is not None:
        raise click.UsageError("--real gives real images and --no-real-images shows none; leave out one")
    from pgmetrics.report.page import write_report
    from pgmetrics.runtime.files import write_whole

    with progress_bar() as progress:
        missing = write_report(
            run,
            out,
            real=real,
            loader=loader,
            show_reals=not no_real_images,
            samples=samples,
            seed=seed,
            series=series,
            progress=progress,
            save=lambda path, page: keep(lambda place: write_whole(place, page), path),
        )
    for note in missing:
        click.echo(f"Note: {printable(note)}", err=True)
    say(printable(out))


@click.command()
@click.argument("run", metavar="RUN", type=click.Path())
@click.option("--out", required=True, metavar="DIR", help="Where the files go; made if need be.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["png", "svg", "pdf"]),
    default="png",
    show_default=True,
    help="PNG has 220 dots an inch.",
)
@click.option("--series", metavar="ID", help="Which series of the store.  [default: the one written last]")
def plot(run: str, out: str, format_: str, series: str | None) -> None:
    """Draw every metric of RUN, a directory that `pgmetrics growth` has scored, for papers and slides.

    Prints the files that were written.
    """
    from pgmetrics.report.plots import save_plots
    from pgmetrics.report.run_curves import read_growth

    for path in save_plots(read_growth(run, series), out, format_):
        say(printable(str(path)))
