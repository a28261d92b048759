"""The command that scores a training run."""

from __future__ import annotations

import sys
from typing import Any

import click

from pgmetrics.cli.bars import items_bar
from pgmetrics.cli.commands import INTERRUPTED
from pgmetrics.cli.delivery import deliver
from pgmetrics.cli.options import metrics_option, networking, reading, running, writing
from pgmetrics.metrics.registry import DEFAULT, ERRORS, METRICS

_WITH_CHOICE = [
    name for name, metric in METRICS.items() if any(number.has_choice_of_images for number in metric.outputs)
]

SKIPPED = 4
"""Exit code: finished, but some checkpoints could not be read."""


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--real", required=True, metavar="SOURCE", help="Real images, of the final resolution; no statistics."
)
@metrics_option(f"{', '.join(METRICS)}.", default=",".join(DEFAULT))
@click.option(
    "--protocol",
    "protocols",
    type=click.Choice(["at-final", "at-stage"]),
    multiple=True,
    default=["at-final"],
    show_default=True,
    help="Enlarged to the final resolution, or at the stage's own beside reals shrunk and faded alike.  "
    "Repeatable.",
)
@click.option(
    "--error",
    type=click.Choice(ERRORS),
    help=f"What ± of {', '.join(_WITH_CHOICE)} is over. directions: as usual elsewhere.  [default: images, "
    "since whether a stage differs from another by more than noise is told by images]",
)
@click.option("--untrained", is_flag=True, help="Also score the network before training.")
@click.option("--no-floor", is_flag=True, help="Leave out the reals among themselves.")
@click.option("--watch", is_flag=True, help="Go on as checkpoints come, until training is over or Ctrl-C.")
@click.option(
    "--poll-seconds",
    type=click.FloatRange(min=0.01),
    default=5.0,
    show_default=True,
    help="Between two looks of --watch.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Checkpoints scored at a time. --device cuda:0,cuda:1 shares them over devices.",
)
@click.option(
    "--pattern",
    metavar="GLOB|REGEX",
    help="Others' checkpoints, such as 'ckpt-{images}-{resolution}.pt'; {kimg} and {alpha}, too.",
)
@click.option(
    "--final-resolution",
    type=click.IntRange(min=4),
    metavar="PIXELS",
    help="Of the run, where its checkpoints say another, such as imported ones that know their stage alone.",
)
@click.option("--loader", metavar="MODULE:NAME", help="Called with a checkpoint's path; returns its images.")
@writing
@reading
@networking
@running
def growth(
    run: str, metrics: str, error: str | None, no_floor: bool, format_: str, out: str | None, **options: Any
) -> None:
    """Score every checkpoint of the training run in the directory RUN, and print the table.

    Each scored checkpoint is appended to RUN/scores.jsonl. After an interruption the same command resumes.
    Other settings start a new series in that file. A checkpoint that cannot be read is named and skipped
    (exit code 4).
    """
    from pgmetrics.cli.options import custom_network_for, names
    from pgmetrics.growth import score_run
    from pgmetrics.results import check_destination

    if options["preset"] and error is not None:
        raise click.UsageError(f"--preset {options['preset']} fixes --error")
    if out is not None:
        check_destination(out, [options["real"]])
    error = None if options["preset"] else error or "images"
    chosen, rest = custom_network_for(names(metrics), options)
    try:
        with items_bar("scoring") as progress:
            found, skipped = score_run(
                run, metrics=chosen, floor=not no_floor, error=error, progress=progress, **rest
            )
    except KeyboardInterrupt:
        click.echo("Interrupted. All finished scores are stored; the same command resumes.", err=True)
        sys.exit(INTERRUPTED)
    deliver(found.to_text(format_) if found.rows else "", found.save, out)
    if skipped:
        sys.exit(SKIPPED)


# Here the cache serves every checkpoint of the run and also holds descriptors of pixels.
next(
    option for option in growth.params if option.name == "cache"
).help = "Where real sides are kept for other runs.  [default: in RUN, until all is scored]"
