"""Time the verification of stored statistics: the digests alone, and as a share of reading and scoring.

python -m benchmarks.integrity
"""

from __future__ import annotations

import hashlib
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.timing import machine, take_turns
from pgmetrics.metrics.base import Metric, Side, State
from pgmetrics.metrics.frechet import FrechetDistance
from pgmetrics.metrics.kid import KernelInceptionDistance
from pgmetrics.metrics.swd import SlicedWasserstein
from pgmetrics.prepared.state_files import load_state, save_state
from pgmetrics.runtime.blocks import Block, FeatureBlock, plan
from pgmetrics.runtime.seeding import Stream, generator
from reference_models.progan.model import checkpoint
from reference_models.progan.model.checkpoint import Checkpoint
from reference_models.progan.model.layers import initialize
from reference_models.progan.model.networks import Generator
from reference_models.progan.model.presets import preset
from reference_models.progan.training import resume_state
from reference_models.progan.training.resume_state import TrainingState

METRICS: tuple[tuple[Metric, int], ...] = (
    (SlicedWasserstein(), 4096),
    (FrechetDistance(), 12_800),
    (KernelInceptionDistance(network="custom"), 12_800),
)
_WIDTH, _SIDE = 2048, 32
_DIGESTED = 2**28  # bytes
_HEADER = "checkpoint at 1024 x 1024, its header alone"


@click.command()
@click.option("--turns", default=5, show_default=True, help="Measured runs of each.")
def main(turns: int) -> None:
    """Print both tables."""
    columns = "| what is read | MB | reading, s | GB/s | its score, s | reading / both |"
    print(f"{machine()}\n\n| digest | GB/s, one thread |\n|---|--:|")
    content = generator(0, Stream.SYNTHETIC).integers(0, 256, _DIGESTED, dtype=np.uint8)
    digests: dict[str, Callable[[], object]] = {
        name: lambda name=name: hashlib.new(name, content) for name in ("sha256", "blake2b", "md5")
    }
    for name, timing in take_turns(digests | {"crc32": lambda: zlib.crc32(content)}, turns).items():
        print(f"| {name} | {content.nbytes / timing.median / 1e9:.2f} |")
    print(f"\n{columns}\n|---|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as directory:
        for metric, num_images in METRICS:
            print(_row(metric, num_images, Path(directory) / metric.name, turns))
        for row in _network_rows(Path(directory), turns):
            print(row)


def _row(metric: Metric, num_images: int, path: Path, turns: int) -> str:
    fake = _filled(metric, "fake", num_images)
    save_state(_filled(metric, "real", num_images), path)
    size = sum(file.stat().st_size for file in path.iterdir())
    reading = take_turns({"read": lambda: load_state(path, _fresh(metric, "real"))}, turns)["read"].median
    real = load_state(path, _fresh(metric, "real"))
    start = time.perf_counter()
    metric.compute(real=real, fake=fake)
    scoring = time.perf_counter() - start
    return (
        f"| {metric.name}, {num_images:,} images | {size / 1e6:,.0f} | {reading:.2f} "
        f"| {size / reading / 1e9:.2f} | {scoring:.1f} | {reading / (reading + scoring):.1%} |"
    )


def _fresh(metric: Metric, side: Side) -> State:
    return metric.new_state(side, resolution=(_SIDE, _SIDE), network="" if metric.tap is None else "random")


def _filled(metric: Metric, side: Side, num_images: int) -> State:
    filled, rng = _fresh(metric, side), generator(1, Stream.SYNTHETIC, len(side))
    for start, stop in plan(num_images, 256):
        if metric.tap is None:
            pixels = rng.integers(0, 256, (stop - start, 3, _SIDE, _SIDE), dtype=np.uint8)
            filled.update(Block(start, torch.from_numpy(pixels)))
        else:
            rows = rng.standard_normal((stop - start, _WIDTH), dtype=np.float32)
            filled.update(FeatureBlock(start, torch.from_numpy(rows)))
    return filled


def _network_rows(directory: Path, turns: int) -> list[str]:
    config = preset("celebahq-1024-v1")
    network = Generator(config)
    initialize(network, "generator", 0)
    facts = Checkpoint(
        config=config,
        images_shown=0,
        resolution=config.resolution,
        alpha=1.0,
        data_fingerprint="",
        licence="",
    )
    tensors = {
        f"{part}.{name}": value.clone() for part in "abcdefg" for name, value in network.state_dict().items()
    }
    files: dict[str, tuple[Path, Callable[[Path], object]]] = {
        _HEADER: (directory / "checkpoint", checkpoint.inspect),
        "checkpoint at 1024 x 1024": (directory / "checkpoint", checkpoint.load),
        "training state, seven such networks": (directory / "state", resume_state.load),
    }
    checkpoint.save(directory / "checkpoint", facts, network)
    resume_state.save(directory / "state", TrainingState(images_shown=0, skipped=0, tensors=tensors))
    rows = []
    for name, (path, read) in files.items():
        size, seconds = (
            path.stat().st_size,
            take_turns({name: lambda p=path, r=read: r(p)}, turns)[name].median,
        )
        # Only the header is read, a few kilobytes for a file of any size.
        rate = "" if name == _HEADER else f"{size / seconds / 1e9:.2f}"
        rows.append(f"| {name} | {size / 1e6:,.0f} | {seconds:.4f} | {rate} | | |")
    return rows


if __name__ == "__main__":
    main()
