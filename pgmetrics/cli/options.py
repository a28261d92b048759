"""Options that commands share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgmetrics.metrics.registry import outputs

if TYPE_CHECKING:
    from pgmetrics.metrics.base import Metric

Command = TypeVar("Command", bound=Callable[..., Any])


def in_tables() -> str:
    """Return which numbers tables multiply, for the help of --format."""
    headings = " and ".join(number.heading for number in outputs() if number.unit)
    return f"Tables print {headings}; data are raw."


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


_MOST_BYTES = 1e18


def parse_bytes(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Return the number of bytes in an amount such as 512MB (decimal), 2GiB (binary) or 1.5G."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", value.strip().lower())
    if match is None:
        raise click.BadParameter(f"{value!r} is no amount of memory; write 512MB or 2GiB", ctx, param)
    amount = float(match[1]) * _UNITS[match[2] or ""]
    if not amount <= _MOST_BYTES:
        raise click.BadParameter(
            f"{value[:40]} is more than any memory; at most 1e18 bytes are taken", ctx, param
        )
    return int(amount)


def _joined(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> str | None:
    return ",".join(values) if values else None


def metrics_option(
    help: str, default: str | None = None, required: bool = False
) -> Callable[[Command], Command]:
    """Add --metrics; if it is given several times, the command gets the lists joined into one."""
    usual = None if default is None else [default]
    return click.option(
        "--metrics",
        multiple=True,
        callback=_joined,
        default=usual,
        required=required,
        show_default=usual is not None,
        metavar="NAME,…",
        help=help,
    )


def reading(command: Command) -> Command:
    """Add the options that control how images are read."""
    for option in reversed(
        (
            click.option(
                "--resize",
                metavar="POLICY",
                help="box, lanczos or bicubic; crop-… cuts the center square first. Needs --resolution.",
            ),
            click.option("--resolution", type=click.IntRange(min=1), help="Pixels a side after --resize."),
            click.option(
                "--alpha",
                type=click.Choice(["white", "black", "drop"]),
                help="What is behind transparent pixels; refused otherwise.",
            ),
            click.option(
                "--bits",
                type=click.IntRange(8, 8),
                help="Scale 16-bit images down to 8; refused otherwise.",
            ),
        )
    ):
        command = option(command)
    return command


def running(command: Command) -> Command:
    """Add the options that control how the work is done."""
    for option in reversed(
        (
            click.option(
                "--num-images",
                type=click.IntRange(min=2),
                help="Images of each side.  [default: the published number, or as many as there are]",
            ),
            click.option(
                "--seed",
                type=click.IntRange(min=0),
                default=0,
                show_default=True,
                help="Of every random number.",
            ),
            click.option(
                "--mirror",
                is_flag=True,
                help="Flip real images by a keyed coin, as training with mirroring does.",
            ),
            click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda[:N] or mps."),
            click.option(
                "--workers", type=click.IntRange(min=0), help="Decoding processes.  [default: one per core]"
            ),
            click.option(
                "--max-memory",
                callback=parse_bytes,
                default="3GiB",
                show_default=True,
                help="To take, from 1GiB up; descriptors beyond it go to a temporary file (see TMPDIR).",
            ),
        )
    ):
        command = option(command)
    return command


def _parse_weights(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str] | None:
    """Return the weights files by network; a path without a network is Inception's."""
    files: dict[str, str] = {}
    for value in values:
        match = re.fullmatch(r"(inception|vgg16)=(.+)", value)
        name, path = (match[1], match[2]) if match else ("inception", value)
        if name in files:
            raise click.BadParameter(f"weights for {name} are given twice", ctx, param)
        files[name] = path
    return files or None


