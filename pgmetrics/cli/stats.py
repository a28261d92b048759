"""The command that prepares a real side once for many evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pgmetrics.cli.bars import progress_bar
from pgmetrics.cli.delivery import keep
from pgmetrics.cli.options import (
    custom_network_for,
    metrics_option,
    names,
    networking,
    reading,
    running,
    say,
)
from pgmetrics.errors import printable


@click.command()
@click.argument("source")
@metrics_option("Which metrics' real side, separated by commas.", required=True)
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    help="NAME.pgstats for every metric, or NAME.npz: mu and sigma as pytorch-fid and others read them.",
)
@running
@networking
@reading
def stats(source: str, metrics: str, out: str, **options: Any) -> None:
    """Prepare the real side of metrics, to be given as --real.

    An evaluation refuses statistics that were made in another way than it would make them itself:
    other weights, resizer, resolution, seed or number of images. A .npz holds the mean and
    covariance of fid or fd alone.
    """
    suffix = Path(out).suffix.lower()
    if suffix not in (".pgstats", ".npz"):
        raise click.UsageError(f"--out {out}: statistics are written as .pgstats or .npz")
    if options.pop("cache") is not None:
        raise click.UsageError("--cache has no use here: the statistics are written to --out")
    from pgmetrics.evaluation.api import collect
    from pgmetrics.metrics.registry import find_metrics
    from pgmetrics.prepared.statistics import check_statistics_destination, save_statistics

    asked, options = custom_network_for(names(metrics), options)
    check_statistics_destination(out, find_metrics(asked))
    with progress_bar() as progress:
        # Metrics are passed by name, so that a preset can set their parameters.
        states, about = collect(source, asked, progress=progress, **options)
    keep(lambda path: save_statistics(states, path, about), out)
    counts = ", ".join(f"{name} ({len(state.seen):,} images)" for name, state in states.items())
    say(f"{printable(out)}: {counts}")
