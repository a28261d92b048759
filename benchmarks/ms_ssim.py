"""MS-SSIM: us, the plain recipe and the peers, in one run.

    python -m benchmarks.ms_ssim --out ms_ssim.md

The peers (torchmetrics, pytorch-msssim, piq) refuse images below 161 px. They average over channels after the
product instead of before, so they compute another number, and only their time is compared. Peers that are not
installed are left out, and the table says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import plain_recipe
from benchmarks.timing import machine, take_turns
from pgmetrics.functional.ssim import ms_ssim_scores
from pgmetrics.runtime.seeding import Stream, generator

Run = Callable[[], object]
PEER_SIDE = 256


def pairs(n: int, side: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return colored noise with equal contrast at every scale, and a noisy copy of it."""
    rng = generator(seed, Stream.SYNTHETIC, side)
    image = np.full((n, 3, side, side), 128.0)
    factor = 1
    while factor <= side // 4:
        coarse = rng.normal(0, 20, (n, 3, side // factor, side // factor))
        image += coarse.repeat(factor, 2).repeat(factor, 3)
        factor *= 2
    other = image + rng.normal(0, 20, image.shape)
    first, second = (np.clip(np.rint(values), 0, 255).astype(np.uint8) for values in (image, other))
    return first, second


def peers(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[dict[str, Run], list[str]]:
    """Return the installed peers, each with its preferred range of float images, and the missing ones.

    Timings include the conversion from bytes to floats, for the peers as for pgmetrics.
    """
    x, y = torch.from_numpy(first), torch.from_numpy(second)

    def torchmetrics() -> Run:
        function = import_module("torchmetrics.functional.image")
        compute = function.multiscale_structural_similarity_index_measure
        return lambda: compute(x.float(), y.float(), data_range=255.0, reduction="none")

    def pytorch_msssim() -> Run:
        compute = import_module("pytorch_msssim").ms_ssim
        return lambda: compute(x.float(), y.float(), data_range=255, size_average=False)

    def piq() -> Run:
        compute = import_module("piq").multi_scale_ssim
        return lambda: compute(x.float(), y.float(), data_range=255.0, reduction="none")

    found: dict[str, Run] = {}
    absent = []
    makers = {"torchmetrics": torchmetrics, "pytorch-msssim": pytorch_msssim, "piq": piq}
    for name, maker in makers.items():
        try:
            found[name] = maker()
        except ImportError:
            absent.append(name)
    return found, absent


def table(sides: tuple[int, ...], turns: int) -> str:
    """Return a Markdown table of milliseconds per pair by image size, and of the speedup of pgmetrics."""
    lines = [
        "| side | pairs | who | ms per pair, median (fastest to slowest) | we are faster by |",
        "|---|---|---|---|---|",
    ]
    notes = []
    for side in sides:
        n = plain_recipe.minibatch_size(side) // 2
        first, second = pairs(n, side)
        x, y = torch.from_numpy(first), torch.from_numpy(second)
        contestants: dict[str, Run] = {
            "pgmetrics": lambda x=x, y=y: ms_ssim_scores(x, y),
            "plain recipe": lambda a=first, b=second: plain_recipe.ms_ssim_scores(a, b),
        }
        error = np.abs(ms_ssim_scores(x, y).numpy() - plain_recipe.ms_ssim_scores(first, second, np.float64))
        notes.append(f"{error.max():.0e} at {side} px")
        absent: list[str] = []
        if side == PEER_SIDE:
            found, absent = peers(first, second)
            contestants |= found
        timings = take_turns(contestants, turns)
        ours = timings["pgmetrics"]
        for who, timing in timings.items():
            median, low, high = (
                f"{1000 * t / n:.2f}" for t in (timing.median, timing.fastest, timing.slowest)
            )
            ratio = "" if timing is ours else f"{ours.times_faster_than(timing):.1f}"
            lines.append(f"| {side} | {n} | {who} | {median} ({low} to {high}) | {ratio} |")
        lines += [f"| {side} | {n} | {who} | not installed | |" for who in absent]
        sys.stderr.write(f"{side} px done\n")
    return "\n".join(
        [
            *lines,
            "",
            f"Largest difference from the plain recipe in float64: {', '.join(notes)}.",
            f"{turns} turns, all contestants in each; ratios are medians of the ratio within a turn.",
            f"Machine: {machine()}.",
            "",
        ]
    )


@click.command(help=__doc__.splitlines()[0])
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Markdown file; stdout if absent."
)
@click.option("--sides", default="32,64,128,256", show_default=True, help="Pixels, separated by commas.")
@click.option("--turns", type=click.IntRange(min=1), default=9, show_default=True)
def main(out: Path | None, sides: str, turns: int) -> None:
    """Write the table."""
    text = table(tuple(int(side) for side in sides.split(",")), turns)
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text)


if __name__ == "__main__":
    main()
