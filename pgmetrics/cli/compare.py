"""The command that distinguishes a difference from noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pgmetrics.cli.bars import progress_bar
from pgmetrics.cli.delivery import deliver
from pgmetrics.cli.options import (
    custom_network_for,
    metrics_option,
    names,
    networking,
    reading,
    running,
    writing_to,
)
from pgmetrics.errors import PgmetricsError
from pgmetrics.metrics.outputs import Aim
from pgmetrics.metrics.registry import DEFAULT, outputs

if TYPE_CHECKING:
    from pgmetrics.comparison.result import Comparison
    from pgmetrics.prepared.cache import Cache

WORSE = 3
"""Exit code of --fail-if-worse if B is worse."""

UNDECIDED = 5
"""Exit code of --fail-if-worse if a metric that the gate asks is undecided."""

_OF_RESULTS = (
    "a", "b", "metrics", "protocol", "significance", "confidence",
    "fail_if_worse", "explain", "format_", "out",
)  # fmt: skip
_OF_VARIETY = [number.title for number in outputs() if number.better.aim is Aim.REALS]
_PROBABILITY = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--real", metavar="SOURCE", help="Real images, where A and B are images, for metrics of two sides."
)
@metrics_option(f"[default: {','.join(DEFAULT)} of images; of results, all that both hold]")
@click.option(
    "--protocol", metavar="NAME", help="Of results, only rows made so: native, at-final, at-stage, …"
)
@click.option(
    "--significance",
    type=_PROBABILITY,
    default=0.01,
    show_default=True,
    help="Probability of a false alarm, over all rows together (Holm).",
)
@click.option(
    "--confidence", type=_PROBABILITY, default=0.95, show_default=True, help="Of each interval by itself."
)
@click.option(
    "--permutations",
    type=click.IntRange(min=1),
    default=9999,
    show_default=True,
    help="Random swaps of the test of images.",
)
@click.option(
    "--fail-if-worse",
    is_flag=True,
    help="Exit with code 3 if B is worse in a metric that is asked, with 5 if one is not decided. "
    f"{', '.join(_OF_VARIETY)} is asked only if --metrics names it.",
)
@click.option("--explain", is_flag=True, help="List every setting in which A and B were scored differently.")
@writing_to(".csv, .json, .md or .txt", "table", "csv", "json", "markdown")
@running
@networking
@reading
def compare(
    a: str,
    b: str,
    metrics: str | None,
    protocol: str | None,
    fail_if_worse: bool,
    explain: bool,
    format_: str,
    out: str | None,
    **options: Any,
) -> None:
    """Is B better than A, worse, or within noise of it? One row per metric and level.

    A and B are generated images (a checkpoint, directory, zip, …), compared image by image with an exact
    test; or results, as files that --out wrote. RUN/scores.jsonl#LABEL is one checkpoint of a run that
    pgmetrics growth scored.

    Results of unlike protocols are refused with the first setting that differs; --explain lists all.

    MS-SSIM says how varied a set is: "less varied" or "more varied" than A, and whether each is as varied as
    the reals, where these are given.
    """
    if explain and format_ == "csv":
        raise click.UsageError("--explain makes a second table: --format table, markdown or json holds both")
    from pgmetrics.comparison import compare as comparison
    from pgmetrics.comparison import result, scores
    from pgmetrics.results.files import check_destination

    if out is not None:
        if (format := check_destination(out, [a, b, options["real"]])) not in result.FORMATS:
            raise PgmetricsError(
                f"{out}: comparisons are written as .csv, .json, .md or .txt, not as {format}"
            )
    asked = None if metrics is None else names(metrics)
    if scores.is_results(a) and scores.is_results(b):
        _refuse_what_goes_with_images()
        judging = {key: options[key] for key in ("significance", "confidence")}
        found = comparison.compare(a, b, metrics=asked, protocol=protocol, explain=explain, **judging)
    else:
        options["cache"] = _cache(options["cache"])
        chosen, options = custom_network_for(asked or DEFAULT, options)
        with progress_bar() as progress:
            # None means that no metrics were named: MS-SSIM is then not part of the gate.
            options |= {"metrics": chosen if asked else None, "protocol": protocol, "explain": explain}
            found = comparison.compare(a, b, progress=progress, **options)
    parts = [found.explanation(format_)] if explain and format_ != "json" else []
    if found.rows or format_ == "json":
        parts.append(found.to_text(format_))
    deliver("\n\n".join(part.rstrip("\n") for part in parts), found.save, out)
    if fail_if_worse:
        _pass_gate(found)


def _cache(place: str | None) -> Cache | None:
    from pgmetrics.prepared.cache import Cache

    return None if place == "off" else Cache.default() if place is None else Cache(place)


def _refuse_what_goes_with_images() -> None:
    """Refuse options that would silently do nothing because A and B are results."""
    context = click.get_current_context()
    for parameter in context.command.params:
        typed = context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
        if typed and parameter.name not in _OF_RESULTS:
            raise click.UsageError(f"{parameter.opts[0]} goes with images, and A and B hold results")


class _Undecided(click.ClickException):
    """The gate could not decide."""

    exit_code = UNDECIDED


def _pass_gate(found: Comparison) -> None:
    """Exit with the gate's code unless B passed; an undecided gate must not look as if B had passed."""
    if not found.comparable:
        raise PgmetricsError(
            f"{found.a} and {found.b} were scored differently, so that --fail-if-worse cannot tell"
        )
    gate = found.gate
    click.echo(gate.line(), err=True)
    reasons = [f"{metric}: {reason}" for metric, reason in gate.undecided.items()]
    if not gate.asked:
        reasons = ["no metric is asked; --metrics names what it asks"]
    undecided = _Undecided(f"the gate cannot decide {'; '.join(reasons)}")
    if found.worse:
        if reasons:
            undecided.show()
        click.get_current_context().exit(WORSE)
    if not gate.decided:
        raise undecided
