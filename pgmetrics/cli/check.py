"""The command that audits a source of images."""

from __future__ import annotations

import click

from pgmetrics.cli.bars import progress_bar
from pgmetrics.cli.delivery import deliver
from pgmetrics.cli.options import reading
from pgmetrics.runtime.files import dump_json


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True)
@reading
@click.pass_context
def check(
    ctx: click.Context,
    source: str,
    format_: str,
    resize: str | None,
    resolution: int | None,
    alpha: str | None,
    bits: int | None,
) -> None:
    """Read every image of SOURCE and say what is wrong with it, without computing anything.

    Unreadable files and mixed sizes are problems (exit code 1); duplicates and suspicious mixtures
    are warnings (exit code 0).
    """
    from pgmetrics.sources.audit import audit
    from pgmetrics.sources.decode import Decoding

    decoding = Decoding(resolution=resolution, resize=resize, alpha=alpha, bits=bits)
    with progress_bar() as progress:
        found = audit(source, decoding, progress)
    deliver(dump_json(found.to_dict(), indent=1) if format_ == "json" else str(found))
    ctx.exit(found.exit_code)
