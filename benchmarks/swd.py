"""Measure the sliced Wasserstein distance: speed against the plain recipe, speed by phase, and memory.

    python -m benchmarks.swd speed --side 128 --num-images 2048
    python -m benchmarks.swd speed --side 1024 --num-images 64
    python -m benchmarks.swd phases --side 128 --num-images 2048
    python -m benchmarks.swd memory --side 128 --num-images 16384

`speed` times both from uint8 images in memory to the value of every level, in turns, in one process. Each
gets the images in its native memory layout: channels first for the recipe, channels last, as decoders write
them, for pgmetrics. `memory` scores procedural images, decoded in workers, and samples the anonymous memory
of this process (Linux). With --max-memory it shows that the result does not depend on the limit.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import plain_recipe
from benchmarks.timing import OUT, PeakMemory, machine, show, take_turns
from pgmetrics import SlicedWasserstein, evaluate
from pgmetrics.functional.pyramid import level_sizes
from pgmetrics.runtime.blocks import Block, block_length, plan
from pgmetrics.runtime.devices import pick_device
from pgmetrics.runtime.seeding import Stream, generator
from pgmetrics.runtime.spill import DEFAULT_MAX_MEMORY
from pgmetrics.sources.loading import blocks
from pgmetrics.sources.resolve import open_source

SIDE = click.option("--side", type=click.IntRange(min=16), default=128, show_default=True)
NUM = click.option(
    "--num-images", type=click.IntRange(min=2), default=2048, show_default=True, help="Per side."
)
DEVICE = click.option("--device", default="cpu", show_default=True, help="Ours only; the recipe is NumPy.")


@click.group()
def main() -> None:
    """Speed, phases and memory of the sliced Wasserstein distance."""


def procedural(side: int, num_images: int, seed: int) -> NDArray[np.uint8]:
    """Return images of dead leaves, decoded before timing starts: uint8 [N, 3, side, side]."""
    source = open_source(f"synthetic:leaves,resolution={side},n={num_images},seed={seed}")
    return np.concatenate([pixels for _, pixels in blocks(source, np.arange(num_images), 64)])


def as_decoded(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the same images with channels last in memory, as decoders and ADM files store them."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def ours(real: NDArray[np.uint8], fake: NDArray[np.uint8], device: str, seed: int = 0) -> list[float]:
    """Return the values of all levels, computed with the states of an evaluation."""
    metric = SlicedWasserstein(num_images=len(real))
    states = []
    for side, images in (("real", real), ("fake", fake)):
        state = metric.new_state(side, resolution=images.shape[2:], seed=seed)  # type: ignore[arg-type]
        for start, stop in plan(len(images), block_length(images.shape[2])):
            state.update(Block(start, torch.from_numpy(images[start:stop]).to(device)))
        states.append(state)
    estimates, _ = metric.compute(real=states[0], fake=states[1])
    return [estimate.value for estimate in estimates if estimate.level is not None]


def plain(real: NDArray[np.uint8], fake: NDArray[np.uint8], seed: int = 0) -> list[float]:
    """Return the values of all levels by the plain recipe, with its own random draws."""
    rng = generator(seed, Stream.PATCHES, 10**6)
    centers = plain_recipe.drawn_centers(rng)
    return plain_recipe.swd(real, fake, centers, centers, plain_recipe.drawn_directions(rng))


@main.command()
@SIDE
@NUM
@DEVICE
@click.option("--turns", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--plain/--no-plain", "with_plain", default=True, help="Leave the recipe out.")
@OUT
def speed(side: int, num_images: int, device: str, turns: int, with_plain: bool, out: Path | None) -> None:
    """End to end from bytes in memory; the median of alternating turns."""
    real, fake = (procedural(side, num_images, seed) for seed in (0, 1))
    decoded = as_decoded(real), as_decoded(fake)
    device = str(pick_device(device))
    runs: dict[str, Callable[[], list[float]]] = {"pgmetrics": lambda: ours(*decoded, device)}
    if with_plain:
        runs["plain recipe"] = lambda: plain(real, fake)
    timings = take_turns(runs, turns=turns, warm_up=1)
    values, peaks = {}, {}
    for name, run in runs.items():
        # Memory is measured in a separate run, since sampling it costs time.
        with PeakMemory() as peak:
            values[name] = run()
        peaks[name] = peak.bytes or 0
    levels = " ".join(str(height) for height, _ in level_sizes(side, side))
    lines = [
        f"{num_images:,} images of {side}x{side} per side, levels {levels}, 512 directions, on {device}. "
        f"{machine()}.",
        "",
        "| | seconds, median (min to max) | ratio | peak anonymous memory | SWD ×10³ per level |",
        "|:--|--:|--:|--:|:--|",
    ]
    slowest = timings.get("plain recipe", timings["pgmetrics"]).median
    for name, timing in timings.items():
        lines.append(
            f"| {name} | {timing.median:.2f} ({timing.fastest:.2f} to {max(timing.seconds):.2f}) | "
            f"{slowest / timing.median:.1f} | {peaks[name] / 1e9:.2f} GB | "
            + " ".join(f"{1e3 * value:.2f}" for value in values[name])
            + " |"
        )
    show(lines, out)


@main.command()
@SIDE
@NUM
@DEVICE
@OUT
def phases(side: int, num_images: int, device: str, out: Path | None) -> None:
    """Images per second of each phase of ours, the second of two runs."""
    from pgmetrics.functional import patches, pyramid, sliced_wasserstein
    from pgmetrics.metrics import swd

    seconds: dict[str, float] = defaultdict(float)

    def timed(name: str, function: object) -> object:
        def call(*arguments: object) -> object:
            started = time.perf_counter()
            made = function(*arguments)  # type: ignore[operator]
            if device != "cpu":
                torch.cuda.synchronize()
            seconds[name] += time.perf_counter() - started
            return made

        return call

    swd.laplacian_pyramid = timed("pyramid", pyramid.laplacian_pyramid)  # type: ignore[assignment]
    swd.gather_patches = timed("patches", patches.gather_patches)  # type: ignore[assignment]
    swd.channel_moments = timed("statistics", patches.channel_moments)  # type: ignore[assignment]
    swd.patch_corners = timed("random corners", swd.patch_corners)  # type: ignore[assignment]
    swd.sliced_wasserstein = timed("distance", sliced_wasserstein.sliced_wasserstein)  # type: ignore[assignment]
    device = str(pick_device(device))
    real, fake = (as_decoded(procedural(side, num_images, seed)) for seed in (0, 1))
    for _ in range(2):
        seconds.clear()
        started = time.perf_counter()
        ours(real, fake, device)
        total = time.perf_counter() - started
    lines = [f"{num_images:,} images of {side}x{side} per side on {device}. {machine()}.", ""]
    lines += ["| phase | seconds, summed over threads | images/s |", "|:--|--:|--:|"]
    for name, spent in [*seconds.items(), ("all, on the clock", total)]:
        lines.append(f"| {name} | {spent:.2f} | {2 * num_images / spent:,.0f} |")
    show(lines, out)


@main.command()
@SIDE
@NUM
@DEVICE
@click.option(
    "--max-memory", "bounds", type=int, multiple=True, help="Bytes; repeat to compare.  [default: 3 GiB]"
)
@click.option("--workers", type=click.IntRange(min=0), help="Decoding processes.")
@OUT
def memory(
    side: int, num_images: int, device: str, bounds: tuple[int, ...], workers: int | None, out: Path | None
) -> None:
    """Peak anonymous memory above the interpreter's, procedural images decoded in workers."""
    names = [f"synthetic:leaves,resolution={side},n={num_images},seed={seed}" for seed in (0, 1)]
    lines = [f"{num_images:,} procedural images of {side}x{side} per side on {device}. {machine()}.", ""]
    lines += [
        "| --max-memory | peak anonymous memory | spilled | seconds | SWD ×10³ average |",
        "|--:|--:|--:|--:|--:|",
    ]
    for bound in bounds or (DEFAULT_MAX_MEMORY,):
        with PeakMemory() as peak:
            found = evaluate(
                *names, ["swd"], num_images=num_images, device=device, max_memory=bound, workers=workers
            )
        lines.append(
            f"| {bound / 2**20:,.0f} MiB | {(peak.bytes or 0) / 1e9:.2f} GB | "
            f"{found.provenance['spilled_bytes'] / 1e9:.2f} GB | {found.provenance['seconds']:.0f} | "
            f"{1e3 * found.rows[-1]['value']!r} |"
        )
    show(lines, out)


if __name__ == "__main__":
    sys.exit(main())
