"""Commands that compute metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from pgmetrics.cli.bars import progress_bar
from pgmetrics.cli.delivery import deliver
from pgmetrics.cli.options import (
    Command,
    custom_network_for,
    metrics_option,
    names,
    networking,
    reading,
    running,
    writing,
)
from pgmetrics.metrics.registry import DEFAULT, ERRORS, METRICS

if TYPE_CHECKING:
    from pgmetrics.metrics.base import Metric

_REAL = "Real images: a directory, zip, npz, …, or statistics of them (see pgmetrics --help)."
_FAKE = "Generated images: the same, or a ProGAN checkpoint."


def _two_sides(command: Command) -> Command:
    for option in reversed(
        (
            click.option("--real", required=True, metavar="SOURCE", help=_REAL),
            click.option("--fake", required=True, metavar="SOURCE", help=_FAKE),
        )
    ):
        command = option(command)
    return command


def _each_side(command: Command) -> Command:
    for option in reversed(
        (
            click.option("--fake", metavar="SOURCE", help=_FAKE),
            click.option(
                "--real", metavar="SOURCE", help="Real images, scored among themselves, to compare with."
            ),
        )
    ):
        command = option(command)
    return command


def _command(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Return a decorator for the command of one metric, whose help describes the metric's numbers."""
    paragraphs = [METRICS[name].summary]
    for number in METRICS[name].outputs:
        better = number.better.in_words
        needs = f" It needs {number.needs}." if number.needs else ""
        direction = f" {better[0].upper()}{better[1:]}." if better else ""
        paragraphs.append(f"{number.title} {number.description}{direction}{needs}")
    return click.command(name, help="\n\n".join(paragraphs))


def _error(*metrics: str) -> Callable[[Command], Command]:
    """Add --error, whose help gives the defaults of the metrics that offer a choice."""
    numbers = [number for name in metrics for number in METRICS[name].outputs if number.has_choice_of_images]
    numbers = numbers or [METRICS[metrics[0]].outputs[0]]
    by_kind: dict[str, list[str]] = {}
    for number in numbers:
        by_kind.setdefault(number.errors[0], []).append(number.name)
    usual = "; ".join(f"{kind} for {', '.join(found)}" for kind, found in by_kind.items())
    if len(numbers) == 1:
        usual = numbers[0].errors[0]
    has_directions = any("directions" in number.errors for number in numbers)
    choices = list(ERRORS) if has_directions else ["images"]
    kinds = "both: images and directions.  " if has_directions else ""
    return click.option(
        "--error",
        type=click.Choice(choices),
        help=f"What ± is over. images: how the value varies with other images. {kinds}[default: {usual}]",
    )


def _everything_else(command: Command) -> Command:
    for options in (writing, reading, networking, running):
        command = options(command)
    return command


@_command("swd")
@_two_sides
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
@_error("swd")
@running
@reading
@writing
def swd(patches: int, directions: int, repeats: int, error: str | None, **options: Any) -> None:
    """Score with swd alone."""
    parameters = {"patches_per_image": patches, "directions": directions, "repeats": repeats}
    _score([METRICS["swd"].load()(**parameters)], error=error, **options)


@_command("ms-ssim")
@_each_side
@_error("ms-ssim")
@running
@reading
@writing
def ms_ssim(**options: Any) -> None:
    """Score with ms-ssim alone."""
    _need_a_side(options)
    _score(["ms-ssim"], **options)


@_command("fid")
@_two_sides
@_error("fid")
@_everything_else
def fid(**options: Any) -> None:
    """Score with fid alone."""
    _score(["fid"], **options)


@_command("fd")
@_two_sides
@_error("fd")
@_everything_else
def fd(**options: Any) -> None:
    """Score with fd alone."""
    _score(["fd"], **options)


