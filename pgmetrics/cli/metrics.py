"""The command that lists the metrics: what each number measures, needs and misses."""

from __future__ import annotations

import click

from pgmetrics.cli.options import names, say
from pgmetrics.runtime.files import dump_json


@click.command()
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
)
@click.option(
    "--columns",
    metavar="NAME,…",
    help="Of text and markdown: name, title, meaning, better, use, misses, depends_on, needs, errors, "
    "source.  [default: name,meaning,better,needs,errors,source]",
)
def metrics(format_: str, columns: str | None) -> None:
    """List every number: what it measures, which way is better, what it needs, and what its ± is over."""
    if columns is not None and format_ == "json":
        raise click.UsageError("--columns goes with text and markdown; json holds all")
    from pgmetrics.metrics import listing

    if format_ == "json":
        say(dump_json(listing.facts(), indent=1, ensure_ascii=False))
        return
    chosen = listing.USUAL if columns is None else [str(name) for name in names(columns)]
    say(listing.to_text(chosen) if format_ == "text" else listing.to_markdown(chosen))
