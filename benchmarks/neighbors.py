"""Compare KID and nearest-neighbor metrics with the peers on the same features: time, memory and values.

    python -m benchmarks.neighbors kid --num-images 10000
    python -m benchmarks.neighbors prdc --num-images 10000

The features are synthetic: positive, correlated, 2,048 wide. torch-fidelity computes KID over 100 subsets of
1,000, and precision and recall at k = 3. The plain recipe computes all four scores of PRDC by their
published definitions in NumPy, with the whole distance matrix in memory and closed balls (<=).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.timing import OUT, PeakMemory, machine, show, take_turns
from pgmetrics.metrics.feature_rows import FeatureMetric
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.prdc import PRDC
from pgmetrics.runtime.blocks import FeatureBlock
from pgmetrics.runtime.devices import pick_device
from pgmetrics.runtime.seeding import Stream, generator

WIDTH = 2048
BLOCK = 256

NUM = click.option(
    "--num-images", type=click.IntRange(min=1000), default=10_000, show_default=True, help="Per side."
)
TURNS = click.option("--turns", type=click.IntRange(min=1), default=3, show_default=True)
DEVICE = click.option("--device", default="cpu", show_default=True, help="Ours only.")

Values = tuple[float, ...]


@click.group()
def main() -> None:
    """Time, memory and values of KID and of precision, recall, density and coverage."""


def features(num_images: int, side: int) -> torch.Tensor:
    """Return positive and correlated features, like those of Inception: float32 [N, 2048]."""
    mixing = generator(0, Stream.SYNTHETIC, 10**6).standard_normal((64, WIDTH), np.float32) / 8
    rng = generator(0, Stream.SYNTHETIC, 10**6, side)
    rows = rng.standard_normal((num_images, 64), np.float32) @ mixing * (0.5 + 0.02 * side)
    rows += 0.2 + 0.2 * rng.standard_normal(rows.shape, np.float32)
    return torch.from_numpy(np.maximum(rows, 0))


def ours(metric: FeatureMetric, real: torch.Tensor, fake: torch.Tensor, device: str) -> Values:
    """Return value and error of each score, from states that are updated in blocks as in an evaluation."""
    states = []
    for side, rows in (("real", real), ("fake", fake)):
        state = metric.new_state(side, resolution=(32, 32))  # type: ignore[arg-type]
        for start in range(0, len(rows), BLOCK):
            state.update(FeatureBlock(start, rows[start : start + BLOCK].to(device)))
        states.append(state)
    estimates, _ = metric.compute(real=states[0], fake=states[1])
    if len(estimates) == 1:
        return estimates[0].value, estimates[0].stderr or 0.0
    return tuple(estimate.value for estimate in estimates)


def torch_fidelity_kid(real: torch.Tensor, fake: torch.Tensor) -> Values:
    """Return mean and standard deviation of KID over the default subsets of torch-fidelity."""
    from torch_fidelity.metric_kid import kid_features_to_metric

    found = kid_features_to_metric(fake, real, verbose=False)
    return found["kernel_inception_distance_mean"], found["kernel_inception_distance_std"]


def torch_fidelity_prc(real: torch.Tensor, fake: torch.Tensor) -> Values:
    """Return precision and recall at torch-fidelity's default k = 3."""
    from torch_fidelity.metric_prc import prc_features_to_metric

    found = prc_features_to_metric(fake, real, verbose=False)
    return found["precision"], found["recall"]


def plain_prdc(real: torch.Tensor, fake: torch.Tensor, k: int = 3) -> Values:
    """Return all four scores by their definitions, from whole distance matrices of float32 products."""
    x, y = real.numpy(), fake.numpy()

    def squared(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        lengths = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)
        distances: NDArray[np.float32] = lengths - 2 * (a @ b.T)
        return distances

    # Index k is the k-th neighbor, since index 0 is the point itself.
    around_real, around_fake = (np.partition(squared(a, a), k, axis=1)[:, k] for a in (x, y))
    between = squared(x, y)
    inside = between <= around_real[:, None]
    recall = (between <= around_fake).any(axis=1).mean()
    density = inside.sum(axis=0).mean() / k
    return float(inside.any(axis=0).mean()), float(recall), float(density), float(inside.any(axis=1).mean())


@main.command()
@NUM
@TURNS
@DEVICE
@OUT
def kid(num_images: int, turns: int, device: str, out: Path | None) -> None:
    """All pairs of images, and 100 subsets of 1,000 as torch-fidelity draws them."""
    real, fake = (features(num_images, side) for side in (0, 1))
    device = str(pick_device(device))
    subsets = KernelInceptionDistance(subsets=100, subset_size=1000, draws="torch-fidelity")
    runs: dict[str, Callable[[], Values]] = {
        "pgmetrics, 100 subsets of 1,000": lambda: ours(subsets, real, fake, device),
        "pgmetrics, all pairs": lambda: ours(KernelInceptionDistance(), real, fake, device),
        "torch-fidelity, 100 subsets of 1,000": lambda: torch_fidelity_kid(real, fake),
    }
    _table(runs, "KID, and its error or the subsets' deviation", num_images, turns, device, out)


@main.command()
@NUM
@TURNS
@DEVICE
@OUT
def prdc(num_images: int, turns: int, device: str, out: Path | None) -> None:
    """Precision, recall, density and coverage at k = 3."""
    real, fake = (features(num_images, side) for side in (0, 1))
    device = str(pick_device(device))
    runs: dict[str, Callable[[], Values]] = {
        "pgmetrics": lambda: ours(PRDC(k=3), real, fake, device),
        "torch-fidelity (precision and recall)": lambda: torch_fidelity_prc(real, fake),
        "plain recipe": lambda: plain_prdc(real, fake),
    }
    _table(runs, "precision, recall, density, coverage", num_images, turns, device, out)


def _table(
    runs: Mapping[str, Callable[[], Values]],
    values: str,
    num_images: int,
    turns: int,
    device: str,
    out: Path | None,
) -> None:
    """Print time, memory and values of every contestant, relative to the first one."""
    timings = take_turns(runs, turns=turns, warm_up=1)
    ours = next(iter(timings.values()))
    lines = [
        f"{num_images:,} rows of {WIDTH} features per side, ours on {device}. {machine()}.",
        "",
        f"| | seconds, median (min to max) | the first is faster by | peak anonymous memory | {values} |",
        "|:--|--:|--:|--:|:--|",
    ]
    for name, timing in timings.items():
        # Memory is measured in a separate run, since sampling it costs time.
        with PeakMemory() as peak:
            found = runs[name]()
        ratio = "" if timing is ours else f"{ours.times_faster_than(timing):.1f}"
        lines.append(
            f"| {name} | {timing.median:.2f} ({timing.fastest:.2f} to {timing.slowest:.2f}) | {ratio} | "
            f"{(peak.bytes or 0) / 1e9:.2f} GB | {' '.join(f'{value:.6g}' for value in found)} |"
        )
    show(lines, out)


if __name__ == "__main__":
    sys.exit(main())
