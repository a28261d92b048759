"""Inception's features: speed of each form, the whole FID path against the peers, resizers, precision.

    python -m benchmarks.inception forward
    python -m benchmarks.inception fid --num-images 64
    python -m benchmarks.inception resize --data photos.zip --side 256
    python -m benchmarks.inception precision --data photos.zip

Without --weights the weights are random: speeds are what they are with the published file, **scores are
not**; tools agree or differ on them all the same. `fid` needs the peers: torch-fidelity, pytorch-fid,
clean-fid and torchmetrics; one that is not installed is left out.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import pgmetrics
from benchmarks.random_weights import write_inception
from benchmarks.timing import machine, take_turns
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
OUT = click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Also write the table here."
)
DATA = click.option("--data", metavar="SOURCE", help="Images.  [default: procedural]")


@click.group()
def main() -> None:
    """Speed and agreement of Inception's features."""


def number(default: int) -> Callable[[Any], Any]:
    """The option --num-images."""
    return click.option("--num-images", type=click.IntRange(min=2), default=default, show_default=True)


def pictures(data: str | None, num_images: int, side: int) -> NDArray[np.uint8]:
    """Decoded images, photographs as center squares: uint8 [N, 3, side, side]."""
    if data:
        source = open_source(data, resolution=side, resize="crop-box")
    else:
        source = open_source(f"synthetic:leaves,resolution={side},n={num_images},seed=0")
    return np.concatenate([pixels for _, pixels in blocks(source, np.arange(num_images), 64, workers=0)])


def network(weights: Path | None, **settings: str) -> Inception:
    """The extractor; random weights where none are given."""
    if weights is not None:
        return Inception(weights, allow_unverified=True, **settings)
    with tempfile.TemporaryDirectory() as folder:
        return Inception(write_inception(Path(folder) / "w.pth"), allow_unverified=True, **settings)


def prepared(extractor: Inception, device: str) -> Tensor:
    """A forward's worth of images as the network itself is fed."""
    shape = (extractor.length, 3, SIDE, SIDE)
    images = torch.linspace(-1, 1, int(np.prod(shape)), device=device).reshape(shape).to(extractor._dtype)
    plain = extractor.protocol["form"] == "plain"
    return images if plain else images.contiguous(memory_format=torch.channels_last)


def bare(extractor: Inception, num_images: int, device: str) -> Callable[[], object]:
    """The network's forward alone, as many threads as the extractor uses."""
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
    _tell(lines, out)


@main.command()
@number(64)
@click.option("--side", type=click.IntRange(min=16), default=64, show_default=True)
@click.option("--peer", "peers", multiple=True, help="none, or one by name; repeat for more.  [default: all]")
@WEIGHTS
@TURNS
@OUT
def fid(
    num_images: int, side: int, peers: tuple[str, ...], weights: Path | None, turns: int, out: Path | None
) -> None:
    """FID of two directories of PNGs with 2 workers: us, the bare network, and the peers."""
    unknown = set(peers) - {*PEERS, "none"}
    if unknown:
        raise click.UsageError(f"no peer is called {', '.join(unknown)}; there are {', '.join(PEERS)}")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        file = weights or write_inception(place / "weights.pth")
        folders = []
        for index, images in enumerate(np.split(pictures(None, 2 * num_images, side), 2)):
            folder = place / f"set{index}"
            folder.mkdir()
            for at, image in enumerate(images):
                # The second set is darker, so that there is a distance to agree on.
                shown = (image.transpose(1, 2, 0) * (1 - 0.3 * index)).astype(np.uint8)
                Image.fromarray(shown).save(folder / f"{at:05d}.png")
            folders.append(folder)
        # What is loaded, compiled and first allocated by a first call is no cost of an image.
        few = place / "few"
        few.mkdir()
        for file_of_one in sorted(folders[0].iterdir())[:32]:
            shutil.copy(file_of_one, few)
        ours([few, few], file)
        runs: dict[str, Callable[[], object]] = {
            "bare network": bare(network(file), 2 * num_images, "cpu"),
            "decoding alone": lambda: decoded(folders),
            "pgmetrics": lambda: ours(folders, file),
            "pgmetrics, without its error": lambda: ours(folders, file, groups=1),
        }
        resizers = {"pgmetrics": "tf1-bilinear", "pgmetrics, without its error": "tf1-bilinear"}
        for peer, (run, resizer) in PEERS.items():
            if peers and peer not in peers:
                continue
            try:
                run([few, few], file)
            except ImportError:
                click.echo(f"{peer} is not installed", err=True)
                continue
            runs[peer], resizers[peer] = (lambda run=run: run(folders, file)), resizer  # type: ignore[misc]
        scores: dict[str, Any] = {}

        def keeping(who: str) -> Callable[[], object]:
            def run() -> None:
                try:
                    scores[who] = runs[who]()
                except ValueError as error:
                    # pytorch-fid gives up if its matrix root is not real, when all else is done.
                    if who not in PEERS:
                        raise
                    scores[who] = error

            return run

        timings = take_turns({who: keeping(who) for who in runs}, turns=turns, warm_up=0)
        rows = []
        for who, timing in timings.items():
            score, same = "", ""
            if who in resizers:
                value = scores[who]
                if isinstance(value, ValueError):
                    score = f"none: {value}"
                else:
                    same_resizer = resizers[who] == resizers["pgmetrics"]
                    mine = scores["pgmetrics"] if same_resizer else ours(folders, file, resizers[who])
                    score, same = f"{value:.6f}", f"{abs(mine / value - 1):.1e}"
            rows.append(
                f"| {who} | {2 * num_images / timing.median:.1f} | "
                f"{timing.times_faster_than(timings['bare network']):.2f} | {score} | {same} |"
            )
    lines = [f"2 x {num_images} PNGs of {side}x{side}, random weights. {machine()}.", ""]
    lines += [
        "| | images/s | of the bare network | FID | ours with the same resizer, relative difference |",
        "|:--|--:|--:|--:|--:|",
    ]
    _tell(lines + rows, out)


