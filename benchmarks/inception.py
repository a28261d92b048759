"""Measure the Inception features: speed of each form, resizers, and precision.

    python -m benchmarks.inception forward
    python -m benchmarks.inception resize --data photos.zip --side 256
    python -m benchmarks.inception precision --data photos.zip

Without --weights the weights are random. Speeds are the same as with the published weights, but **scores are
not**. `benchmarks.peers` times the whole path from files to FID, compared with other tools.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.random_weights import write_inception
from benchmarks.timing import OUT, machine, show, take_turns
from pgmetrics.features.inception import SIDE, Inception, torch_fidelity_bilinear
from pgmetrics.features.preprocess import RESIZERS
from pgmetrics.functional.frechet import GaussianMoments, frechet_distance
from pgmetrics.runtime.threads import share_out
from pgmetrics.sources.loading import blocks
from pgmetrics.sources.resolve import open_source

WEIGHTS = click.option(
    "--weights", type=click.Path(path_type=Path, exists=True), help="[default: random, made on the fly]"
)
TURNS = click.option("--turns", type=click.IntRange(min=1), default=3, show_default=True)
DEVICE = click.option("--device", default="cpu", show_default=True)
DATA = click.option("--data", metavar="SOURCE", help="Images.  [default: procedural]")


@click.group()
def main() -> None:
    """Speed and agreement of Inception's features."""


def number(default: int) -> Callable[[Any], Any]:
    """Return the option --num-images with a default."""
    return click.option("--num-images", type=click.IntRange(min=2), default=default, show_default=True)


def pictures(data: str | None, num_images: int, side: int) -> NDArray[np.uint8]:
    """Return decoded images, photographs cropped to center squares: uint8 [N, 3, side, side]."""
    if data:
        source = open_source(data, resolution=side, resize="crop-box")
    else:
        source = open_source(f"synthetic:leaves,resolution={side},n={num_images},seed=0")
    return np.concatenate([pixels for _, pixels in blocks(source, np.arange(num_images), 64, workers=0)])


def network(weights: Path | None, **settings: str) -> Inception:
    """Return the extractor, with random weights if no file is given."""
    if weights is not None:
        return Inception(weights, allow_unverified=True, **settings)
    with tempfile.TemporaryDirectory() as folder:
        return Inception(write_inception(Path(folder) / "w.pth"), allow_unverified=True, **settings)


def prepared(extractor: Inception, device: str) -> Tensor:
    """Return one batch of images in the dtype and memory layout of the network."""
    shape = (extractor.length, 3, SIDE, SIDE)
    images = torch.linspace(-1, 1, int(np.prod(shape)), device=device).reshape(shape).to(extractor._dtype)
    plain = extractor.protocol["form"] == "plain"
    return images if plain else images.contiguous(memory_format=torch.channels_last)