@_command("is")
@_each_side
@click.option(
    "--splits", type=click.IntRange(min=1), help="Parts that the images are cut into.  [default: 10]"
)
@_error("is")
@_everything_else
def inception_score(splits: int | None, error: str | None, **options: Any) -> None:
    """Score with is alone."""
    _need_a_side(options)
    _score([_adjusted("is", options, splits=splits, error=error)], **options)


@_command("kid")
@_two_sides
@click.option(
    "--subsets", type=click.IntRange(min=1), help="Average over so many subsets instead of using all images."
)
@click.option(
    "--subset-size", type=click.IntRange(min=2), help="Images of each side in one.  [default: 1000]"
)
@_error("kid")
@_everything_else
def kid(subsets: int | None, subset_size: int | None, **options: Any) -> None:
    """Score with kid alone."""
    if subset_size is not None and subsets is None and options["preset"] is None:
        raise click.UsageError("--subset-size needs --subsets")
    if subsets is not None and options["error"] is not None:
        raise click.UsageError("with --subsets, what ± is over are the subsets; leave out --error")
    _score([_adjusted("kid", options, subsets=subsets, subset_size=subset_size)], **options)


@_command("prdc")
@_two_sides
@click.option("--k", type=click.IntRange(min=1), help="Nearest neighbors that span a ball.  [default: 5]")
@_error("prdc")
@_everything_else
def prdc(k: int | None, error: str | None, **options: Any) -> None:
    """Score with prdc alone."""
    _score([_adjusted("prdc", options, k=k, error=error)], **options)


@_command("memorisation")
@click.option("--real", required=True, metavar="SOURCE", help="The images that the model was trained on.")
@click.option("--fake", required=True, metavar="SOURCE", help=_FAKE)
@click.option("--held-out", metavar="SOURCE", help="Real images that training never saw: adds C_T.")
@_error("memorisation")
@_everything_else
def memorisation(**options: Any) -> None:
    """Score with memorisation alone."""
    _score(["memorisation"], **options)


@click.command()
@click.option("--real", metavar="SOURCE", help=_REAL)
@click.option("--fake", metavar="SOURCE", help=_FAKE)
@click.option("--held-out", metavar="SOURCE", help="Real images that training never saw, for memorisation.")
@metrics_option(f"{', '.join(METRICS)}.", default=",".join(DEFAULT))
@click.option(
    "--floor",
    is_flag=True,
    help="Add what a perfect model would score: real against real at the same count; needs twice the reals.",
)
@_error(*METRICS)
@_everything_else
def evaluate(metrics: str, **options: Any) -> None:
    """Score --fake against --real with several metrics, reading or generating each image once."""
    _score(names(metrics), **options)


def _need_a_side(options: dict[str, Any]) -> None:
    if not options["fake"] and not options["real"]:
        raise click.UsageError("give --fake, --real or both")


def _adjusted(name: str, options: dict[str, Any], **parameters: Any) -> str | Metric:
    """Return the metric with the parameters that were given."""
    given = {key: value for key, value in parameters.items() if value is not None}
    if not given:
        return name
    if options["preset"]:
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in given)
        raise click.UsageError(f"--preset {options['preset']} fixes {flags}")
    return METRICS[name].load()(**given)


def _score(metrics: Sequence[str | Metric], format_: str, out: str | None, **options: Any) -> None:
    if options.get("error") is not None and options.get("preset"):
        raise click.UsageError(f"--preset {options['preset']} fixes --error")
    from pgmetrics.evaluation.api import evaluate
    from pgmetrics.results import check_destination

    if out is not None:
        check_destination(out, [options.get(side) for side in ("real", "fake", "held_out")])
    if "cache" in options:
        from pgmetrics.prepared.cache import Cache

        place = options["cache"]
        options["cache"] = None if place == "off" else Cache.default() if place is None else Cache(place)
        metrics, options = custom_network_for(metrics, options)
    with progress_bar() as progress:
        found = evaluate(metrics=metrics, progress=progress, **options)
    deliver(found.to_text(format_), found.save, out)