def _parse_range(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, float] | None:
    """Parse LOW,HIGH as two numbers."""
    if value is None:
        return None
    try:
        low, high = (float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not LOW,HIGH, such as -1,1 or 0,255", ctx, param) from None
    return low, high


def networking(command: Command) -> Command:
    """Add the options that choose the feature network and the cache of the real side."""
    for option in reversed(
        (
            click.option(
                "--preset",
                type=click.Choice(["torch-fidelity", "pytorch-fid", "clean-fid", "torchmetrics"]),
                help="Reproduce that tool's number (docs/protocols.md).",
            ),
            click.option(
                "--weights",
                multiple=True,
                metavar="[NETWORK=]FILE",
                callback=_parse_weights,
                help="Weights of inception or vgg16; inception if unnamed. See pgmetrics weights.",
            ),
            click.option(
                "--allow-unverified-weights",
                is_flag=True,
                help="Take weights whose SHA-256 is not the published one.",
            ),
            click.option(
                "--form",
                type=click.Choice(["fast", "plain", "compiled"]),
                help="Of Inception's arithmetic; they differ in rounding.  [default: fast]",
            ),
            click.option(
                "--precision",
                type=click.Choice(["float32", "bfloat16"]),
                help="bfloat16 is faster and moves the score; never compare the two.  [default: float32]",
            ),
            click.option(
                "--features",
                metavar="FILE|MODULE:NAME",
                help="Custom feature extractor: TorchScript, torch.export or Python. Requires "
                "--features-resize and --features-range.",
            ),
            click.option(
                "--features-resize",
                metavar="none|NAME:SIZE",
                help="How images are brought to its size, such as pil-bicubic:224.",
            ),
            click.option(
                "--features-range",
                metavar="LOW,HIGH",
                callback=_parse_range,
                help="The values it expects for black and white, such as -1,1.",
            ),
            click.option(
                "--cache",
                metavar="DIR|off",
                help="Where real sides are kept between runs.  [default: features, in the user's cache]",
            ),
        )
    ):
        command = option(command)
    return command


def writing_to(suffixes: str, *formats: str) -> Callable[[Command], Command]:
    """Add the options for the file of the results, with these suffixes, and for the printed format."""

    def decorated(command: Command) -> Command:
        command = click.option("--out", metavar="FILE", help=f"Also write a file: {suffixes}.")(command)
        return click.option(
            "--format",
            "format_",
            type=click.Choice(formats),
            default="table",
            show_default=True,
            help=f"Of standard output. {in_tables()}",
        )(command)

    return decorated


writing = writing_to(".csv, .json, .md, .txt, .tex or .parquet", "table", "csv", "json", "markdown", "latex")


def say(text: str) -> None:
    """Write a result completely to standard output, or raise an error.

    Raises:
        OutputError: standard output cannot be written, for example because the disk is full.
        ReaderGone: the reader of standard output has ended.
    """
    click.echo(text, nl=not text.endswith("\n"))


def names(text: str) -> list[str | Metric]:
    """Split a comma-separated list of metric names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def custom_network_for(
    metrics: Sequence[str | Metric], options: dict[str, Any]
) -> tuple[Sequence[str | Metric], dict[str, Any]]:
    """Return the metrics, on the network of --features if it is given, and the remaining options."""
    rest = dict(options)
    spec, resize, value_range = (rest.pop(f"features{part}") for part in ("", "_resize", "_range"))
    if spec is None:
        if resize is not None or value_range is not None:
            raise click.UsageError("--features-resize and --features-range go with --features")
        return metrics, rest
    if rest["preset"]:
        raise click.UsageError(f"--preset {rest['preset']} has a network of its own; leave out --features")

    # Imported here because they load torch, which is not needed without --features.
    from pgmetrics.features import custom_network
    from pgmetrics.metrics.registry import find_metrics

    found = find_metrics(metrics)
    if all(one.tap is None for one in found):
        raise click.UsageError("--features is given, and no metric reads features")
    networks = {"custom": custom_network(spec, resize=resize, value_range=value_range)}
    return [one.with_network("custom") for one in found], {**rest, "networks": networks}
