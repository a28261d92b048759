"""The `pgmetrics` command. A command parses, calls one library function and prints its result."""

from __future__ import annotations

import difflib
import importlib

import click

from pgmetrics._version import __version__
from pgmetrics.cli.commands import Commands, log_to_stderr
from pgmetrics.metrics.registry import METRICS, canonical, named

# A command's module is imported only when it is called, so that --help does not wait for torch.
_COMMANDS = {
    **{
        name: ("pgmetrics.cli.score", function, METRICS[name].summary)
        for name, function in (
            ("swd", "swd"),
            ("ms-ssim", "ms_ssim"),
            ("fid", "fid"),
            ("is", "inception_score"),
            ("kid", "kid"),
            ("prdc", "prdc"),
            ("fd", "fd"),
            ("memorisation", "memorisation"),
        )
    },
    "evaluate": ("pgmetrics.cli.score", "evaluate", "Several metrics in one pass over the images."),
    "growth": ("pgmetrics.cli.growth", "growth", "Score every checkpoint of a training run."),
    "compare": ("pgmetrics.cli.compare", "compare", "Is B better than A, or is it noise?"),
    "report": ("pgmetrics.cli.report", "report", "One HTML page about a scored run."),
    "plot": ("pgmetrics.cli.report", "plot", "The page's plots as PNG or SVG."),
    "metrics": ("pgmetrics.cli.metrics", "metrics", "What every number measures, needs and misses."),
    "stats": ("pgmetrics.cli.stats", "stats", "Prepare the real side once, for many evaluations."),
    "weights": (
        "pgmetrics.cli.weights",
        "weights",
        "The networks' weights: which are here, and a bundle of them.",
    ),
    "check": ("pgmetrics.cli.check", "check", "What is wrong with a source, before an hour is spent on it."),
}


class _Commands(Commands):
    """Lists commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            cmd_name = canonical(cmd_name)
        if cmd_name not in _COMMANDS:
            if named(cmd_name):
                raise click.UsageError(
                    f"{cmd_name} has no command of its own; give pgmetrics evaluate --metrics {cmd_name}", ctx
                )
            if nearest := " or ".join(difflib.get_close_matches(cmd_name, _COMMANDS, n=2)):
                raise click.UsageError(f"No such command {cmd_name!r}; did you mean {nearest}?", ctx)
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in _COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pgmetrics")
def main() -> None:
    """How good is this generative model, and is it getting better?

    A SOURCE is a directory, zip, npz or npy of images, a ProGAN checkpoint, synthetic:leaves, or
    module:name of Python code; SOURCE@START:STOP is a slice of it. --real takes statistics, too: a
    .pgstats directory, or an npz of mu and sigma. Results go to standard output, everything else to
    standard error.

    Exit codes: 0 done, 1 refused with the reason, 2 wrong usage, 3 compare --fail-if-worse found worse,
    4 finished, but some items were skipped and named, 5 compare --fail-if-worse could not decide,
    130 interrupted (Ctrl-C), 141 whoever read standard output has gone (a closed pipe).
    """
    log_to_stderr()