def bare(extractor: Inception, num_images: int, device: str) -> Callable[[], object]:
    """Run only the forward pass of the network, with as many threads as the extractor uses."""
    images = prepared(extractor, device)

    def forward(_: int) -> Tensor:
        with torch.inference_mode():
            return extractor._run(images)

    forwards = range(-(-num_images // extractor.length))
    if extractor.protocol["form"] == "fast" and device == "cpu":
        return lambda: share_out(forward, forwards)
    return lambda: [forward(index) for index in forwards]


@main.command()
@number(64)
@WEIGHTS
@DEVICE
@TURNS
@click.option("--compiled/--no-compiled", default=False, help="torch.compile takes up to minutes to begin.")
@OUT
def forward(
    num_images: int, weights: Path | None, device: str, turns: int, compiled: bool, out: Path | None
) -> None:
    """Images per second of the bare network, each form and precision."""
    forms = [("plain", "float32"), ("fast", "float32"), ("fast", "bfloat16")]
    forms += [("compiled", "float32"), ("compiled", "bfloat16")] if compiled else []
    runs, first = {}, {}
    for form, precision in forms:
        extractor = network(weights, form=form, precision=precision)
        extractor.to(device)
        name = f"{form}, {precision}"
        started = time.perf_counter()
        bare(extractor, 1, device)()
        first[name] = time.perf_counter() - started
        runs[name] = bare(extractor, num_images, device)
    timings = take_turns(runs, turns=turns)
    lines = [f"{num_images} images of {SIDE}x{SIDE} on {device}. {machine()}.", ""]
    lines += ["| form | images/s | of plain | first forward, s |", "|:--|--:|--:|--:|"]
    for name, timing in timings.items():
        lines.append(
            f"| {name} | {num_images / timing.median:.1f} | "
            f"{timing.times_faster_than(timings['plain, float32']):.2f} | {first[name]:.1f} |"
        )
    show(lines, out)


def pillow_bicubic(pixels: Tensor, side: int) -> Tensor:
    """Resize with Pillow one channel at a time, as clean-fid does."""
    made = [
        np.asarray(Image.fromarray(plane.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))
        for image in pixels.numpy()
        for plane in image
    ]
    return torch.from_numpy(np.stack(made).clip(0, 255)).reshape(len(pixels), 3, side, side)


@main.command()
@number(64)
@click.option(
    "--side", type=click.IntRange(min=16), default=32, show_default=True, help="Of procedural images."
)
@DATA
@WEIGHTS
@TURNS
@OUT
def resize(
    num_images: int, side: int, data: str | None, weights: Path | None, turns: int, out: Path | None
) -> None:
    """Milliseconds an image, the distance from the original, and what it does to FID."""
    pixels = torch.from_numpy(pictures(data, num_images, side))
    originals = {"tf1-bilinear": torch_fidelity_bilinear, "pil-bicubic": pillow_bicubic}
    every = {**RESIZERS, **{f"{name}, original": original for name, original in originals.items()}}
    timings = take_turns(
        {name: lambda resizer=resizer: resizer(pixels, SIDE) for name, resizer in every.items()},  # type: ignore[misc]
        turns=turns,
    )
    extractor = network(weights)
    height, width = pixels.shape[2:]
    lines = [f"{num_images} images of {height}x{width} to {SIDE}x{SIDE}. {machine()}.", ""]
    lines += [
        "| resizer | ms an image | largest difference from the original, of 255 | change of FID, relative |",
        "|:--|--:|--:|--:|",
    ]
    for name, timing in timings.items():
        difference, effect = "", ""
        if name in originals:
            apart = RESIZERS[name](pixels, SIDE) - originals[name](pixels, SIDE)
            difference = f"{float(apart.abs().max()):.1e}"
            values = []
            for resizer in (RESIZERS[name], originals[name]):
                extractor._resize = resizer
                values.append(_fid_of_halves(extractor.extract(pixels, ["features"])["features"]))
            effect = f"{abs(values[0] / values[1] - 1):.1e}"
        lines.append(f"| {name} | {1e3 * timing.median / num_images:.2f} | {difference} | {effect} |")
    show(lines, out)


@main.command()
@number(256)
@click.option("--side", type=click.IntRange(min=16), default=64, show_default=True)
@DATA
@WEIGHTS
@click.option("--compiled/--no-compiled", default=False, help="torch.compile takes up to minutes to begin.")
@OUT
def precision(
    num_images: int, side: int, data: str | None, weights: Path | None, compiled: bool, out: Path | None
) -> None:
    """What each form and precision does to the score of one half of the images against the other."""
    pixels = torch.from_numpy(pictures(data, num_images, side))
    forms = [("plain", "float32"), ("fast", "float32"), ("fast", "bfloat16")]
    forms += [("compiled", "float32")] if compiled else []
    lines = [f"{num_images // 2} against {num_images // 2} images. {machine()}.", ""]
    lines += [
        "| form | features, relative error | FID | change of FID | FID of the same images to plain |",
        "|:--|--:|--:|--:|--:|",
    ]
    exact, reference = None, 0.0
    for form, kind in forms:
        made = network(weights, form=form, precision=kind).extract(pixels, ["features"])["features"].double()
        value = _fid_of_halves(made)
        if exact is None:
            exact, reference = made, value
        off = float((made - exact).norm() / exact.norm())
        lines.append(
            f"| {form}, {kind} | {off:.1e} | {value:.4f} | {value / reference - 1:+.1e} | "
            f"{_fid(exact, made):.1e} |"
        )
    show(lines, out)


def _fid_of_halves(features: Tensor) -> float:
    return _fid(*torch.tensor_split(features, 2))


def _fid(real: Tensor, fake: Tensor) -> float:
    """Return the Fréchet distance of two sets of features."""
    a, b = GaussianMoments.of(real), GaussianMoments.of(fake)
    return frechet_distance(a.mean, a.covariance(), b.mean, b.covariance())


if __name__ == "__main__":
    sys.exit(main())
