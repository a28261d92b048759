"""Time the Fréchet distance of pgmetrics and its peers, and measure the error of each.

    python -m benchmarks.frechet distance
    python -m benchmarks.frechet distance --num-images 1000
    python -m benchmarks.frechet error
    python -m benchmarks.frechet moments

`distance` times the computation from statistics to the distance, in turns. The reference value comes from the
singular values of the product of the triangular factors of both sets, without a covariance. `error` times the
whole `compute` of FID with its jackknife. Features are synthetic: ReLU of Gaussians whose variances fall like
1 / k. Peers that are not installed are left out, and the table says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.timing import OUT, machine, show, take_turns
from pgmetrics.functional.frechet import GaussianMoments, frechet_distance
from pgmetrics.metrics.base import State
from pgmetrics.metrics.frechet import FrechetInceptionDistance
from pgmetrics.runtime.blocks import FeatureBlock
from pgmetrics.runtime.seeding import Stream, generator

Array = NDArray[np.float64]
Run = Callable[[], float]

WIDTH = click.option("--width", type=click.IntRange(min=2), default=2048, show_default=True, help="Features.")
NUM = click.option(
    "--num-images", type=click.IntRange(min=2), default=10_000, show_default=True, help="Per side."
)
TURNS = click.option("--turns", type=click.IntRange(min=1), default=3, show_default=True)


@click.group()
def main() -> None:
    """Speed and accuracy of the Fréchet distance."""


def features(num_images: int, width: int, seed: int) -> Array:
    """Return ReLU of correlated Gaussians whose variances fall like 1 / k, rounded to float32."""
    frame, _ = np.linalg.qr(generator(0, Stream.SYNTHETIC, width).standard_normal((width, width)))
    drawn = generator(seed, Stream.SYNTHETIC, width, 1).standard_normal((num_images, width))
    rows = (drawn * np.arange(1.0, width + 1) ** -0.5) @ frame * 10
    return np.maximum(rows + 0.1 * seed, 0).astype(np.float32).astype(np.float64)


def truth(real: Array, fake: Array) -> float:
    """Return the reference distance, from singular values of the product of triangular factors."""
    triangles = []
    for rows in (real, fake):
        triangles.append(np.linalg.qr((rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1), mode="r"))
    common = np.linalg.svd(triangles[0] @ triangles[1].T, compute_uv=False).sum()
    apart = ((real.mean(axis=0) - fake.mean(axis=0)) ** 2).sum()
    return float(apart + sum((triangle**2).sum() for triangle in triangles) - 2 * common)


def contestants(mean_a: Array, cov_a: Array, mean_b: Array, cov_b: Array) -> tuple[dict[str, Run], list[str]]:
    """Return the installed contestants on the same statistics, and the names of the missing ones."""
    tensors = [torch.from_numpy(x) for x in (mean_a, cov_a, mean_b, cov_b)]

    def torch_fidelity() -> Run:
        function = import_module("torch_fidelity.metric_fid").fid_statistics_to_metric
        stats: list[dict[str, Any]] = [{"mu": mean_a, "sigma": cov_a}, {"mu": mean_b, "sigma": cov_b}]
        return lambda: float(function(*stats, verbose=False)["frechet_inception_distance"])

    def torchmetrics() -> Run:
        function = import_module("torchmetrics.image.fid")._compute_fid
        return lambda: float(function(*tensors))

    def sqrtm() -> Run:
        function = import_module("scipy.linalg").sqrtm

        def run() -> float:
            common = np.trace(function(cov_a @ cov_b)).real
            return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * common)

        return run

    found: dict[str, Run] = {"pgmetrics": lambda: frechet_distance(*tensors)}
    absent = []
    peers = {
        "torch-fidelity (eigvals)": torch_fidelity,
        "torchmetrics (eigvals)": torchmetrics,
        "SciPy sqrtm (as pytorch-fid, clean-fid)": sqrtm,
    }
    for name, make in peers.items():
        try:
            found[name] = make()
        except ImportError:
            absent.append(name)
    return found, absent


@main.command()
@WIDTH
@NUM
@TURNS
@OUT
def distance(width: int, num_images: int, turns: int, out: Path | None) -> None:
    """Statistics in, number out: time, error, and the distance of a set to itself."""
    real, fake = features(num_images, width, 1), features(num_images, width, 2)
    (mean_a, cov_a), (mean_b, cov_b) = ((x.mean(axis=0), np.cov(x, rowvar=False)) for x in (real, fake))
    runs, absent = contestants(mean_a, cov_a, mean_b, cov_b)
    expected = truth(real, fake)
    timings = take_turns(runs, turns=turns, warm_up=1)
    to_itself, _ = contestants(mean_a, cov_a, mean_a, cov_a)
    ours = timings["pgmetrics"]
    lines = [
        f"{num_images:,} rows of {width:,} features per side; {expected:.6f} by singular values of the rows; "
        f"{machine()}.",
        "",
        "| | seconds, median (min to max) | our time in theirs | relative error | a set with itself |",
        "|:--|--:|--:|--:|--:|",
    ]
    for name, run in runs.items():
        timing = timings[name]
        share = "" if timing is ours else f"{1 / ours.times_faster_than(timing):.2f}"
        lines.append(
            f"| {name} | {timing.median:.2f} ({timing.fastest:.2f} to {timing.slowest:.2f}) | {share} | "
            f"{abs(run() / expected - 1):.0e} | {to_itself[name]():.0e} |"
        )
    lines += [f"| {name} | not installed | | | |" for name in absent]
    show(lines, out)


def state(rows: Array, side: Any, block: int) -> State:
    """Return a state after all rows, added `block` at a time."""
    made = FrechetInceptionDistance().new_state(side, resolution=(256, 256))
    for start in range(0, len(rows), block):
        made.update(FeatureBlock(start, torch.from_numpy(rows[start : start + block]).float()))
    return made


@main.command()
@WIDTH
@click.option(
    "--num-images", "counts", type=click.IntRange(min=320), multiple=True, default=(1000, 2500),
    show_default=True, help="Per side; repeat to compare.",
)  # fmt: skip
@TURNS
@OUT
def error(width: int, counts: tuple[int, ...], turns: int, out: Path | None) -> None:
    """The whole compute of FID: value, its error over images and its bias, from 20 distances more."""
    metrics = {
        "value alone": FrechetInceptionDistance(groups=1),
        "with its error": FrechetInceptionDistance(),
    }
    lines = [f"{width:,} features. {machine()}.", ""]
    lines += ["| images per side | | seconds, median (min to max) | fid | bias |", "|--:|:--|--:|--:|--:|"]
    for num_images in counts:
        sides = {}
        for name, metric in metrics.items():
            pair = []
            for side, seed in (("real", 1), ("fake", 2)):
                made = metric.new_state(side, resolution=(256, 256))  # type: ignore[arg-type]
                made.update(FeatureBlock(0, torch.from_numpy(features(num_images, width, seed)).float()))
                pair.append(made)
            sides[name] = pair
        runs = {
            name: (lambda metric=metric, pair=sides[name]: metric.compute(real=pair[0], fake=pair[1])[0])
            for name, metric in metrics.items()
        }
        for name, timing in take_turns(runs, turns=turns, warm_up=0).items():
            first, *rest = runs[name]()
            stderr = "" if first.stderr is None else f" ± {first.stderr:.3f}"
            bias = f"{rest[0].value:.3f}" if rest else ""
            lines.append(
                f"| {num_images:,} | {name} | {timing.median:.2f} ({timing.fastest:.2f} to "
                f"{timing.slowest:.2f}) | {first.value:.3f}{stderr} | {bias} |"
            )
    show(lines, out)


@main.command()
@WIDTH
@TURNS
@OUT
def moments(width: int, turns: int, out: Path | None) -> None:
    """Taking features in: milliseconds per image, by the images of a block."""
    rows = features(1024, width, 1)
    batch = torch.from_numpy(rows).float()
    runs: dict[str, Callable[[], object]] = {
        f"a state of 10 groups, blocks of {block}": lambda block=block: state(rows, "fake", block)  # type: ignore[misc]
        for block in (8, 64, 256)
    }
    runs["all rows at once, one group"] = lambda: GaussianMoments.of(batch)
    lines = [f"1,024 rows of {width:,} features. {machine()}.", ""]
    lines += ["| | ms per image, median (min to max) |", "|:--|--:|"]
    for name, timing in take_turns(runs, turns=turns, warm_up=1).items():
        median, low, high = (1000 * t / len(rows) for t in (timing.median, timing.fastest, timing.slowest))
        lines.append(f"| {name} | {median:.2f} ({low:.2f} to {high:.2f}) |")
    show(lines, out)


if __name__ == "__main__":
    sys.exit(main())