def decoded(folders: list[Path], workers: int = 2) -> int:
    """How many images the folders hold, all of them decoded in blocks of 64."""
    count = 0
    for folder in folders:
        source = open_source(str(folder))
        count += sum(len(pixels) for _, pixels in blocks(source, np.arange(len(source)), 64, workers=workers))
    return count


def ours(folders: list[Path], file: Path, resizer: str = "tf1-bilinear", groups: int = 10) -> float:
    """FID by `pgmetrics.evaluate`, with the error that so many groups of images tell."""
    values = "2x/255-1" if resizer == "torch-bilinear" else "(x-128)/128"
    extractor = Inception(file, allow_unverified=True, resizer=resizer, values=values)
    metric = pgmetrics.FrechetInceptionDistance(groups=groups)
    found = pgmetrics.evaluate(
        str(folders[0]), str(folders[1]), [metric], networks={"inception": extractor}, workers=2
    )
    return float(next(row["value"] for row in found.rows if row["metric"] == "fid"))


def torch_fidelity(folders: list[Path], file: Path) -> float:
    """FID by torch-fidelity."""
    import torch_fidelity as peer

    options = {"cuda": False, "cache": False, "verbose": False, "batch_size": 32}
    real, fake = map(str, folders)
    found = peer.calculate_metrics(
        input1=fake, input2=real, fid=True, feature_extractor_weights_path=str(file), **options
    )
    return float(found["frechet_inception_distance"])


def _state(file: Path) -> Callable[..., Mapping[str, Tensor]]:
    return lambda *_, **__: torch.load(file, weights_only=True)


def pytorch_fid(folders: list[Path], file: Path) -> float:
    """FID by pytorch-fid, its download replaced by a local file."""
    from pytorch_fid import fid_score

    with mock.patch("pytorch_fid.inception.load_state_dict_from_url", _state(file)):
        value = fid_score.calculate_fid_given_paths(list(map(str, folders)), 32, "cpu", 2048, num_workers=2)
    return float(value)


def clean_fid(folders: list[Path], file: Path) -> float:
    """FID by clean-fid in its mode "clean", the same layers in place of its TorchScript file."""
    from cleanfid import fid as peer
    from cleanfid.resize import build_resizer  # noqa: F401 - absent: not installed
    from pytorch_fid.inception import InceptionV3

    with mock.patch("pytorch_fid.inception.load_state_dict_from_url", _state(file)):
        layers = InceptionV3([3], resize_input=False, normalize_input=False).eval()

    def model(images: Tensor) -> Tensor:
        with torch.no_grad():
            features: Tensor = layers((images - 128) / 128)[0].flatten(1)
        return features

    with mock.patch.object(peer, "build_feature_extractor", return_value=model):
        value = peer.compute_fid(
            str(folders[1]),
            str(folders[0]),
            mode="clean",
            device=torch.device("cpu"),
            num_workers=2,
            verbose=False,
            use_dataparallel=False,
        )
    return float(value)


def torchmetrics(
    folders: list[Path], file: Path, layout: torch.memory_format = torch.contiguous_format
) -> float:
    """FID by torchmetrics, images decoded here in batches and laid out as torchvision's transforms do."""
    from torchmetrics.image import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature_extractor_weights_path=str(file))
    for folder, real in zip(folders, (True, False), strict=True):
        paths = sorted(folder.iterdir())
        for start in range(0, len(paths), 32):
            batch = np.stack([np.asarray(Image.open(path)) for path in paths[start : start + 32]])
            pixels = torch.from_numpy(batch).permute(0, 3, 1, 2)
            metric.update(pixels.contiguous(memory_format=layout), real=real)
    return float(metric.compute())


PEERS: dict[str, tuple[Callable[[list[Path], Path], float], str]] = {
    "torch-fidelity": (torch_fidelity, "tf1-bilinear"),
    "torchmetrics": (torchmetrics, "torch-bilinear-antialias"),
    "torchmetrics, fed channels-last": (
        partial(torchmetrics, layout=torch.channels_last),
        "torch-bilinear-antialias",
    ),
    "pytorch-fid": (pytorch_fid, "torch-bilinear"),
    "clean-fid": (clean_fid, "pil-bicubic"),
}
"""Each peer's FID of two folders, and what it resizes with."""


def pillow_bicubic(pixels: Tensor, side: int) -> Tensor:
    """Pillow itself, a channel at a time, as clean-fid uses it."""
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
    _tell(lines, out)


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
    _tell(lines, out)


def _fid_of_halves(features: Tensor) -> float:
    return _fid(*torch.tensor_split(features, 2))


def _fid(real: Tensor, fake: Tensor) -> float:
    """The Fréchet distance of two sets of rows."""
    a, b = GaussianMoments.of(real), GaussianMoments.of(fake)
    return frechet_distance(a.mean, a.covariance(), b.mean, b.covariance())


def _tell(lines: list[str], out: Path | None) -> None:
    text = "\n".join(lines) + "\n"
    click.echo(text, nl=False)
    if out is not None:
        out.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
